"""Commands that train in several processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

MODEL = ["--model", "simple_cnn", "--weights", "none", "--image-size", "16", "--device", "cpu", "--batch-size", "8"]
MODEL += ["--option", "widths=4,8", "--option", "hidden=16", "--precision", "float32", "--checkpoint-every", "4"]
RECIPE = """schema = 1
[recipes.two]
phases = [
    {epochs = 2, train = "head", lr = 3e-3, mixup = 0.2, ema = 0.9},
    {epochs = 3, train = "all", lr = 3e-3, augment = "light", mixup = 0.4, cutmix = 1.0, class_weights = "balanced"},
]
"""


@dataclass(frozen=True)
class Ended:
    """A process that ended."""

    code: int
    said: str


class Launcher:
    """Trains the two phases in a folder of its own."""

    def __init__(self, folder: Path, photos: Path) -> None:
        self.folder = folder
        self.photos = photos
        (folder / "registry.toml").write_text(RECIPE)

    def words(self, output: str, *more: object) -> list[object]:
        """``finetune`` with its arguments."""
        return ["finetune", self.photos, *MODEL, "--recipe", "two", "--output", output, *more]

    def start(self, *words: object, fault: str = "", **environment: str) -> "subprocess.Popen[str]":
        """Start ``zoo WORDS``."""
        variables = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "ZOO_CACHE": str(self.folder / "cache"),
            **({"ZOO_FAULT": fault} if fault else {}),
            **environment,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "zoo", *map(str, words)],
            cwd=self.folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: object, fault: str = "", **environment: str) -> Ended:
        """Run ``zoo WORDS`` to its end."""
        process = self.start(*words, fault=fault, **environment)
        try:
            said, _ = process.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            process.terminate()  # so that torchrun ends those that it started
            process.communicate(timeout=60)
            raise
        return Ended(process.returncode, said)

    def wait_for_epochs(self, number: int, *processes: "subprocess.Popen[str]") -> None:
        """Wait until so many epochs of the run ``run`` are over."""
        metrics = self.folder / "run" / "metrics.jsonl"
        while not (metrics.exists() and len(metrics.read_text().splitlines()) >= number):
            assert all(process.poll() is None for process in processes), [p.communicate()[0] for p in processes]
            time.sleep(0.01)

    def rows(self, output: str) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl`` without times."""
        lines = (self.folder / output / "metrics.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]

    def artifact(self, output: str) -> Path:
        """Where the artifact is."""
        return self.folder / output / "model.safetensors"


@pytest.fixture
def launcher(tmp_path: Path, photos: Path) -> Launcher:
    return Launcher(tmp_path, photos)


@pytest.fixture(scope="session")
def alone(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Launcher]:
    """The same training in one process, in the run folder ``run``."""
    single = Launcher(tmp_path_factory.mktemp("alone"), photos)
    found = single.run(*single.words("run"))
    assert found.code == 0, found.said
    return lambda: single
