"""Checkpoints in torchvision's published layouts, loaded by zoo's own door into models of other sizes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

import zoo
from zoo.chain import Chain
from zoo.errors import UsageError
from zoo.plugins import Plugins
from zoo.registry import load_registry
from zoo.weights.loading import build

PUBLISHED: dict[str, dict[str, Any]] = {
    "resnet18": {},
    "efficientnet_b0": {},
    "googlenet": {"transform_input": True, "aux_logits": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "aux_logits": True, "init_weights": False},
}


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    return Plugins(load_registry(working_folder=tmp_path))


def _reference(name: str, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = models.get_model(name, weights=None, num_classes=5, **{**PUBLISHED[name], **changes})
    return model.eval()


def _build(plugins: Plugins, name: str, state: dict[str, Tensor], **changes: Any) -> tuple[nn.Module, Chain, Any]:
    architecture = plugins.resolve(name).architecture
    hooks = plugins.hooks(architecture.plugin)
    options = architecture.parse_options(changes.pop("options", {}))
    sizes = {"num_classes": 5, "in_channels": 3, **changes}
    model, report = build(hooks, architecture, options=options, state=dict(state), seed=0, **sizes)
    return model, Chain(model, hooks.stages(architecture, model)), report


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_layout_loads_with_equal_logits(plugins: Plugins, name: str) -> None:
    reference = _reference(name)
    model, chain, report = _build(plugins, name, reference.state_dict())
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = reference(x)
        assert torch.equal(model(x), expected)
        assert torch.equal(chain.part()(x), expected)
    assert (report.initialised, report.dropped, report.adapted) == ((), (), ())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_file_without_facts_says_how_many_classes_it_has(plugins: Plugins, tmp_path: Path, name: str) -> None:
    reference = _reference(name)
    save_file(reference.state_dict(), tmp_path / "w.safetensors")
    model = zoo.create_model(name, weights=str(tmp_path / "w.safetensors"))
    with torch.no_grad():
        assert torch.equal(model(x := torch.randn(2, 3, 96, 96)), reference(x))


def test_a_name_on_the_hub_keeps_its_own_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    reference = _reference("resnet18").state_dict()
    headless = {name: tensor for name, tensor in reference.items() if not name.startswith("fc.")}
    for name, state in (("net", reference), ("headless", headless)):
        snapshot = tmp_path / f"hub/models--org--{name}" / "snapshots" / ("ab" * 20)
        snapshot.mkdir(parents=True)
        save_file(state, snapshot / "model.safetensors")
        (snapshot.parents[1] / "refs").mkdir()
        (snapshot.parents[1] / "refs/main").write_text("ab" * 20)
    assert zoo.create_model("resnet18", weights="hf-hub:org/net", offline=True).fc.out_features == 5
    assert zoo.create_model("resnet18", weights="hf-hub:org/net", offline=True, num_classes=3).fc.out_features == 3
    with pytest.raises(UsageError, match=r"how many classes.*hf-hub:org/headless does not say"):
        zoo.create_model("resnet18", weights="hf-hub:org/headless", offline=True)


@pytest.mark.parametrize("name", PUBLISHED)
def test_other_classes_replace_the_heads_only(plugins: Plugins, name: str) -> None:
    reference = _reference(name)
    _, chain, report = _build(plugins, name, reference.state_dict(), num_classes=7)
    heads = ("fc.", "classifier.", "aux", "AuxLogits.")
    assert report.initialised
    assert all(tensor.startswith(heads) for tensor in report.initialised)
    loaded, published = chain.model.state_dict(), reference.state_dict()
    backbone = [tensor for tensor in published if not tensor.startswith(heads)]
    assert all(torch.equal(loaded[tensor], published[tensor]) for tensor in backbone)
    assert all(tensor.isfinite().all() for tensor in loaded.values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_grey_images_give_the_features_of_their_colour_copies(plugins: Plugins, name: str) -> None:
    state = _reference(name).state_dict()
    _, colour, _ = _build(plugins, name, state)
    _, grey, report = _build(plugins, name, state, in_channels=1)
    assert len(report.adapted) == 1
    image = torch.rand(2, 1, 96, 96)
    if "Transform" in type(colour[0].module).__name__:
        # The transform undoes the normalisation, so that the image as such is what the first convolution sees.
        x1, x3 = (_normalised(image.expand(-1, channels, -1, -1)) for channels in (1, 3))
    else:
        x1, x3 = image, image.expand(-1, 3, -1, -1)
    with torch.no_grad():
        torch.testing.assert_close(grey.part(0, -1)(x1), colour.part(0, -1)(x3), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_may_be_missing_on_either_side(plugins: Plugins, name: str) -> None:
    reference = _reference(name)
    published = reference.state_dict()
    bare = {tensor: value for tensor, value in published.items() if not tensor.startswith(("aux", "Aux"))}
    x = torch.randn(1, 3, 96, 96)
    without, _, report = _build(plugins, name, published, options={"aux": False})
    assert without.state_dict().keys() == bare.keys()
    assert report.initialised == ()
    with_heads, _, report = _build(plugins, name, bare)
    assert report.initialised
    assert all(tensor.startswith(("aux", "Aux")) for tensor in report.initialised)
    with torch.no_grad():
        assert torch.equal(without(x), reference(x))
        assert torch.equal(with_heads(x), reference(x))


def test_old_checkpoints_without_batch_counters_load(plugins: Plugins) -> None:
    """torchvision's ResNet files of 2017 have no ``num_batches_tracked``."""
    published = _reference("resnet18").state_dict()
    old = {name: tensor for name, tensor in published.items() if not name.endswith("num_batches_tracked")}
    model, _, _ = _build(plugins, "resnet18", old)
    assert all(torch.equal(tensor, published[name]) for name, tensor in model.state_dict().items())


def _normalised(image: Tensor) -> Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    if image.shape[1] == 1:
        mean, std = mean.mean()[None], std.mean()[None]
    return (image - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
