"""What the figures of a run say, in numbers and words: the headline, its uncertainty, the confusions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Headline:
    """The one result to read first.

    Attributes:
        split: ``"test"``, or ``"val"`` where there is no test split.
        accuracy: Share of images labelled correctly, with several labels an image those with every label right, 0–1.
        images: How many images that is measured on, 0 where unknown.
        right: How many were labelled correctly.
        low: Lower end of the 95 % interval of the accuracy, 0–1.
        high: Upper end.
        majority: Accuracy of always naming the most common class or set of labels, 0–1; None where unknown.
        map: Mean average precision, 0–1, of a multi-label model; None for others.
    """

    split: str
    accuracy: float
    images: int
    right: int
    low: float
    high: float
    majority: float | None
    map: float | None = None


@dataclass(frozen=True)
class Confusion:
    """Images of one class taken for another: ``count`` of the ``of`` images of the true class."""

    true: str
    predicted: str
    count: int
    of: int


def wilson_interval(right: int, images: int) -> tuple[float, float]:
    """95 % interval of a share, by Wilson's score (1927), which stays inside 0–1 and suits few images.

    Args:
        right: Successes, 0 to ``images``.
        images: Trials, at least 1.

    Returns:
        Lower and upper end, 0–1.
    """
    share, z2 = right / images, _Z_95**2
    centre = (share + z2 / (2 * images)) / (1 + z2 / images)
    half = _Z_95 * math.sqrt(share * (1 - share) / images + z2 / (4 * images**2)) / (1 + z2 / images)
    # At the ends the bounds are exact; rounding would put them a hair beside.
    return (0.0 if right == 0 else centre - half, 1.0 if right == images else centre + half)


def headline(results: Mapping[str, Any]) -> Headline | None:
    """The test result, else the validation result, else None.

    Args:
        results: Split name to metrics with ``accuracy`` and, where known, ``confusion`` (rows true) or ``per_class``.
    """
    for split in ("test", "val"):
        report = results.get(split) or {}
        accuracy = report.get("accuracy")
        if accuracy is None:
            continue
        confusion = report.get("confusion") or []
        images = image_count(report)
        right = sum(row[index] for index, row in enumerate(confusion)) if confusion else round(accuracy * images)
        low, high = wilson_interval(right, images) if images else (0.0, 1.0)
        supports = [sum(row) for row in confusion] or [row.get("support") or 0 for row in report.get("per_class") or []]
        majority = report.get("majority_accuracy")
        if majority is None and images:
            majority = max(supports) / images
        return Headline(split, accuracy, images, right, low, high, majority, report.get("map"))
    return None


def image_count(report: Mapping[str, Any]) -> int:
    """How many images a split's metrics were taken on, 0 where that is not known."""
    if "map" in report:  # the labels' images overlap
        return int(report["count"])
    if confusion := report.get("confusion"):
        return int(sum(map(sum, confusion)))
    return int(sum(row.get("support") or 0 for row in report.get("per_class") or []))


def confused_pairs(confusion: Sequence[Sequence[int]], classes: Sequence[str], *, most: int) -> list[Confusion]:
    """The pairs of classes that are mistaken most often, the most frequent first.

    Args:
        confusion: Counts, rows true, columns predicted.
        classes: Names of the rows.
        most: Length of the list at most.
    """
    pairs = [
        Confusion(classes[true], classes[predicted], count, sum(row))
        for true, row in enumerate(confusion)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.count / pair.of))[:most]
