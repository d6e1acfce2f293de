"""One process against two and four on one machine: equal curves, time an epoch, and what limits it.

python benchmarks/processes.py [--quick]

The same ResNet-18, images, order and steps with 1, 2 and 4 processes over gloo, one thread each, in float32; once with
BatchNorm at rest and once with BatchNorm that trains. How far rounding alone takes a run from itself is shown by one
process with two threads.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import WORK, photos, table, weights, write_section
from results import machine

_RECIPE = """schema = 1
[recipes.rest]
phases = [{{epochs = {epochs}, train = "all", lr = 1e-4, batch_size = 32, mixup = 0.2, batch_norm = "eval"}}]
[recipes.moving]
phases = [{{epochs = {epochs}, train = "all", lr = 1e-4, batch_size = 32, mixup = 0.2, batch_norm = "train"}}]
"""
# How long the processes take to add up as much as a step's gradients.
_ALL_REDUCE = """
import json, statistics, sys, time
import torch, torch.distributed as dist
dist.init_process_group("gloo")
gradients = torch.ones(int(sys.argv[1]))
times = []
for _ in range(12):
    dist.barrier()
    started = time.perf_counter()
    dist.all_reduce(gradients)
    times.append(time.perf_counter() - started)
if dist.get_rank() == 0:
    print(json.dumps({"seconds": statistics.median(times[2:])}))
dist.destroy_process_group()
"""
_PARAMETERS = 11_181_642  # of ResNet-18 with ten classes
# Losses of an epoch with several processes against those with one. They add in another order, and each step makes the
# difference larger: AdamW divides gradients by their size.
_TOLERANCE = 5e-3


def trained(folder: Path, data: Path, recipe: str, processes: int, *, threads: int = 1) -> list[dict[str, Any]]:
    """Train, and give the rows of ``metrics.jsonl`` with the test figures in the last."""
    output = folder / f"{recipe}-{processes}-{threads}"
    launch = ["launch", "-n", str(processes)] if processes > 1 else []
    words = [*launch, "finetune", data, "--model", "resnet18", "--weights", weights("resnet18"), "--recipe", recipe]
    words += ["--registry", folder / "registry.toml", "--image-size", "64", "--device", "cpu", "--precision", "float32"]
    words += ["--output", output, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "zoo", *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "ZOO_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    rows: list[dict[str, Any]] = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    rows[-1]["test"] = json.loads(done.stdout)["test"]
    print(recipe, processes, threads, [round(row["train_loss"], 5) for row in rows], flush=True)
    return rows


def all_reduce_s(processes: int) -> float:
    """Seconds to add up gradients of a ResNet-18."""
    script = WORK / "all_reduce.py"
    script.write_text(_ALL_REDUCE)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), script, _PARAMETERS]
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    return float(json.loads(done.stdout)["seconds"])


def largest_difference(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> float:
    """The largest relative difference of a training or validation loss."""
    keys = ("train_loss", "val_loss")
    return max(abs(a[key] / b[key] - 1) for a, b in zip(rows, others, strict=True) for key in keys)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=WORK))
    images, epochs = (100, 2) if options.quick else (300, 4)
    data = photos(images, size=(96, 96))
    (folder / "registry.toml").write_text(_RECIPE.format(epochs=epochs))
    found = {
        (recipe, processes): trained(folder, data, recipe, processes)
        for recipe in ("rest", "moving")
        for processes in (1, 2, 4)
    }
    two_threads = trained(folder, data, "rest", 1, threads=2)
    steps = found["rest", 1][0]["step"]

    def seconds(rows: list[dict[str, Any]]) -> float:
        return statistics.median(row["seconds"] for row in rows[1:])

    rounding = f"{largest_difference(two_threads, found['rest', 1]):.1e}"
    pace = f"{seconds(two_threads):.2f}", f"{seconds(two_threads) / steps * 1e3:.0f}"
    lines = [["1 process, 2 threads", *pace, "", rounding, "", ""]]
    worst = 0.0
    for processes in (1, 2, 4):
        rest, moving = found["rest", processes], found["moving", processes]
        off, moved = (largest_difference(rows, found[name, 1]) for name, rows in (("rest", rest), ("moving", moving)))
        worst = max(worst, off)
        same = rest[-1]["test"]["confusion"] == found["rest", 1][-1]["test"]["confusion"]
        lines.append(
            [
                f"{processes} process{'es' * (processes > 1)}, 1 thread each",
                f"{seconds(rest):.2f}",
                f"{seconds(rest) / steps * 1e3:.0f}",
                f"{all_reduce_s(processes) * 1e3:.0f}" if processes > 1 else "",
                f"{off:.1e}" if processes > 1 else "",
                "equal" if same else "differ",
                f"{moved:.1e}" if processes > 1 else "",
            ]
        )
    curves = [
        [
            f"{name}, {processes}",
            *(f"{row['train_loss']:.5f}" for row in rows),
            *(f"{row['val_loss']:.5f}" for row in rows),
        ]
        for (name, processes), rows in found.items()
    ]
    heads = [
        "BatchNorm, processes",
        *(f"train {n + 1}" for n in range(epochs)),
        *(f"val {n + 1}" for n in range(epochs)),
    ]
    write_section(
        "One process and several" + " (quick)" * options.quick,
        f"`python benchmarks/processes.py {' '.join(sys.argv[1:])}`\n\n{machine()}. ResNet-18 at 64 pixels, float32, "
        f"{images} images, steps of 32 images whatever the number of processes, mixup, {epochs} epochs, gloo.\n\n"
        f"With BatchNorm at rest the losses of several processes are within {worst:.1e} of those of one (tolerance "
        f"{_TOLERANCE:.0e}: **{'met' if worst <= _TOLERANCE else 'NOT MET'}**).\n\n"
        + table(
            [
                "",
                "s an epoch",
                "ms a step",
                "ms to add up gradients",
                "largest difference of a loss, BatchNorm at rest",
                "test figures",
                "the same, BatchNorm trains",
            ],
            lines,
        )
        + "\n\n"
        + table(heads, curves),
    )
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
