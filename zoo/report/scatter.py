"""The picture of a comparison: what each model gets right against how long it takes, one SVG file."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from zoo.console import display_width, printable
from zoo.report.charts import CHARACTER_ADVANCE, nice_ticks

_WIDTH, _HEIGHT = 680, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 24, 44, 48
_FONT = 12
_LONGEST_NAME = 40
_Scale = Callable[[float], float]


@dataclass(frozen=True)
class _Dot:
    x: float
    y: float
    low: float
    high: float
    name: str
    title: str
    on_front: bool
    label_x: float
    label_y: float
    anchor: str


def draw_comparison(rows: Sequence[Mapping[str, Any]], *, metric: str = "accuracy") -> str:
    """Accuracy with its standard error against the time for one image, which is on a logarithmic axis.

    Args:
        rows: One a model: ``model``, ``accuracy`` (0–1), ``standard_error`` (or None), ``latency_ms``, ``on_front``.
        metric: What the accuracy is, in words.

    Returns:
        An SVG document that is readable in a light and in a dark surrounding.
    """
    spread = [row["standard_error"] or 0.0 for row in rows]
    low: float = min(row["accuracy"] - error for row, error in zip(rows, spread, strict=True))
    high: float = max(row["accuracy"] + error for row, error in zip(rows, spread, strict=True))
    y_ticks = nice_ticks(max(0.0, low), min(1.0, high), ceiling=1.0)
    bottom, top = min(y_ticks[0], low), max(y_ticks[-1], min(1.0, high))
    times = [math.log10(float(row["latency_ms"])) for row in rows]
    margin = 0.08 * max(0.3, max(times) - min(times))
    first, last = min(times) - margin, max(times) + margin

    def x(milliseconds: float) -> float:
        share: float = (math.log10(milliseconds) - first) / (last - first)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(accuracy: float) -> float:
        share = (min(max(accuracy, bottom), top) - bottom) / max(1e-9, top - bottom)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    placed: list[tuple[float, float, float, float]] = []
    dots = []
    for row, error in sorted(zip(rows, spread, strict=True), key=lambda pair: -pair[0]["accuracy"]):
        dots.append(_dot(row, error, x, y, placed))
    front = sorted((dot.x, dot.y) for dot in dots if dot.on_front)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("zoo.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    best = max(rows, key=lambda row: row["accuracy"])
    return environment.get_template("scatter.svg.jinja").render(
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_WIDTH - _RIGHT,
        top=_TOP,
        bottom=_HEIGHT - _BOTTOM,
        font=_FONT,
        metric=metric,
        dots=dots,
        front=" ".join(f"{a},{b}" for a, b in front),
        y_ticks=[(y(tick), f"{100 * tick:g} %") for tick in y_ticks],
        x_ticks=[(x(tick), f"{tick:g}") for tick in _time_ticks(10**first, 10**last)],
        description=f"{len(rows)} models. The best is {_short(best['model'])} with {best['accuracy']:.1%}.",
    )


def _dot(
    row: Mapping[str, Any], error: float, x: _Scale, y: _Scale, placed: list[tuple[float, float, float, float]]
) -> _Dot:
    """A model's mark, its label at the first of a few places where it covers no other."""
    name = _short(row["model"])
    at_x, at_y = x(row["latency_ms"]), y(row["accuracy"])
    width = display_width(name) * _FONT * CHARACTER_ADVANCE
    places = [(9, 4, "start"), (-9, 4, "end"), (9, -9, "start"), (9, 17, "start"), (-9, -9, "end"), (-9, 17, "end")]
    places += [(9, 30, "start"), (9, -22, "start"), (-9, 30, "end"), (-9, -22, "end")]
    chosen = places[0]
    for dx, dy, anchor in places:
        left = at_x + dx - (width if anchor == "end" else 0)
        box = (left, at_y + dy - _FONT, left + width, at_y + dy + 3)
        inside = box[0] >= _LEFT and box[2] <= _WIDTH and box[1] >= _TOP - 20 and box[3] <= _HEIGHT - _BOTTOM + 4
        if inside and not any(_overlap(box, other) for other in placed):
            chosen = (dx, dy, anchor)
            placed.append(box)
            break
    placed.append((at_x - 5, at_y - 5, at_x + 5, at_y + 5))
    dx, dy, anchor = chosen
    title = f"{printable(row['model'])}: {row['accuracy']:.2%}"
    title += f" ± {error:.2%}" if row["standard_error"] is not None else ""
    return _Dot(
        x=at_x,
        y=at_y,
        low=y(row["accuracy"] - error),
        high=y(row["accuracy"] + error),
        name=name,
        title=f"{title}, {row['latency_ms']:.1f} ms",
        on_front=row["on_front"],
        label_x=at_x + dx,
        label_y=at_y + dy,
        anchor=anchor,
    )


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _time_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two times."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [round(step * 10.0**power, 9) for power in powers for step in (1, 2, 5)]
    return [tick for tick in ticks if low <= tick <= high]


def _short(model: object) -> str:
    text = printable(model)
    return text if len(text) <= _LONGEST_NAME else "…" + text[1 - _LONGEST_NAME :]
