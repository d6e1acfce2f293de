"""Running a module on batches without training it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from zoo.errors import DataError
from zoo.faults import fault
from zoo.progress import Progress, Silent
from zoo.training.batches import Batch, Batches
from zoo.training.engine import Engine, Features, out_of_memory

Front = Callable[[Batch, bool], Features]
"""Maps a batch on the device, and whether it trains, to what the module is fed; applied without gradients."""


def inputs_of(batch: Batch, training: bool) -> Features:
    """The front for batches that are ready for the module: their inputs as they are."""
    return batch.inputs


def predict_logits(
    module: nn.Module,
    batches: Batches,
    *,
    engine: Engine,
    front: Front = inputs_of,
    label: str = "predicting",
    progress: Progress = Silent(),
) -> tuple[Tensor, Tensor]:
    """The logits of every sample, in the order of the batches and without padding.

    Args:
        module: Maps features to logits; put into eval mode and left there.
        batches: Their epoch 0 is run.
        engine: Device and numerics; the module is placed on it.
        front: What happens to a batch before the module.
        label: What to call the work.
        progress: Told of each batch.

    Returns:
        Logits, float32 ``(N, K)``, and targets, int64 ``(N,)`` or float ``(N, K)``, both on the CPU. Several processes
        take different batches and get all rows, each at its index in the data set.

    Raises:
        DataError: There are no batches.
    """
    engine.place(module)
    module.eval()
    results: list[tuple[Tensor, Tensor]] = []
    indices: list[Tensor] = []
    with engine.reproducible(), progress.task(label, len(batches), unit="batches") as advance:
        for batch in batches.epoch(0):
            results.append(infer(module, batch, engine=engine, front=front))
            indices.append(batch.indices[: batch.count])
            advance(1)
    logits, targets = (torch.cat(parts).cpu() for parts in zip(*results, strict=True)) if results else (None, None)
    if engine.world_size > 1:
        positions = torch.cat(indices) if indices else torch.empty(0, dtype=torch.int64)
        logits, targets = (_gathered(part, positions, engine) for part in (logits, targets))
    if logits is None or targets is None:
        raise DataError("there are no images to predict.")
    return logits, targets


def _gathered(part: Tensor | None, positions: Tensor, engine: Engine) -> Tensor | None:
    """The rows of all processes, each at its position; None where no process has any."""
    count, columns, whole = engine.largest(
        0 if part is None else int(positions.max()) + 1,
        0 if part is None or part.ndim == 1 else part.shape[1],
        0 if part is None else int(not part.is_floating_point()),
    )
    if not count:
        return None
    rows = torch.zeros(
        (count, columns) if columns else (count,), dtype=torch.int64 if whole else torch.float32, device="cpu"
    )
    if part is not None:
        rows[positions] = part
    return engine.all_sum(rows)


def infer(module: nn.Module, batch: Batch, *, engine: Engine, front: Front) -> tuple[Tensor, Tensor]:
    """Float32 logits and targets of a batch's samples, on the device; in halves where memory is too small."""
    batch = engine.to_device(batch)
    logits = _logits(module, batch, engine=engine, front=front)
    return logits[: batch.count].float(), batch.targets[: batch.count]


def _logits(module: nn.Module, batch: Batch, *, engine: Engine, front: Front) -> Tensor:
    rows = len(batch.targets)
    try:
        fault("inference")
        with torch.inference_mode(), engine.autocast():
            logits: Tensor = module(engine.lay_out(front(batch, False)))
            return logits
    except RuntimeError as error:
        if rows == 1 or not out_of_memory(error):
            raise
    # Out of the handler, whose error keeps the memory of the attempt.
    halves = (batch.rows(0, rows // 2), batch.rows(rows // 2, rows))
    return torch.cat([_logits(module, half, engine=engine, front=front) for half in halves])
