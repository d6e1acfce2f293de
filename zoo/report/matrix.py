"""Where the cells of a confusion matrix go, in SVG user units; ``templates/charts.jinja`` draws them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zoo.console import display_width
from zoo.report.charts import CHARACTER_ADVANCE

MOST_MATRIX_CLASSES = 40
_LABEL_FONT = 12
_LABEL_COLUMNS = 18


@dataclass(frozen=True)
class Cell:
    """One count of a confusion matrix; ``shade`` is the opacity of its colour, 0–1."""

    x: float
    y: float
    count: int
    shade: float
    right: bool
    font: float
    tooltip: str


@dataclass(frozen=True)
class Label:
    """The name of a row or column, cut to what fits; ``full`` is the whole name."""

    at: float
    text: str
    full: str


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix as a heat map."""

    width: float
    height: float
    narrowest: float
    left: float
    top: float
    cell: float
    side: float
    label_font: float
    turned: bool
    cells: tuple[Cell, ...]
    rows: tuple[Label, ...]
    columns: tuple[Label, ...]
    description: str


def matrix(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> Matrix:
    """Lay out a confusion matrix of 1 to ``MOST_MATRIX_CLASSES`` classes.

    Args:
        confusion: Counts, rows true, columns predicted.
        classes: Names of the rows and columns.
    """
    count = len(confusion)
    cell = float(min(76, max(20, 480 // count)))
    label_font = _LABEL_FONT if cell >= 18 else 10
    texts = [shortened(name) for name in classes]
    longest = max(display_width(text) for text in texts) * CHARACTER_ADVANCE * label_font
    turned = longest > cell - 6
    left = round(longest + 34, 1)
    # A label turned by 45 degrees needs its length over the root of two above, and as much beside the last column.
    slant = (longest + label_font) * math.sqrt(0.5)
    top = round((slant if turned else label_font) + 32, 1)
    side = cell * count
    most_digits = len(str(max(map(max, confusion))))
    font = round(min(cell * 0.42, cell * 0.92 / (0.6 * most_digits), 18.0), 1)
    cells = []
    for true, row in enumerate(confusion):
        total = sum(row)
        for predicted, number in enumerate(row):
            if not number:
                continue
            right = true == predicted
            share = number / total
            # The root lifts rare mistakes out of the background.
            shade = 0.08 + 0.92 * share if right else 0.12 + 0.88 * math.sqrt(share)
            verb = "recognised" if right else f"taken for {classes[predicted]}"
            tooltip = f"{classes[true]} {verb}: {number} of {total} ({100 * share:.1f} %)"
            cells.append(
                Cell(left + predicted * cell, top + true * cell, number, round(shade, 3), right, font, tooltip)
            )
    labels = list(zip(texts, classes, strict=True))
    wrong = sum(map(sum, confusion)) - sum(row[index] for index, row in enumerate(confusion))
    width = round(left + side + (max(8.0, slant - cell / 2) if turned else 8.0), 1)
    return Matrix(
        width=width,
        height=round(top + side + 8, 1),
        narrowest=round(min(width, width * max(7 / font, 0.5))),
        left=left,
        top=top,
        cell=cell,
        side=side,
        label_font=label_font,
        turned=turned,
        cells=tuple(cells),
        rows=tuple(Label(round(top + (index + 0.5) * cell, 1), *label) for index, label in enumerate(labels)),
        columns=tuple(Label(round(left + (index + 0.5) * cell, 1), *label) for index, label in enumerate(labels)),
        description=f"{count} true classes in rows, {count} predicted classes in columns; "
        f"{wrong} of {sum(map(sum, confusion))} images lie off the diagonal and are mistakes.",
    )


def shortened(name: str) -> str:
    """A label of at most ``_LABEL_COLUMNS`` columns, cut in the middle so that both ends can be told apart."""
    if display_width(name) <= _LABEL_COLUMNS:
        return name
    head = tail = ""
    for index, character in enumerate(name):
        if display_width(head + character + tail) >= _LABEL_COLUMNS:
            break
        head += character
        last = name[-1 - index]
        if display_width(head + last + tail) < _LABEL_COLUMNS:
            tail = last + tail
    return f"{head}…{tail}"
