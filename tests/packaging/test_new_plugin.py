"""A package as ``zoo plugins new`` writes it: it installs, passes the kit and its own test, and trains."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_new_package_installs_passes_and_trains_as_it_is(environment: Any, photos: Path, tmp_path: Path) -> None:
    package = tmp_path / "zoo-my-lab"
    environment.zoo("plugins", "new", "my-lab", "--output", package)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=package, check=True, capture_output=True)
    environment.install(next(tmp_path.glob("*.whl")))
    rows = {row["name"]: row for row in json.loads(environment.zoo("plugins", "list", "--json"))}
    assert (rows["my_lab"]["distribution"], rows["my_lab"]["architectures"]) == ("zoo-my-lab", 1)
    environment.zoo("plugins", "check", "my_lab")
    ran = environment.run("-m", "pytest", "-p", "no:cacheprovider", "-c", package / "pyproject.toml", package)
    assert "39 passed" in ran
    small = ("--epochs", 1, "--device", "cpu", "--quiet", "--output", tmp_path / "run")
    environment.zoo("finetune", photos, "--model", "my_lab/my_lab_net", *small)
    assert "verified" in environment.zoo("verify", tmp_path / "run" / "model.safetensors")
