"""A learning rate by trying them: the range test of Smith (2017, arXiv:1506.01186)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

import torch

from zoo.errors import TrainingError
from zoo.recipes import Phase
from zoo.training.batches import Batch, Batches
from zoo.training.engine import make_optimizer
from zoo.training.trainer import Trainer

_LOWEST, _HIGHEST = 1e-6, 10.0
_SMOOTHING = 0.95
# A loss so many times the best one has left the range where a rate could be.
_DIVERGED = 4.0


@dataclass(frozen=True)
class LrCurve:
    """What the loss does while the rate grows.

    Attributes:
        rates: Of the head, growing by the same factor each step.
        losses: Training losses, smoothed, as many.
        suggestion: A rate of the long fall before the lowest loss.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float


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

    Raises:
        TrainingError: The loss never fell.
    """
    with torch.no_grad():
        tensors = [*trainer.module.parameters(), *trainer.module.buffers()]
        kept = [tensor.detach().clone() for tensor in tensors]
    optimizer = make_optimizer([{**group, "relative_lr": group["lr"]} for group in groups], phase)
    stepper = trainer.stepper(optimizer, phase)
    rates: list[float] = []
    losses: list[float] = []
    average = 0.0
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
                average = _SMOOTHING * average + (1 - _SMOOTHING) * loss / samples
                rates.append(rate)
                losses.append(average / (1 - _SMOOTHING ** (step + 1)))
                go(1)
                if losses[-1] > _DIVERGED * min(losses):
                    break
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, kept, strict=True):
                tensor.copy_(value)
    return LrCurve(tuple(rates), tuple(losses), _valley(rates, losses))


def _endless(train: Batches) -> Iterator[Batch]:
    for epoch in count():
        for batch in train.epoch(epoch):
            yield replace(batch, epoch=epoch)


def _valley(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The rate two thirds into the longest stretch of falling losses, as fastai's ``valley`` takes it."""
    lengths = [1] * len(losses)
    begins = list(range(len(losses)))
    for i in range(len(losses)):
        for j in range(i):
            if losses[j] > losses[i] and lengths[i] < lengths[j] + 1:
                lengths[i], begins[i] = lengths[j] + 1, begins[j]
    end = max(range(len(losses)), key=lambda i: lengths[i], default=0)
    if not losses or lengths[end] < 3:
        raise TrainingError("no learning rate made the loss fall: give one with --lr, and look at the data.")
    begin = begins[end]
    third = (end - begin) / 3
    return rates[begin + int(third) + int(third / 2)]
