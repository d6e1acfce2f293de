"""Killed at 30 moments and resumed: is the artifact that of the run that nothing stopped?

python benchmarks/kills.py [--quick]

A run of three phases (head, last 3, all; the stage between the last block and the head has no parameters) with a moving
average, mixup, CutMix and dropout on the CPU. Each cut's phase and step are logged, and where the resumed run went on.
As a control, one part of the state at a time is taken out of a checkpoint: the artifact must then differ, or the
checkpoint be refused.
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
from dataclasses import dataclass
from pathlib import Path

from common import WORK, photos, table, write_section
from results import machine

from zoo.training.checkpoint import Checkpoints, Snapshot

_EVERY = 25
_RECIPE = """schema = 1
[recipes.three]
phases = [
    {{epochs = {head}, train = "head", lr = 2e-3, mixup = 0.2, ema = 0.99}},
    {{epochs = {rest}, train = "last 3", lr = 1e-3, augment = "light", ema = 0.99, mixup = 0.2}},
    {{epochs = {rest}, train = "all", lr = {last_lr}, augment = "light", ema = 0.99, mixup = 0.4, cutmix = 1.0}},
]
"""
_MODEL = ["--model", "simple_cnn", "--weights", "none", "--recipe", "three", "--image-size", "48", "--device", "cpu"]
_MODEL += ["--option", "widths=16,32,32", "--option", "block_dropout=0.2", "--batch-size", "16"]
_MODEL += ["--checkpoint-every", str(_EVERY)]
_PARTS = ("trainer/optimizer/", "trainer/average/", "trainer/best/", "trainer/epoch/", "model/")


@dataclass(frozen=True)
class Cut:
    """One moment, or two: where the run is killed, in words and as faults, one a life before the last."""

    where: str
    faults: tuple[str, ...]


class Runs:
    """Starts the command in processes of their own, in one folder."""

    def __init__(self, folder: Path, data: Path, epochs: tuple[int, int], *, last_lr: float = 1e-3) -> None:
        self.folder = folder
        self.data = data
        folder.mkdir(exist_ok=True)
        (folder / "registry.toml").write_text(_RECIPE.format(head=epochs[0], rest=epochs[1], last_lr=last_lr))

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

    def remove(self, *names: str) -> None:
        for name in names:
            shutil.rmtree(self.folder / name, ignore_errors=True)


def cuts(ends: list[int]) -> list[Cut]:
    """30 moments.

    Args:
        ends: Steps of the run by the end of each phase.
    """

    def at(step: int) -> str:
        return f"phase {1 + sum(step > end for end in ends)}, step {step}"

    found: list[Cut] = []
    for first, last in zip([0, *ends], ends, strict=False):
        for share in (0.02, 0.2, 0.4, 0.6, 0.8, 0.98):
            step = first + 1 + round(share * (last - first - 1))
            found.append(Cut(at(step), (f"step:{step}:kill",)))
    number = len(range(_EVERY, ends[-1], _EVERY))
    for i, place in enumerate(("tensors", "fsync", "manifest", "rename", "prune")):
        nth = 2 + (number - 3) * i // 4
        found.append(Cut(f"{at(nth * _EVERY)}, in its checkpoint: {place}", (f"checkpoint.{place}:{nth}:kill",)))
    found += [Cut(f"phase 1, step 0, extracting features: batch {n}", (f"features:{n}:kill",)) for n in (1, 2, 3)]
    for first, second in ((ends[0] // 2, 9), ((ends[0] + ends[1]) // 2, 30), (ends[1] + 60, 40)):
        # The second life begins at the last checkpoint, so its own nth step is this one of the run.
        again = first // _EVERY * _EVERY - _EVERY * (first % _EVERY == 0) + second
        faults = (f"step:{first}:kill", f"step:{second}:kill")
        found.append(Cut(f"{at(first)}; then {at(again)}", faults))
    step = ends[1] + 50
    found.append(Cut(f"extracting features: batch 2; then {at(step)}", ("features:2:kill", f"step:{step}:kill")))
    return found


def killed(runs: Runs, moments: list[Cut], expected: str) -> list[list[object]]:
    """A row a moment."""
    lines: list[list[object]] = []
    for number, cut in enumerate(moments, start=1):
        output, cache = f"cut{number}", f"cache{number}"
        codes = [runs.finetune(output, fault=cut.faults[0], cache=cache)[0]]
        for fault in cut.faults[1:]:
            codes.append(runs.zoo("finetune", "--resume", output, fault=fault, cache=cache)[0])
        code, said = runs.zoo("finetune", "--resume", output, cache=cache)
        place = re.search(r"in phase (\d+), after step (\d+)", said)
        entered = f"phase {place[1]}, step {place[2]}" if place else "its beginning"
        equal = code == 0 and set(codes) == {-9} and runs.digest(output) == expected
        result = "equal" if equal else f"NOT EQUAL (exit {code})"
        lines.append([number, cut.where, ", ".join(map(str, codes)), entered, result])
        print(lines[-1], flush=True)
        runs.remove(output, cache)
    return lines


def terminated(runs: Runs, last: int, expected: str) -> list[list[object]]:
    """A row for each of ten SIGTERMs, after which the run must go on from that very step."""
    lines: list[list[object]] = []
    for number in range(10):
        step = round(1 + (last - 2) * (number + 0.5) / 10)
        code, _ = runs.finetune("term", fault=f"step:{step}:term")
        resumed, said = runs.zoo("finetune", "--resume", "term")
        exact = f"after step {step}" in said and resumed == 0
        equal = exact and code == 143 and runs.digest("term") == expected
        lines.append([number + 1, f"step {step}", code, "that step" if exact else "ANOTHER", equal])
        print("SIGTERM", lines[-1], flush=True)
        runs.remove("term")
    return lines


def control(runs: Runs) -> list[list[object]]:
    """A row for each part of the state that is left out."""
    code, said = runs.finetune("control")
    if code:
        raise RuntimeError(said)
    expected = runs.digest("control")
    last = int(runs.rows("control")[-1]["step"])
    runs.finetune("cut", fault=f"step:{last}:kill")
    lines: list[list[object]] = []
    for part in ("nothing", *_PARTS):
        shutil.copytree(runs.folder / "cut", runs.folder / "less")
        checkpoints = Checkpoints(runs.folder / "less" / "checkpoints")
        found = checkpoints.newest()
        assert found is not None
        checkpoints.clear()
        tensors = {name: tensor for name, tensor in found.tensors.items() if not name.startswith(part)}
        facts = dict(found.facts)
        if part == "trainer/best/":
            facts["trainer"] = {**facts["trainer"], "best": {}}
        checkpoints.save(facts["trainer"]["step"], Snapshot(facts, tensors))
        code, _ = runs.zoo("finetune", "--resume", "less")
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in runs.rows("less")]
        whole = [{k: v for k, v in row.items() if k != "seconds"} for row in runs.rows("control")]
        same = code == 0 and runs.digest("less") == expected and rows == whole
        lines.append([part, len(found.tensors) - len(tensors), code, "equal" if same else "differs or is refused"])
        print("control", lines[-1], flush=True)
        runs.remove("less")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=WORK))
    images, epochs = (120, (10, 6)) if options.quick else (600, (80, 34))
    data = photos(images, size=(64, 64))
    runs = Runs(folder / "runs", data, epochs)
    code, said = runs.finetune("whole")
    if code:
        raise RuntimeError(said)
    expected, rows = runs.digest("whole"), runs.rows("whole")
    seconds = sum(row["seconds"] for row in rows)
    ends = [int(max(row["step"] for row in rows if row["phase"] == phase)) for phase in range(3)]
    print(f"{ends} steps in {seconds:.1f} s", flush=True)
    kills = killed(runs, cuts(ends), expected)
    terms = terminated(runs, ends[-1], expected)
    # With so high a last rate an earlier state is the best, so that it counts whether it was kept.
    controls = control(Runs(folder / "control", data, (epochs[0] // 4, epochs[1] // 3), last_lr=0.3))

    same = sum(line[-1] == "equal" for line in kills)
    exact = sum(line[-1] is True for line in terms)
    noticed = sum(line[-1] != "equal" for line in controls[1:])
    write_section(
        "Killed and resumed" + " (quick)" * options.quick,
        f"`python benchmarks/kills.py {' '.join(sys.argv[1:])}`\n\n{machine()}. One thread. Steps by the end of each "
        f"phase: {ends}; {seconds:.0f} s of steps and validation, checkpoints every {_EVERY} steps.\n\n"
        f"**kill -9: {same} of {len(kills)} artifacts equal byte for byte. SIGTERM: {exact} of {len(terms)}, each "
        f"resumed at that very step. Control: {noticed} of {len(_PARTS)} left-out parts noticed.**\n\n"
        + table(["#", "killed in", "exit codes", "resumed after", "artifact"], kills)
        + "\n\n"
        + table(["#", "SIGTERM in", "exit code", "resumed after", "equal"], terms)
        + "\n\nControl, a run of its own in which an early state is the best, killed in the last phase:\n\n"
        + table(["left out of the checkpoint", "tensors", "exit code of the resumed run", "result"], controls),
    )
    shutil.rmtree(folder)


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s")
