"""Where the marks of the training curves go, in SVG user units; ``templates/charts.jinja`` draws them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.console import display_width

_Scale = Callable[[float], float]
_WIDTH, _HEIGHT = 460, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 46, 38
_MOST_DOTS = 40
# Average advance of a character of a system font, as a share of its size.
CHARACTER_ADVANCE = 0.58


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """One curve: ``lines`` are its unbroken stretches as SVG points, ``dots`` its values where they are few."""

    name: str
    kind: str
    lines: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Band:
    """A training phase: the stretch of the x axis that it takes."""

    left: float
    width: float
    label: str


@dataclass(frozen=True)
class Best:
    """The epoch that was kept: a ring on the validation curve, led by a line to its value in words."""

    x: float
    y: float
    label: str
    label_y: float
    anchor: str


@dataclass(frozen=True)
class Curves:
    """Training and validation values of one metric over the epochs."""

    name: str
    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bands: tuple[Band, ...]
    series: tuple[Line, ...]
    best: Best | None
    description: str


def curves(
    history: Sequence[Mapping[str, Any]], metric: str, *, phases: Sequence[str], best: int | None, percent: bool
) -> Curves | None:
    """Lay out one metric's curves of training and validation.

    Args:
        history: One row an epoch, in order, with ``train_<metric>``, ``val_<metric>`` (None where not measured) and
            ``phase``.
        metric: ``"loss"``, ``"accuracy"`` or ``"map"``.
        phases: What to call each phase, in the order in which they appear.
        best: Position in ``history`` of the epoch that was kept.
        percent: Values are shares, 0–1, to be shown as percentages.

    Returns:
        None where the history holds no value of the metric.
    """
    values = {kind: [row.get(f"{kind}_{metric}") for row in history] for kind in ("train", "val")}
    known = [value for column in values.values() for value in column if value is not None]
    if not known:
        return None
    ticks = nice_ticks(min(known), max(known), ceiling=1.0 if percent else None)
    low, high = ticks[0], ticks[-1]
    left, right, top, bottom = _LEFT, _WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM
    step = (right - left) / len(history)

    def x(position: float) -> float:
        return round(left + (position + 0.5) * step, 1)

    def y(value: float) -> float:
        return round(bottom - (value - low) / (high - low) * (bottom - top), 1)

    def shown(value: float, digits: int) -> str:
        return f"{100 * value:.{digits}f} %" if percent else f"{value:.{digits}f}"

    digits = _digits(100 * (ticks[1] - ticks[0]) if percent else ticks[1] - ticks[0])
    named = (("train", "training"), ("val", "validation"))
    series = tuple(_line(name, kind, values[kind], x, y) for kind, name in named if _any_known(values[kind]))
    mark = None
    if best is not None and (kept := values["val"][best]) is not None:
        share = (best + 0.5) / len(history)
        mark = Best(
            x=x(best),
            y=y(kept),
            label="kept: " + shown(kept, 1 if percent else 3),
            # Losses end low and accuracies high: the other edge is free for the label.
            label_y=bottom - 8 if percent else top + 14,
            anchor="start" if share < 0.15 else "end" if share > 0.85 else "middle",
        )
    count = len(history)
    last = [(name, values[kind][-1]) for kind, name in named]
    ends = [f"{name} {shown(value, 1 if percent else 3)}" for name, value in last if value is not None]
    description = f"{metric} over {count} epoch{'s' * (count != 1)}. At the end: {', '.join(ends) or 'not measured'}."
    if mark is not None and best is not None:
        description += f" Epoch {best + 1} was {mark.label.replace(':', ', validation')}."
    return Curves(
        name=metric,
        width=_WIDTH,
        height=_HEIGHT,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        x_ticks=tuple(Tick(x(epoch - 1), str(epoch)) for epoch in epoch_ticks(count)),
        y_ticks=tuple(Tick(y(tick), shown(tick, digits)) for tick in ticks),
        bands=_bands(history, phases, left, step),
        series=series,
        best=mark,
        description=description,
    )


def nice_ticks(low: float, high: float, *, ceiling: float | None = None) -> list[float]:
    """Round values, 3 to 7 of them and evenly spaced, that enclose ``low`` to ``high``.

    Args:
        low: Smallest value to show.
        high: Largest value to show.
        ceiling: No tick lies above it; needs ``high`` to be at most that.
    """
    least = 0 if low >= 0 else -math.inf
    if high - low < 1e-3 * max(abs(high), 1e-3):
        spread = max(0.05 * abs(high), 0.01)
        low, high = low - spread, high + spread
    if ceiling is not None:
        high = min(high, ceiling)
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    # Losses and accuracies start at 0: an axis without negative values does not go below it.
    first = max(math.floor(low / step + 1e-9), least)
    last = math.ceil(high / step - 1e-9)
    ticks = [round(index * step, 10) for index in range(int(first), last + 1)]
    return [tick for tick in ticks if ceiling is None or tick <= ceiling + 1e-9]


def epoch_ticks(count: int) -> list[int]:
    """Epochs to name on an axis of ``count`` epochs, about eight of them, counted from 1."""
    step = next(factor * 10**power for power in range(10) for factor in (1, 2, 5) if count / (factor * 10**power) <= 10)
    return list(range(step, count + 1, step)) if count else []


def _any_known(values: Sequence[float | None]) -> bool:
    """Whether there is a value to draw."""
    return any(value is not None for value in values)


def _line(name: str, kind: str, values: Sequence[float | None], x: _Scale, y: _Scale) -> Line:
    stretches: list[list[tuple[float, float]]] = [[]]
    for position, value in enumerate(values):
        if value is None:
            stretches.append([])
        else:
            stretches[-1].append((x(position), y(value)))
    lines = tuple(" ".join(f"{a},{b}" for a, b in stretch) for stretch in stretches if len(stretch) > 1)
    dots = tuple(dot for stretch in stretches for dot in stretch if len(values) <= _MOST_DOTS or len(stretch) == 1)
    return Line(name, kind, lines, dots)


def _bands(history: Sequence[Mapping[str, Any]], phases: Sequence[str], left: float, step: float) -> tuple[Band, ...]:
    starts = [i for i, row in enumerate(history) if i == 0 or row.get("phase") != history[i - 1].get("phase")]
    if len(starts) < 2:
        return ()
    bands = []
    for order, (start, end) in enumerate(zip(starts, [*starts[1:], len(history)], strict=True)):
        width = (end - start) * step
        label = phases[order] if order < len(phases) else f"phase {order + 1}"
        if display_width(label) * CHARACTER_ADVANCE * 11 > width - 6:
            label = str(order + 1)
        bands.append(Band(round(left + start * step, 1), round(width, 1), label))
    return tuple(bands)


def _digits(step: float) -> int:
    """Decimals that tell ticks of this distance apart."""
    digits = 0
    while digits < 6 and abs(round(step, digits) - step) > 1e-9:
        digits += 1
    return digits
