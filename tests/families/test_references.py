"""Tensors of torchvision's own models load and give torchvision's own logits."""

from collections.abc import Callable, Mapping
from typing import Any

import pluggy
import pytest
import torch
from torchvision import models

HooksOf = Callable[[str], pluggy.HookRelay]
# torchvision builds the published weights of these two with the input transform and all auxiliary heads.
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "googlenet": {"transform_input": True, "aux_logits": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "aux_logits": True, "init_weights": False},
}
SMALL = {
    "zoo_resnet": ("resnet18",),
    "zoo_inception": ("googlenet", "inception_v3"),
    "zoo_efficientnet": ("efficientnet_b0",),
}
BIG = {
    "zoo_resnet": ("resnet50", "resnext50_32x4d", "wide_resnet50_2"),
    "zoo_vgg": ("vgg11", "vgg13_bn"),
    "zoo_efficientnet": ("efficientnet_b5", "efficientnet_v2_s"),
}
NAMES = [
    *(pytest.param(module, name, id=name) for module, names in SMALL.items() for name in names),
    *(pytest.param(module, n, id=n, marks=pytest.mark.slow) for module, names in BIG.items() for n in names),
]


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_torchvision_tensors_give_torchvision_logits(module: str, name: str, hooks_of: HooksOf) -> None:
    hooks = hooks_of(module)
    architecture = next(a for a in hooks.zoo_architectures() if a.name == name)
    torch.manual_seed(1)
    reference = models.get_model(name, weights=None, num_classes=5, **PUBLISHED.get(name, {})).eval()
    model = hooks.zoo_build_model(
        architecture=architecture, num_classes=5, in_channels=3, options=architecture.parse_options({})
    ).eval()
    imported = hooks.zoo_import_state(architecture=architecture, model=model, state=reference.state_dict())
    model.load_state_dict(imported)
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(model(x), reference(x))
    exported = hooks.zoo_export_state(architecture=architecture, model=model)
    assert set(exported) == set(reference.state_dict())


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_defaults_are_torchvisions(module: str, name: str, hooks_of: HooksOf) -> None:
    hooks = hooks_of(module)
    architecture = next(a for a in hooks.zoo_architectures() if a.name == name)
    model = hooks.zoo_build_model(
        architecture=architecture, num_classes=5, in_channels=3, options=architecture.parse_options({})
    )
    reference = models.get_model(name, weights=None, num_classes=5, **PUBLISHED.get(name, {}))
    assert _rates(model) == _rates(reference)


def _rates(model: torch.nn.Module) -> list[float]:
    return [layer.p for layer in model.modules() if hasattr(layer, "p")]
