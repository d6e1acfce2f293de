"""The same kills in the Hugging Face Trainer, resumed by its own means, and in zoo: what does each lose?

python benchmarks/hf_resume.py

The Trainer trains a small ViT with dropout, zoo its SimpleCNN with dropout, mixup and a moving average; both from
random values, for 90 steps on the same photos with random crops and flips, with a checkpoint every 25 steps. What the
Trainer's steps saw is written down by the peer's script: the samples, the pixels, the random state and the loss.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from common import HERE, WORK, environment, photos, table, write_section
from results import machine

_RECIPE = """schema = 1
[recipes.one]
phases = [{epochs = 9, train = "all", batch_size = 16, augment = "standard", mixup = 0.2, ema = 0.9}]
"""
_KILL_AT = 68


@dataclass(frozen=True)
class Case:
    """One way to end a run: in words, and the options of the Trainer's script and the fault of zoo that do it."""

    name: str
    trainer: list[str]
    fault: str = ""
    both: list[str] = field(default_factory=list)


_CASES = [
    Case(f"kill -9 at step {_KILL_AT}", ["--kill-at", str(_KILL_AT)], f"step:{_KILL_AT}:kill"),
    Case(f"kill -9 at step {_KILL_AT}, two loader workers", ["--kill-at", str(_KILL_AT)], both=["--workers", "2"]),
    Case(
        f"kill -9 at step {_KILL_AT}, checkpoint at an epoch's end",
        ["--kill-at", str(_KILL_AT)],
        both=["--save-steps", "30"],
    ),
    Case("kill -9 inside the second checkpoint", ["--kill-in-save", "2"], "checkpoint.manifest:2:kill"),
    Case("kill -9 before the first checkpoint", ["--kill-at", "20"], "step:20:kill"),
    Case(f"SIGTERM at step {_KILL_AT}", ["--kill-at", str(_KILL_AT), "--signal", "SIGTERM"], f"step:{_KILL_AT}:term"),
]


