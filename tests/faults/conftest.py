"""Trainings in processes of their own, to be killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

RECIPE = """schema = 1
[recipes.three]
phases = [
    {epochs = 3, train = "head", lr = 3e-3, batch_size = 8, mixup = 0.2, ema = 0.9},
    {epochs = 3, train = "last 3", lr = 3e-3, batch_size = 8, augment = "light", ema = 0.9},
    {epochs = 3, train = "all", lr = 1e-3, batch_size = 8, augment = "light", ema = 0.9, mixup = 0.4, cutmix = 1.0},
]
"""
MODEL = ["--model", "simple_cnn", "--weights", "none", "--recipe", "three", "--image-size", "16", "--device", "cpu"]
MODEL += ["--option", "widths=4,8", "--option", "hidden=16", "--option", "block_dropout=0.2"]
TIMEOUT_S = 240


@dataclass(frozen=True)
class Ended:
    """A process that ended: its exit code (the signal's number with a minus), and all that it said."""

    code: int
    said: str


class Zoo:
    """Runs the command in processes of their own.

    Args:
        folder: Where they work.
        cache: Their cache; another one for each run computes features anew.
    """

    def __init__(self, folder: Path, photos: Path) -> None:
        self.folder = folder
        self.photos = photos
        self.running: list[subprocess.Popen[str]] = []

    def start(
        self, *arguments: object, fault: str = "", cache: str = "cache", **environment: str
    ) -> "subprocess.Popen[str]":
        """Start ``zoo ARGUMENTS``."""
        variables: Mapping[str, str] = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "ZOO_CACHE": str(self.folder / cache),
            **({"ZOO_FAULT": fault} if fault else {}),
            **environment,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "zoo", *map(str, arguments)],
            cwd=self.folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def __call__(self, *arguments: object, fault: str = "", cache: str = "cache", **environment: str) -> Ended:
        """Run ``zoo ARGUMENTS`` to its end."""
        return ended(self.start(*arguments, fault=fault, cache=cache, **environment))

    def finetune(self, output: str, *more: object, fault: str = "", cache: str = "cache", **environment: str) -> Ended:
        """Train the three phases into a run folder, with a checkpoint every four steps."""
        return self(*self.words(output, *more), fault=fault, cache=cache, **environment)

    def words(self, output: str, *more: object) -> list[object]:
        """The arguments of :meth:`finetune`."""
        registry = self.folder / "registry.toml"
        registry.write_text(RECIPE)
        every = [] if "--checkpoint-every" in more else ["--checkpoint-every", "4"]
        return ["finetune", self.photos, *MODEL, "--registry", registry, *every, "--output", output, *more]

    def artifact(self, output: str) -> bytes:
        """The artifact of a run folder."""
        return (self.folder / output / "model.safetensors").read_bytes()

    def end(self) -> None:
        """End what is left, workers included."""
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def ended(process: "subprocess.Popen[str]") -> Ended:
    """Wait for a process."""
    said, _ = process.communicate(timeout=TIMEOUT_S)
    return Ended(process.returncode, said)


@pytest.fixture
def zoo_command(tmp_path: Path, photos: Path) -> Iterator[Zoo]:
    """The command, in a folder of the test's own."""
    command = Zoo(tmp_path, photos)
    yield command
    command.end()


@pytest.fixture(scope="session")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """The artifact of a training that nothing stopped."""
    command = Zoo(tmp_path_factory.mktemp("whole"), photos)
    found = command.finetune("run")
    assert found.code == 0, found.said
    artifact = command.artifact("run")
    return lambda: artifact
