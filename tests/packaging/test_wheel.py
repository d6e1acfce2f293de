"""The wheel works on its own, away from the repository."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # Through a copy of the tracked files, as from a clean clone: nothing unfinished in the checkout can help.
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files"], cwd=_ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        if (_ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(_ROOT / name, source / name)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def zoo_command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``zoo`` script of an environment that has the wheel, and borrows every other package."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    own = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    # A line in a .pth file adds a folder without following the .pth files in it, such as the editable install's.
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*install, "--no-deps", "--no-index", str(wheel)], check=True, cwd=folder)
    return folder / "bin" / "zoo"


def _run(command: Path, *arguments: object, folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    found = subprocess.run(
        [command, *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=200, env=environment
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_the_wheel_holds_what_the_command_needs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "zoo/registry.toml",
        "zoo/py.typed",
        "zoo/weights/imagenet1k.txt",
        "zoo/report/templates/style.css",
    } <= names
    assert {"zoo_resnet/__init__.py", "zoo_simple_cnn/model.py"} <= names
    assert not any(name.startswith(("tests/", "plugins/", "benchmarks/")) for name in names)


def test_the_installed_wheel_lists_and_trains(zoo_command: Path, photos: Path, tmp_path: Path) -> None:
    python = zoo_command.with_name("python")
    where = subprocess.run(
        [python, "-c", "import zoo; print(zoo.__file__)"], capture_output=True, text=True, cwd=tmp_path
    )
    assert Path(where.stdout).is_relative_to(zoo_command.parents[1])
    listed = json.loads(_run(zoo_command, "list", "--json", folder=tmp_path))
    assert {"resnet/resnet50", "simple_cnn/simple_cnn"} <= {row["name"] for row in listed}
    arguments = ("finetune", photos, "--model", "simple_cnn", "--epochs", "1", "--image-size", "16", "--json")
    done = json.loads(_run(zoo_command, *arguments, folder=tmp_path))
    assert (tmp_path / done["artifact"]).is_file()
    assert 0 <= done["test"]["accuracy"] <= 1


def test_the_editable_install_knows_every_entry_point_of_pyproject() -> None:
    import tomllib
    from importlib.metadata import entry_points

    declared = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["zoo.plugins"]
    installed = {point.name: point.value for point in entry_points(group="zoo.plugins")}
    missing = {name: value for name, value in declared.items() if installed.get(name) != value}
    assert not missing, "entry points are read at installation: run pip install -e ."
