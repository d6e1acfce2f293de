"""The picture of a learning rate's measurement: one SVG file."""

import math

import jinja2

from zoo.report.charts import nice_ticks
from zoo.training.lr_finder import LrCurve

_WIDTH, _HEIGHT = 560, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 40, 44


def draw_lr_curve(curve: LrCurve) -> str:
    """The loss against the learning rate, which grows along a logarithmic axis, with the suggestion marked.

    Args:
        curve: From :func:`zoo.training.lr_finder.find_lr`, with a suggestion.

    Returns:
        An SVG document that is readable in a light and in a dark surrounding.
    """
    assert curve.suggestion is not None
    # A loss that runs away would flatten all the rest.
    highest = min(max(curve.losses), 1.5 * max(curve.losses[0], min(curve.losses)))
    ticks = nice_ticks(min(curve.losses), highest)
    low, high = ticks[0], max(ticks[-1], highest)
    first, last = math.log10(curve.rates[0]), math.log10(curve.rates[-1])

    def x(rate: float) -> float:
        share = (math.log10(rate) - first) / max(1e-9, last - first)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(loss: float) -> float:
        share = (min(loss, high) - low) / max(1e-12, high - low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("zoo.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("lr_curve.svg.jinja").render(
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_WIDTH - _RIGHT,
        top=_TOP,
        bottom=_HEIGHT - _BOTTOM,
        points=" ".join(f"{x(rate)},{y(loss)}" for rate, loss in zip(curve.rates, curve.losses, strict=True)),
        x_ticks=[(x(10.0**power), f"1e{power}") for power in range(math.ceil(first), math.floor(last) + 1)],
        y_ticks=[(y(tick), f"{tick:g}") for tick in ticks],
        suggestion=x(curve.suggestion),
        label=f"{curve.suggestion:.2g}",
        label_anchor="end" if x(curve.suggestion) > _WIDTH / 2 else "start",
    )
