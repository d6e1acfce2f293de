"""A frozen part that changes is caught, and one that does not is proven."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from zoo.artifact import read_artifact, read_header

_PLUGIN = """
from zoo.architecture import Architecture, Preprocessing
from zoo.hookspecs import hookimpl

ZOO_HOOK_API = 1


@hookimpl
def zoo_architectures():
    return [Architecture(name="counter", family="leaky", preprocessing=Preprocessing(input_size=(3, 16, 16)))]


@hookimpl
def zoo_build_model(num_classes, in_channels):
    from torch import nn, zeros

    class CountsItsCalls(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = nn.Conv2d(in_channels, 4, 3)
            self.register_buffer("calls", zeros(()))

        def forward(self, x):
            self.calls += {step}
            return self.convolution(x).mean((2, 3))

    return nn.Sequential(CountsItsCalls(), nn.Linear(4, num_classes))
"""


def _finetune(photos: Path, folder: Path, step: int) -> subprocess.CompletedProcess[str]:
    (folder / "leaky_plugin.py").write_text(_PLUGIN.replace("{step}", str(step)))
    return _run(photos, folder, "leaky/counter")


def _run(photos: Path, folder: Path, model: str) -> subprocess.CompletedProcess[str]:
    (folder / "leaky.toml").write_text('[plugins.leaky]\nmodule = "leaky_plugin"\n')
    command = [sys.executable, "-m", "zoo", "finetune", photos, "--model", model, "--recipe", "frozen"]
    return subprocess.run(
        [*map(str, command), "--epochs", "1", "--registry", "leaky.toml", "--output", "run", "--device", "cpu"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )


def test_a_forward_that_updates_a_frozen_buffer_is_caught(photos: Path, tmp_path: Path) -> None:
    found = _finetune(photos, tmp_path, step=1)
    assert found.returncode == 6, found.stderr
    assert ".calls" in found.stderr
    assert "no artifact" in found.stderr
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_same_plugin_passes_when_it_leaves_the_buffer_alone(photos: Path, tmp_path: Path) -> None:
    found = _finetune(photos, tmp_path, step=0)
    assert found.returncode == 0, found.stderr
    assert read_header(tmp_path / "run" / "model.safetensors").freeze[0].frozen_stages == 1


_LATE = """
from zoo.architecture import Architecture, Preprocessing
from zoo.hookspecs import hookimpl

ZOO_HOOK_API = 1


@hookimpl
def zoo_architectures():
    return [Architecture(name="late", family="leaky", preprocessing=Preprocessing(input_size=(3, 16, 16)))]


@hookimpl
def zoo_build_model(num_classes, in_channels):
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.head = nn.Linear(4, num_classes)

        def forward(self, x):
            FORWARD
            return self.head(self.body(x))

    return Model()


@hookimpl
def zoo_stages(model):
    from zoo.chain import Stage

    return [Stage("body", model.body), Stage("head", model.head)]


@hookimpl
def zoo_export_state(model):
    EXPORT
    return state


@hookimpl
def zoo_import_state(state):
    return {name: tensor.float() for name, tensor in state.items()}
"""
# What the whole model does when it runs, which the phases that train its stages one by one never see; then what the
# export does.
_LATE_CHANGES = {
    "nothing": ("pass", "state = model.state_dict()"),
    "forward moves a frozen weight": (
        "self.body[0].weight.data.add_(1e-6)",
        "state = model.state_dict()",
    ),
    "export moves a frozen weight": (
        "pass",
        "state = model.state_dict(); model.body[0].weight.data.mul_(1.00001)",
    ),
    "export writes other values": (
        "pass",
        "state = {name: tensor * 1.00001 for name, tensor in model.state_dict().items()}",
    ),
    "export rounds to half": ("pass", "state = {name: tensor.half() for name, tensor in model.state_dict().items()}"),
    "forward ends the process": ("raise SystemExit(0)", "state = model.state_dict()"),
}
_LATE_CODES = {"nothing": 0, "export writes other values": 5, "export rounds to half": 5, "forward ends the process": 4}


@pytest.mark.parametrize("change", _LATE_CHANGES)
def test_what_changes_after_the_last_phase_leaves_no_artifact(change: str, photos: Path, tmp_path: Path) -> None:
    forward, export = _LATE_CHANGES[change]
    (tmp_path / "leaky_plugin.py").write_text(_LATE.replace("FORWARD", forward).replace("EXPORT", export))
    found = _run(photos, tmp_path, "leaky/late")
    assert found.returncode == _LATE_CODES.get(change, 6), found.stderr
    assert len(list(tmp_path.rglob("*.safetensors"))) == (change == "nothing")
    if change == "forward ends the process":
        assert "leaky_plugin.py, line " in found.stderr


@pytest.mark.parametrize("recipe", ["frozen", "full"])
def test_resnet18_rests_where_it_is_frozen_and_moves_where_it_trains(recipe: str, photos: Path, tmp_path: Path) -> None:
    parent = zoo.create_model("resnet18", num_classes=3, weights=None, seed=5).state_dict()
    run = zoo.finetune(
        photos,
        model="resnet18",
        weights=None,
        recipe=recipe,
        epochs=1,
        image_size=32,
        seed=5,
        device="cpu",
        output=tmp_path / "run",
    )
    header, after = read_artifact(run.artifact)
    changed = {name for name, tensor in after.items() if not tensor.equal(parent[name])}
    statistics = {name for name in after if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    if recipe == "frozen":
        assert changed <= {"fc.weight", "fc.bias"}
        assert header.freeze[0].before == header.freeze[0].after
        assert json.loads((run.folder / "metrics.jsonl").read_text())["epoch"] == 0
    else:
        assert statistics <= changed
        assert "conv1.weight" in changed
