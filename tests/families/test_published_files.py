"""Whole checkpoint files as the training scripts of torchvision and timm write them, through zoo's own door."""

import argparse
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.utils import CheckpointSaver, ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torchvision import models

from zoo.architecture import Weights
from zoo.models import Model, build_model, request_model
from zoo.plugins import Plugins
from zoo.registry import load_registry
from zoo.weights import resolve_weights
from zoo.weights.download import incoming_path


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    return Plugins(load_registry(working_folder=tmp_path))


def _changed(model: nn.Module) -> nn.Module:
    """The same model with other values, as the averaged weights of a training are."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    return model


def _plain(model: nn.Module, path: Path) -> nn.Module:
    torch.save(model.state_dict(), path)
    return model


def _safetensors(model: nn.Module, path: Path) -> nn.Module:
    save_file(model.state_dict(), path, metadata={"format": "pt"})
    return model


def _parallel(model: nn.Module, path: Path) -> nn.Module:
    torch.save({"state_dict": nn.DataParallel(model).state_dict(), "best_acc1": torch.tensor(3.0)}, path)
    return model


def _compiled(model: nn.Module, path: Path) -> nn.Module:
    torch.save({"model": torch.compile(model).state_dict()}, path)
    return model


def _torchvision_script(model: nn.Module, path: Path) -> nn.Module:
    """As references/classification/train.py of torchvision does with ``--model-ema``."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    averaged = AveragedModel(model, use_buffers=True)
    _changed(averaged)
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1).state_dict(),
        "epoch": 3,
        "args": argparse.Namespace(model="resnet18", lr=0.1),
        "model_ema": averaged.state_dict(),
    }
    torch.save(content, path)
    return averaged.module


def _timm_script(model: nn.Module, path: Path) -> nn.Module:
    """As train.py of timm does with ``--model-ema``."""
    averaged = ModelEmaV3(model)
    _changed(averaged)
    saver = CheckpointSaver(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        args=argparse.Namespace(model="resnet18"),
        model_ema=averaged,
        checkpoint_dir=str(path.parent),
    )
    saver._save(str(path), epoch=3)
    return averaged.module


LAYOUTS: list[Callable[[nn.Module, Path], nn.Module]] = [
    _plain,
    _safetensors,
    _parallel,
    _compiled,
    _torchvision_script,
    _timm_script,
]
FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "resnet/resnet18": lambda: models.resnet18(num_classes=5),
    "efficientnet/efficientnet_b0": lambda: models.efficientnet_b0(num_classes=5),
    "inception/googlenet": lambda: models.googlenet(
        num_classes=5, transform_input=True, aux_logits=True, init_weights=False
    ),
    "timm/resnet18": lambda: timm.create_model("resnet18", num_classes=5),
}


def _load(plugins: Plugins, name: str, path: Path, **settings: Any) -> Model:
    request = request_model(plugins, name, weights=path)
    return build_model(plugins, request, **{"num_classes": 5, "allow_pth": True, **settings})


# Every layout with one model of each library, and for the other families those that differ most.
CASES = [
    (name, layout)
    for name in FAMILIES
    for layout in (LAYOUTS if name.endswith("resnet18") else (_plain, _safetensors, _torchvision_script))
]


@pytest.mark.parametrize(
    ("name", "layout"), CASES, ids=[f"{name}-{layout.__name__.strip('_')}" for name, layout in CASES]
)
def test_a_file_as_it_is_published_loads_with_equal_logits(
    plugins: Plugins, name: str, layout: Callable[[nn.Module, Path], nn.Module], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    path = tmp_path / ("x.safetensors" if layout is _safetensors else "x.pth")
    published = layout(FAMILIES[name]().eval(), path).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = published(x)
        for _ in range(2):  # from the file, and from the cache
            found = _load(plugins, name, path)
            assert torch.equal(found.module(x), expected)
            assert found.loaded.loaded == len(found.module.state_dict())
    other = _load(plugins, name, path, num_classes=3)
    assert other.module(x).shape == (1, 3)
    assert other.loaded.dropped


def test_a_published_tag_loads_with_equal_tensors(plugins: Plugins, tmp_path: Path) -> None:
    """The file, put where a download would go, under the name and the hash of its facts."""
    model = models.resnet18(num_classes=5)
    torch.save(model.state_dict(), tmp_path / "x.pth")
    digest = hashlib.sha256((tmp_path / "x.pth").read_bytes()).hexdigest()
    url = f"https://example.invalid/resnet18-{digest[:8]}.pth"
    weights = Weights(tag="v9", url=url, sha256_prefix=digest[:8], num_classes=5)
    architecture = replace(plugins.resolve("resnet/resnet18").architecture, weights=(weights,))
    by_hand = incoming_path(architecture, weights)
    by_hand.parent.mkdir(parents=True)
    (tmp_path / "x.pth").rename(by_hand)
    source, state = resolve_weights(architecture, "v9", offline=True)
    assert (source.kind, source.sha256, source.finite) == ("tag", digest, True)
    assert state is not None
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
