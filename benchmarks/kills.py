"""Killed at 30 moments and resumed: is the artifact that of the run that nothing stopped?

python benchmarks/kills.py

A run of three phases (head, last 3, all) with a moving average, mixup, CutMix and dropout on the CPU. Each cut's phase
and step are those that the resumed run named.
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
import time
from pathlib import Path

from common import WORK, photos, table, write_section
from results import machine

_RECIPE = """schema = 1
[recipes.three]
phases = [
    {{epochs = {head}, train = "head", lr = 2e-3, mixup = 0.2, ema = 0.99}},
    {{epochs = {rest}, train = "last 3", lr = 1e-3, augment = "light", ema = 0.99}},
    {{epochs = {rest}, train = "all", lr = 1e-3, augment = "light", ema = 0.99, mixup = 0.4, cutmix = 1.0}},
]
"""
_MODEL = ["--model", "simple_cnn", "--weights", "none", "--recipe", "three", "--image-size", "48", "--device", "cpu"]
_MODEL += [
    "--option",
    "widths=16,32,32",
    "--option",
    "block_dropout=0.2",
    "--checkpoint-every",
    "25",
    "--batch-size",
    "16",
]


class Runs:
    """Starts the command in processes of their own, in one folder."""

    def __init__(self, folder: Path, data: Path, epochs: tuple[int, int]) -> None:
        self.folder = folder
        self.data = data
        (folder / "registry.toml").write_text(_RECIPE.format(head=epochs[0], rest=epochs[1]))

    def zoo(self, *words: object, fault: str = "", cache: str = "cache") -> tuple[int, str]:
        """The exit code and all that was said."""
        done = subprocess.run(
            [sys.executable, "-m", "zoo", *map(str, words)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=1800,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "ZOO_CACHE": str(self.folder / cache),
                **({"ZOO_FAULT": fault} if fault else {}),
            },
        )
        return done.returncode, done.stdout + done.stderr

    def finetune(self, output: str, *, fault: str = "", cache: str = "cache") -> tuple[int, str]:
        """Begin the run."""
        words = ["finetune", self.data, *_MODEL, "--registry", "registry.toml", "--output", output]
        return self.zoo(*words, fault=fault, cache=cache)

    def digest(self, output: str) -> str:
        """SHA-256 of the artifact; empty where there is none."""
        path = self.folder / output / "model.safetensors"
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

    def rows(self, output: str) -> list[dict[str, float]]:
        """The lines of metrics.jsonl."""
        return [json.loads(line) for line in (self.folder / output / "metrics.jsonl").read_text().splitlines()]


def cuts(steps: list[int]) -> list[tuple[str, list[str]]]:
    """30 moments: a name, and a fault for each life of the run before the last.

    Args:
        steps: Steps of the run by the end of each phase.
    """
    found: list[tuple[str, list[str]]] = []
    for phase, (first, last) in enumerate(zip([0, *steps], steps, strict=False), start=1):
        for share in (0.02, 0.2, 0.4, 0.6, 0.8, 0.98):
            step = first + 1 + round(share * (last - first - 1))
            found.append((f"phase {phase}, step {step}", [f"step:{step}:kill"]))
    for place in ("tensors", "fsync", "manifest", "rename", "prune"):
        found.append((f"in a checkpoint, {place}", [f"checkpoint.{place}:{len(found) - 14}:kill"]))
    found += [(f"in feature extraction, batch {n}", [f"features:{n}:kill"]) for n in (1, 2, 3)]
    middle = (steps[0] + steps[1]) // 2
    found += [
        ("twice in phase 1", [f"step:{steps[0] // 2}:kill", "step:9:kill"]),
        ("twice in phase 2", [f"step:{middle}:kill", "step:30:kill"]),
        ("twice in phase 3", [f"step:{steps[1] + 40}:kill", "step:40:kill"]),
        ("in extraction, then in phase 3", ["features:2:kill", f"step:{steps[1] + 50}:kill"]),
    ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=WORK))
    images, epochs = (120, (4, 3)) if options.quick else (600, (30, 12))
    runs = Runs(folder, photos(images, size=(64, 64)), epochs)
    code, said = runs.finetune("whole")
    if code:
        raise RuntimeError(said)
    expected, rows = runs.digest("whole"), runs.rows("whole")
    seconds = sum(row["seconds"] for row in rows)
    steps = [int(max(row["step"] for row in rows if row["phase"] == phase)) for phase in range(3)]
    print(f"{steps} steps in {seconds:.1f} s")

    lines, same = [], 0
    for number, (name, faults) in enumerate(cuts(steps)):
        output, cache = f"cut{number}", f"cache{number}"
        code, _ = runs.finetune(output, fault=faults[0], cache=cache)
        codes = [code]
        for fault in faults[1:]:
            codes.append(runs.zoo("finetune", "--resume", output, fault=fault, cache=cache)[0])
        code, said = runs.zoo("finetune", "--resume", output, cache=cache)
        at = re.search(r"in phase (\d+), after step (\d+)", said)
        where = f"phase {at[1]}, step {at[2]}" if at else "its beginning"
        equal = code == 0 and runs.digest(output) == expected
        same += equal
        lines.append([number + 1, name, ", ".join(map(str, codes)), where, "equal" if equal else f"NOT EQUAL ({code})"])
        print(lines[-1], flush=True)
        shutil.rmtree(folder / output)
        shutil.rmtree(folder / cache)

    terminated = 0
    generator_steps = [round(1 + (steps[-1] - 2) * (n + 0.5) / 10) for n in range(10)]
    for number, step in enumerate(generator_steps):
        code, _ = runs.finetune(f"term{number}", fault=f"step:{step}:term")
        resumed, said = runs.zoo("finetune", "--resume", f"term{number}")
        exact = f"after step {step}" in said
        terminated += code == 143 and resumed == 0 and exact and runs.digest(f"term{number}") == expected
        print("SIGTERM", step, code, resumed, exact, flush=True)
        shutil.rmtree(folder / f"term{number}")

    write_section(
        "Killed and resumed" + " (quick)" * options.quick,
        f"`python benchmarks/kills.py {' '.join(sys.argv[1:])}`\n\n{machine()}. Steps by the end of each phase: "
        f"{steps}; {seconds:.0f} s of steps and validation, checkpoints every 25 steps.\n\n"
        f"**kill -9: {same} of {len(lines)} artifacts equal byte for byte; SIGTERM: {terminated} of 10** (each resumed "
        "at the very step).\n\n" + table(["#", "killed", "exit codes", "resumed from", "artifact"], lines),
    )
    shutil.rmtree(folder)


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s")
