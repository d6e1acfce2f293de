"""What checkpoints cost over a long training, and whether memory stays flat.

python benchmarks/checkpoints.py [--minutes 40]

One process trains a ResNet-18 on one thread with the default cadence until the time is up, as a run of that length
does. Time is counted inside the process, where the trainer waits for a checkpoint, and memory is read from the system
at the end of every epoch.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import WORK, photos, table, write_section
from results import machine

import zoo
from zoo.recipes import Phase
from zoo.training import Callback, Checkpoints, Snapshot

_EPOCHS = 100_000


class _TimeIsUp(Exception):  # noqa: N818
    """Ends the training."""


class Watch(Callback):
    """Notes memory at the end of every epoch, and ends the run when its time is up."""

    def __init__(self, seconds: float) -> None:
        self.began = time.perf_counter()
        self._until = self.began + seconds
        self.rows: list[dict[str, float]] = []

    def on_epoch_end(self, state: Any, row: Any) -> None:
        """Called by the trainer."""
        now = time.perf_counter()
        self.rows.append({"minutes": (now - self.began) / 60, "step": state.step, "mib": resident_mib()})
        if now > self._until:
            raise _TimeIsUp


def resident_mib() -> float:
    """Memory that this process holds now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS in /proc/self/status")


@dataclass(frozen=True)
class Cost:
    """One checkpoint: how long training waited for it, and its tensors' size."""

    seconds: float
    bytes: int


def noting_costs() -> list[Cost]:
    """Have every checkpoint add its cost to a list."""
    costs: list[Cost] = []
    write = Checkpoints.save

    def save(self: Checkpoints, step: int, snapshot: Snapshot) -> None:
        before = time.perf_counter()
        write(self, step, snapshot)
        costs.append(Cost(time.perf_counter() - before, sum(tensor.nbytes for tensor in snapshot.tensors.values())))

    Checkpoints.save = save  # type: ignore[method-assign]
    return costs


def slope_mib_per_hour(rows: list[dict[str, float]]) -> float:
    """Least-squares slope of memory over time."""
    fit = statistics.linear_regression([row["minutes"] / 60 for row in rows], [row["mib"] for row in rows])
    return fit.slope


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=40.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    WORK.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=WORK))
    watch = Watch(60 * options.minutes)
    costs = noting_costs()
    phase = Phase(epochs=_EPOCHS, train="all", lr=1e-4, schedule="constant", augment="light", batch_size=32, ema=0.999)
    with suppress(_TimeIsUp):
        zoo.finetune(
            photos(300, size=(96, 96)),
            model="resnet18",
            weights=None,
            recipe=[phase],
            image_size=64,
            device="cpu",
            callbacks=[watch],
            output=folder / "run",
        )
    seconds = time.perf_counter() - watch.began
    rows, waits = watch.rows, [cost.seconds for cost in costs]
    settled = rows[len(rows) // 10 :]
    points = [rows[round(share * (len(rows) - 1))] for share in (0, 0.1, 0.25, 0.5, 0.75, 1)]
    write_section(
        "What checkpoints cost",
        f"`python benchmarks/checkpoints.py {' '.join(sys.argv[1:])}`\n\n{machine()}; other work ran beside it. "
        f"ResNet-18 with a moving average and AdamW at 64 pixels, one thread, checkpoints at the default cadence.\n\n"
        f"**{len(costs)} checkpoints of {costs[-1].bytes / 1e6:.0f} MB in {seconds / 60:.1f} minutes "
        f"({rows[-1]['step']} steps): {sum(waits):.1f} s, {sum(waits) / seconds:.2%} of the time**; one takes "
        f"{statistics.median(waits):.2f} s (median), {max(waits):.2f} s at most. Memory changes by "
        f"{slope_mib_per_hour(settled):+.1f} MiB an hour after the first tenth.\n\n"
        + table(
            ["minutes", "steps", "resident memory, MiB"],
            [[f"{row['minutes']:.1f}", int(row["step"]), f"{row['mib']:.0f}"] for row in points],
        ),
    )
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
