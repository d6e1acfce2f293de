"""Environments of their own, which borrow every package of this one and stay off the network."""

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest


class Environment:
    """An environment of its own that borrows every package of this one, zoo included."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "bin" / "python"
        venv.create(folder, with_pip=False, symlinks=True)
        own = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        # This way the .pth files of the borrowed folder count too: zoo's own may be one.
        (own / "borrowed.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")

    def pip(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "pip", "--python", str(self.python), *map(str, arguments), "--quiet"]
        subprocess.run(command, check=True, capture_output=True)

    def install(self, wheel: Path) -> None:
        self.pip("install", "--no-deps", "--no-index", wheel)

    @property
    def variables(self) -> dict[str, str]:
        """What a shell that has activated it would have."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return {**kept, "PATH": f"{self.python.parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def zoo(self, *arguments: object, code: int = 0) -> str:
        return self.run("-m", "zoo", *arguments, code=code)

    def run(self, *arguments: object, code: int = 0) -> str:
        found = subprocess.run(
            [self.python, *map(str, arguments)],
            cwd=self.python.parents[1],
            capture_output=True,
            text=True,
            env=self.variables,
        )
        assert found.returncode == code, found.stdout + found.stderr
        return found.stdout if code == 0 else found.stderr


@pytest.fixture(scope="session")
def make_environment() -> Callable[[Path], Environment]:
    """Make one in a folder."""
    return Environment


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """One for a single test."""
    return Environment(tmp_path / "environment")
