"""zoo's own plugins, and the example package, run through the kit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.testing import parametrize_checks

EXAMPLE = Path(__file__).parents[2] / "examples" / "zoo-cifar-resnet"


@parametrize_checks("simple_cnn")
def test_simple_cnn_keeps(check) -> None:
    check()


@parametrize_checks("resnet", architectures=["resnet18"])
def test_resnet_keeps(check) -> None:
    check()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_example_passes_from_its_folder() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "zoo", "plugins", "check", EXAMPLE, "--quiet"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "plugin 'cifar_resnet' (zoo-cifar-resnet" in ran.stdout
