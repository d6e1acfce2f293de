"""Learning rates as pure functions of the step, so that any step can be entered without replaying those before it."""

from collections.abc import Mapping, Sequence
from math import cos, isfinite, pi
from typing import Any

from zoo.recipes import Monitor, Phase, Schedule

# fastai's and torch's defaults for the one-cycle policy (Smith and Topin 2017, arXiv:1708.07120): a rise from a 25th of
# the peak over a quarter of the steps, then a fall to a 10,000th of the peak.
_ONE_CYCLE_RISE = 0.25
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = 1e-4
_COSINE_WARMUP = 0.05
_PLATEAU_FACTOR = 0.1
_PLATEAU_EPOCHS = 3


def factor(schedule: Schedule, step: int, steps: int, *, warmup: float = 0.0) -> float:
    """The share of the peak learning rate that one step uses.

    Args:
        schedule: ``"cosine"`` falls to 0 along a cosine; ``"one-cycle"`` rises and falls along cosines; ``"constant"``
            and ``"plateau"`` are 1 throughout (for what the second does after each epoch see :func:`plateau_factor`).
        step: Counted from 0, below ``steps``.
        steps: Steps of the whole phase.
        warmup: Share of the steps on which the rate rises linearly first, 0–1, at least one step unless it is 0;
            ``"one-cycle"`` has its own rise.

    Returns:
        A number above 0 and at most 1.
    """
    if not 0 <= step < steps:
        raise ValueError(f"step {step} is not one of a phase's {steps} steps")
    if schedule == "one-cycle":
        return _one_cycle(step, steps)
    rise = max(1, round(warmup * steps)) if warmup else 0
    if step < rise:
        return (step + 1) / (rise + 1)
    return _between(1.0, 0.0, (step - rise) / (steps - rise)) if schedule == "cosine" else 1.0


def warmup_of(phase: Phase) -> float:
    """The share of a phase's steps on which the rate rises."""
    if phase.warmup == "auto":
        return _COSINE_WARMUP if phase.schedule == "cosine" else 0.0
    return float(phase.warmup)


def metric_of(monitor: Monitor) -> str:
    """The metric that ``"auto"`` stands for where nobody has chosen one for the task."""
    return "accuracy" if monitor == "auto" else monitor


def plateau_factor(phase: Phase, rows: Sequence[Mapping[str, Any]]) -> float:
    """What ``schedule = "plateau"`` multiplies the rate with after the phase's epochs so far; 1 for other schedules.

    Args:
        phase: Says for how many epochs the monitored metric may fail to get better.
        rows: The phase's part of the history.
    """
    if phase.schedule != "plateau":
        return 1.0
    patience = phase.plateau or _PLATEAU_EPOCHS
    factor, best, waited = 1.0, float("-inf"), 0
    for row in rows:
        value = goodness(row, phase.monitor)
        waited = waited + 1
        if value > best:
            best, waited = value, 0
        elif waited >= patience:
            factor, waited = factor * _PLATEAU_FACTOR, 0
    return factor


def goodness(row: Mapping[str, Any], monitor: Monitor) -> float:
    """The monitored metric of an epoch, larger being better; minus infinity where it is not a finite number."""
    value = row[f"val_{metric_of(monitor)}"]
    if value is None or not isfinite(value) or not isfinite(row["val_loss"]):
        return float("-inf")
    return -value if monitor == "loss" else float(value)


def _one_cycle(step: int, steps: int) -> float:
    peak = max(0.0, _ONE_CYCLE_RISE * steps - 1)
    if step < peak:
        return _between(_ONE_CYCLE_START, 1.0, step / peak)
    return _between(1.0, _ONE_CYCLE_END, (step - peak) / max(1.0, steps - 1 - peak))


def _between(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + cos(pi * progress)) / 2
