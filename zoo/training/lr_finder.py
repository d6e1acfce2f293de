"""A learning rate by trying them: the range test of Smith (2017, arXiv:1506.01186)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

import numpy as np
import torch

from zoo.recipes import Phase
from zoo.training.batches import Batch, Batches
from zoo.training.engine import make_optimizer
from zoo.training.trainer import Trainer

_LOWEST, _HIGHEST = 1e-6, 10.0
# Losses of single steps are noisy: each is averaged with its neighbours, this many steps being one standard deviation.
_SMOOTHING_STEPS = 4.0
# The first steps, when momentum and scales of the optimizer settle, say nothing about the rate.
_SETTLING = 0.1
# A loss so many times the first one has left the range where a rate could be.
_DIVERGED = 4.0


@dataclass(frozen=True)
class LrCurve:
    """What the loss does while the rate grows.

    Attributes:
        rates: Of the head, growing by the same factor each step.
        losses: Training losses, smoothed, as many.
        suggestion: Half-way, by ratio, from the rate at which the loss falls most steeply to the one where it is
            lowest: the first is careful for the peak of a rate that falls again, and at the second it begins to
            diverge. On a ResNet-20 it is what was found by hand: 0.04 for the head alone, 0.003 for everything.
            None where no rate made the loss fall.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float | None


def find_lr(
    trainer: Trainer,
    train: Batches,
    *,
    phase: Phase,
    groups: Sequence[dict[str, Any]],
    set_mode: Callable[[], None],
    steps: int = 100,
) -> LrCurve:
    """Train for some steps with a growing rate, then put everything back. Equal calls give equal curves.

    Args:
        trainer: Of the module that the phase trains.
        train: Its training batches, taken as often as needed.
        phase: Optimizer, clipping and mixing.
        groups: Parameters with their decays and with learning rates relative to the head's, which is 1.
        set_mode: Puts every layer into the mode it trains in.
        steps: At most so many are taken; it ends early where the loss runs away.
    """
    with torch.no_grad():
        tensors = [*trainer.module.parameters(), *trainer.module.buffers()]
        kept = [tensor.detach().clone() for tensor in tensors]
    optimizer = make_optimizer([{**group, "relative_lr": group["lr"]} for group in groups], phase)
    stepper = trainer.stepper(optimizer, phase)
    rates: list[float] = []
    losses: list[float] = []
    try:
        set_mode()
        with trainer.engine.reproducible(), trainer.progress.task("finding a learning rate", steps, unit="steps") as go:
            for step, batch in enumerate(islice(_endless(train), steps)):
                rate = _LOWEST * (_HIGHEST / _LOWEST) ** (step / max(1, steps - 1))
                for group in optimizer.param_groups:
                    group["lr"] = group["relative_lr"] * rate
                loss, _, samples, finite = stepper(batch, step=step).tolist()
                if not finite:
                    break
                rates.append(rate)
                losses.append(loss / samples)
                go(1)
                if losses[-1] > _DIVERGED * losses[0]:
                    break
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, kept, strict=True):
                tensor.copy_(value)
    smooth = _smoothed(losses)
    return LrCurve(tuple(rates), tuple(smooth), _suggested(rates, smooth))


def _endless(train: Batches) -> Iterator[Batch]:
    for epoch in count():
        for batch in train.epoch(epoch):
            yield replace(batch, epoch=epoch)


def _smoothed(losses: Sequence[float]) -> list[float]:
    """Each loss averaged with those around it, so that the curve is not late as a running average would be."""
    steps = np.arange(len(losses))
    weights = np.exp(-(((steps[:, None] - steps) / _SMOOTHING_STEPS) ** 2) / 2)
    means: list[float] = (weights @ np.asarray(losses, dtype=np.float64) / weights.sum(axis=1)).tolist()
    return means


def _suggested(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    first = int(_SETTLING * len(losses))
    lowest = min(range(first, len(losses)), key=lambda i: losses[i], default=first)
    falls = {i: losses[i - 1] - losses[i + 1] for i in range(first + 1, min(lowest, len(losses) - 1))}
    if not falls or max(falls.values()) <= 0:
        return None
    steepest = max(falls, key=lambda i: falls[i])
    return rates[(steepest + lowest) // 2]
