"""Learning rates as pure functions of the step, so that any step can be entered without replaying those before it."""

from math import cos, pi

from zoo.recipes import Schedule

# fastai's and torch's defaults for the one-cycle policy (Smith and Topin 2017, arXiv:1708.07120): a rise from a 25th of
# the peak over a quarter of the steps, then a fall to a 10,000th of the peak.
_ONE_CYCLE_RISE = 0.25
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = 1e-4


def factor(schedule: Schedule, step: int, steps: int, *, warmup: float = 0.0) -> float:
    """The share of the peak learning rate that one step uses.

    Args:
        schedule: ``"cosine"`` rises linearly, then falls to 0 along a cosine; ``"one-cycle"`` rises and falls along
            cosines; ``"constant"`` is 1 throughout.
        step: Counted from 0, below ``steps``.
        steps: Steps of the whole phase.
        warmup: Share of the steps on which ``"cosine"`` rises, 0–1; the others ignore it.

    Returns:
        A number above 0 and at most 1.
    """
    if not 0 <= step < steps:
        raise ValueError(f"step {step} is not one of a phase's {steps} steps")
    match schedule:
        case "constant":
            return 1.0
        case "cosine":
            return _cosine_with_warmup(step, steps, rise=round(warmup * steps))
        case "one-cycle":
            return _one_cycle(step, steps)


def _cosine_with_warmup(step: int, steps: int, *, rise: int) -> float:
    if step < rise:
        return (step + 1) / (rise + 1)
    return _between(1.0, 0.0, (step - rise) / (steps - rise))


def _one_cycle(step: int, steps: int) -> float:
    peak = max(0.0, _ONE_CYCLE_RISE * steps - 1)
    if step < peak:
        return _between(_ONE_CYCLE_START, 1.0, step / peak)
    return _between(1.0, _ONE_CYCLE_END, (step - peak) / max(1.0, steps - 1 - peak))


def _between(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + cos(pi * progress)) / 2
