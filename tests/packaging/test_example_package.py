"""A third-party plugin as a real package: built, installed, used, removed, and installed in other versions."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "zoo-cifar-resnet"
_SAVE = """
import sys
from pathlib import Path
from zoo.artifact import Header, write_artifact
from zoo.plugins.catalogue import open_plugins
from zoo.models import build_model, request_model
from zoo.jobs.proof import check_logits, plugin_facts
plugins = open_plugins()
model = build_model(plugins, request_model(plugins, "resnet20", weights=sys.argv[1]), classes=sys.argv[3:])
header = Header(
    architecture=model.architecture.full_name, plugin=plugin_facts(model), classes=list(model.classes),
    preprocessing=model.preprocessing, check=check_logits(model, 0),
)
write_artifact(Path(sys.argv[2]), header, model.hooks.export_state(model.architecture, model.module))
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
Build = Callable[..., Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Build a wheel of the example, in a version and with a change of its network if asked for."""

    def wheel(version: str = "0.1.0", change: tuple[str, str] = ("", "")) -> Path:
        folder = tmp_path_factory.mktemp("example")
        source = Path(shutil.copytree(_EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__")))
        for path, (old, new) in (
            (source / "pyproject.toml", ('version = "0.1.0"', f'version = "{version}"')),
            (source / "zoo_cifar_resnet" / "model.py", change),
        ):
            text = path.read_text()
            assert old in text
            path.write_text(text.replace(old, new, 1))
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(command, cwd=source, check=True, capture_output=True)
        return next(folder.glob("*.whl"))

    return wheel


@pytest.fixture(scope="module")
def artifact(
    build: Build, photos: Path, make_environment: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What fine-tuning the example's smallest network in an environment of its own leaves."""
    folder = tmp_path_factory.mktemp("trained")
    environment = make_environment(folder / "environment")
    environment.install(build())
    small = ("--image-size", 16, "--epochs", 1, "--device", "cpu", "--seed", 0)
    environment.zoo("finetune", photos, "--model", "resnet20", *small, "--output", folder / "run", "--quiet")
    return folder / "run" / "model.safetensors"


def test_the_installed_wheel_is_listed_with_its_version(environment: Any, build: Build) -> None:
    environment.install(build("0.1.7"))
    names = [row["name"] for row in json.loads(environment.zoo("list", "cifar_resnet/*", "--json"))]
    assert names == [f"cifar_resnet/resnet{depth}" for depth in (20, 32, 44, 56, 110)]
    rows = {row["name"]: row for row in json.loads(environment.zoo("plugins", "list", "--json"))}
    assert rows["cifar_resnet"]["distribution"] == "zoo-cifar-resnet"
    assert rows["cifar_resnet"]["version"] == "0.1.7"
    assert rows["cifar_resnet"]["architectures"] == 5
    assert rows["resnet"]["architectures"] == 10


def test_the_installed_wheel_passes_the_kit(environment: Any, build: Build) -> None:
    environment.install(build())
    report = environment.zoo("plugins", "check", "cifar_resnet")
    assert "checked resnet20, the smallest of each kind; 4 more were not" in report
    assert "failed" not in report


def test_its_artifact_loads_where_it_is_installed(artifact: Path, environment: Any, build: Build) -> None:
    environment.install(build())
    assert "verified" in environment.zoo("verify", artifact)
    shown = json.loads(environment.zoo("info", artifact, "--json"))
    assert shown["plugin"] == {"name": "cifar_resnet", "distribution": "zoo-cifar-resnet", "version": "0.1.0"}


def test_without_the_package_its_artifact_says_what_to_install(artifact: Path, environment: Any, build: Build) -> None:
    environment.install(build())
    environment.pip("uninstall", "--yes", "zoo-cifar-resnet")
    error = environment.zoo("verify", artifact, code=5)
    assert "needs the plugin 'cifar_resnet', which is not installed" in error
    assert "pip install zoo-cifar-resnet" in error
    assert "cifar_resnet" not in environment.zoo("list")
    assert "no plugin provides 'resnet20'" in environment.zoo("info", "resnet20", code=2)


def test_another_version_with_the_same_network_loads_it(artifact: Path, environment: Any, build: Build) -> None:
    environment.install(build("0.2.0"))
    assert "verified" in environment.zoo("verify", artifact)


def test_another_version_with_another_network_says_what_changed(artifact: Path, environment: Any, build: Build) -> None:
    change = (
        "self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)",
        "self.conv1 = nn.Conv2d(in_channels, 16, 5, padding=2)",
    )
    environment.install(build("0.3.0", change))
    error = environment.zoo("verify", artifact, code=5)
    assert "conv1.weight: expected (16, 3, 5, 5) float32, found (16, 3, 3, 3) float32" in error
    assert "conv1.bias: expected (16,) float32, found nothing" in error


def test_published_weights_get_776_of_846_right_and_the_same_after_reinstalling(
    shared_data: Path, shared_weights: Path, environment: Any, build: Build, tmp_path: Path
) -> None:
    images, weights = shared_data / "cifar10-test-846", shared_weights / "cifar_resnet20.safetensors"
    classes = sorted(folder.name for folder in images.iterdir() if folder.is_dir())
    environment.install(build())
    saved = tmp_path / "saved.safetensors"
    environment.run("-c", _SAVE, weights, saved, *classes)
    same = ("--precision", "float32", "--device", "cpu", "--json", "--quiet")
    before = json.loads(environment.zoo("evaluate", saved, images, *same))
    environment.pip("uninstall", "--yes", "zoo-cifar-resnet")
    assert "pip install zoo-cifar-resnet" in environment.zoo("evaluate", saved, images, *same, code=5)
    environment.install(build("0.1.1"))
    after = json.loads(environment.zoo("evaluate", saved, images, *same))
    assert (round(before["accuracy"] * before["count"]), before["count"]) == (776, 846)
    assert (after["accuracy"], after["loss"]) == (before["accuracy"], before["loss"])
