"""Who may import whom."""

import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]


def test_no_layer_imports_a_higher_one() -> None:
    found = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=_ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "0 broken" in found.stdout


@pytest.mark.parametrize("module", ["zoo", "zoo.plugins.catalogue", "zoo.cli.app", "zoo.cli.listing", "zoo.artifact"])
def test_listing_and_help_do_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("command", [["list"], ["--help"], ["info", "resnet50"], ["--version"]])
def test_a_command_that_only_tells_facts_never_imports_torch(command: list[str]) -> None:
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "zoo", *command], capture_output=True, text=True, check=True
    )
    modules = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines()}
    assert "zoo.cli.app" in modules
    assert not modules & {"torch", "torchvision", "timm", "numpy", "sklearn", "PIL"}