def start(words: list[object], folder: Path, **variables: str) -> tuple[int, str]:
    """The exit code and all that was said."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
    )
    return done.returncode, done.stdout + done.stderr


class TrainerRuns:
    """Runs of the Hugging Face Trainer."""

    def __init__(self, python: Path, data: Path, folder: Path) -> None:
        self._command = [python, HERE / "peers" / "hf_killed.py", "--data", data]
        self._folder = folder
        self._wholes: dict[str, Path] = {}

    def run(self, name: str, *words: object) -> tuple[int, str, Path]:
        """One process."""
        target = self._folder / name
        return *start([*self._command, "--folder", target, *words], self._folder), target

    def whole(self, options: list[str]) -> Path:
        """The run that nothing stops, under some options."""
        key = " ".join(options)
        if key not in self._wholes:
            code, said, target = self.run(f"whole{len(self._wholes)}", *options)
            if code:
                raise RuntimeError(said)
            self._wholes[key] = target
        return self._wholes[key]

    def row(self, number: int, case: Case) -> list[str]:
        """What a case costs: a row of the table."""
        expected = self.whole(case.both)
        code, _, target = self.run(f"cut{number}", *case.trainer, *case.both)
        before = _steps(target)
        resumed, said, _ = self.run(f"cut{number}", "--resume", *case.both)
        if resumed:
            error = [line for line in said.splitlines() if re.match(r"\w*(Error|Exception)\b", line)]
            return [
                case.name,
                f"{code}, {resumed}",
                "does not start",
                f"`{(error or ['?'])[-1].replace(str(target), '…')[:160]}`",
                "",
                "",
                "none",
            ]
        after = _steps(target)[len(before) :]
        wanted = {row["step"]: row for row in _steps(expected)}
        pairs = [(row, wanted[row["step"]]) for row in after]
        first = after[0]["step"]
        kept = before[-1]["step"] if before else 0
        share = {
            key: f"{sum(a[key] != b[key] for a, b in pairs)} of {len(pairs)}" for key in ("samples", "pixels", "random")
        }
        return [
            case.name,
            f"{code}, {resumed}",
            str(max(0, kept - first + 1)),
            share["samples"],
            share["pixels"] + " / " + share["random"],
            f"{max(abs(a['loss'] - b['loss']) for a, b in pairs):.2g}",
            "equal" if _digest(target) == _digest(expected) else f"differ by {_difference(target, expected):.1g}",
        ]


class ZooRuns:
    """Runs of zoo."""

    def __init__(self, data: Path, folder: Path) -> None:
        self._folder = folder
        (folder / "registry.toml").write_text(_RECIPE)
        self._words = [data, "--model", "simple_cnn", "--weights", "none", "--recipe", "one", "--image-size", "32"]
        self._words += ["--option", "widths=16,32,32", "--option", "block_dropout=0.1", "--device", "cpu"]
        self._words += ["--registry", "registry.toml", "--checkpoint-every", "25"]
        code, said = self._zoo("finetune", *self._words, "--output", "whole")
        if code:
            raise RuntimeError(said)

    def row(self, number: int, case: Case) -> list[str]:
        """What a case costs: a row of the table."""
        output = f"zoo{number}"
        code, _ = self._zoo("finetune", *self._words, "--output", output, fault=case.fault)
        resumed, said = self._zoo("finetune", "--resume", output)
        at = re.search(r"in phase \d+, after step (\d+)", said)
        rows = [(self._folder / name / "metrics.jsonl").read_text() for name in ("whole", output)]
        losses = [[json.loads(line)["train_loss"] for line in text.splitlines()] for text in rows]
        files = [(self._folder / name / "model.safetensors").read_bytes() for name in ("whole", output)]
        return [
            case.name,
            f"{code}, {resumed}",
            f"step {at[1]}" if at else "its beginning, as it says",
            f"{max(abs(a - b) for a, b in zip(*losses, strict=True)):.2g}",
            "equal byte for byte" if files[0] == files[1] else "NOT EQUAL",
        ]

    def _zoo(self, *words: object, fault: str = "") -> tuple[int, str]:
        variables = {"ZOO_CACHE": str(self._folder / "cache"), **({"ZOO_FAULT": fault} if fault else {})}
        return start([sys.executable, "-m", "zoo", *words], self._folder, **variables)


def _steps(folder: Path) -> list[dict]:
    path = folder / "steps.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / "final" / "model.safetensors").read_bytes()).hexdigest()


def _difference(one: Path, other: Path) -> float:
    """The largest difference between two models' tensors over the largest value of the tensor."""
    from safetensors.torch import load_file

    tensors = [load_file(folder / "final" / "model.safetensors") for folder in (one, other)]
    return max(float((a - tensors[1][name]).abs().max() / a.abs().max()) for name, a in tensors[0].items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the first case alone")
    options = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=WORK))
    data = photos(240, size=(64, 64)).resolve()
    python = environment("hf", ["transformers", "accelerate"])
    versions = subprocess.run(
        [python, "-c", "import transformers, accelerate; print(transformers.__version__, accelerate.__version__)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    cases = _CASES[:1] if options.quick else _CASES
    trainer = TrainerRuns(python, data, folder)
    again = trainer.run("again")[2]
    repeats = "equal" if _digest(again) == _digest(trainer.whole([])) else "NOT equal"
    print(f"two runs of the Trainer that nothing stops are {repeats}", flush=True)
    rows = []
    for number, case in enumerate(cases):
        rows.append(trainer.row(number, case))
        print(rows[-1], flush=True)
    own, own_rows = ZooRuns(data, folder), []
    for number, case in enumerate(case for case in cases if case.fault):
        own_rows.append(own.row(number, case))
        print(own_rows[-1], flush=True)
    own_headers = ["killed", "exit codes", "resumed from", "largest difference of an epoch's loss", "artifact"]
    headers = ["killed", "exit codes", "steps redone", "steps with other samples", "with other pixels / random state"]
    headers += ["largest difference of a step's loss", "final weights"]
    write_section(
        "The same kill in the Hugging Face Trainer" + " (quick)" * options.quick,
        f"`python benchmarks/hf_resume.py {' '.join(sys.argv[1:])}`\n\n{machine()}, transformers {versions[0]}, "
        f"accelerate {versions[1]}. {__doc__.split(chr(10) * 2)[2].strip()} Two runs of the Trainer that nothing stops "
        f"give {repeats} weights.\n\nTrainer, `resume_from_checkpoint=True`, against its run that nothing stopped:\n\n"
        + table(headers, rows)
        + "\n\nzoo, `zoo finetune --resume`:\n\n"
        + table(own_headers, own_rows),
    )
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
