"""Figures of a model that gives any number of labels, and the thresholds that it gives them by."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import DataError, TrainingError
from zoo.training.scoring import average_precisions, ranking

EVEN = 0.5
"""The threshold of a label that nothing is known about."""


def label_report(
    logits: Tensor, targets: Tensor, classes: Sequence[str], thresholds: Sequence[float]
) -> dict[str, Any]:
    """What a multi-label model gets right, in plain numbers that JSON can hold.

    Precision, recall and F1 are 0 where nothing was predicted or nothing is there, as in scikit-learn with
    ``zero_division=0``; their means over the labels weigh each label of ``classes`` the same.

    Args:
        logits: ``(N, K)``, N at least 1.
        targets: ``(N, K)`` of 0 and 1.
        classes: Names of the K labels.
        thresholds: The probability of each label, 0–1, from which on it is given.

    Returns:
        ``count``, ``loss`` (mean binary cross-entropy), ``accuracy`` (share of images with every label right, also
        called subset accuracy), ``label_accuracy`` (share of single decisions that are right), ``map`` (mean average
        precision over the labels that are there; None where none is), ``precision``, ``recall`` and ``f1`` (means over
        labels), ``micro_precision``, ``micro_recall`` and ``micro_f1`` (over all decisions together),
        ``majority_accuracy`` (that of always giving the most frequent set of labels) and ``per_class`` (``class``,
        ``precision``, ``recall``, ``f1``, ``support``, ``average_precision`` and ``auroc``, None where undefined, and
        ``threshold`` of each). Shares are 0–1.

    Raises:
        DataError: There are no samples.
        TrainingError: A logit is not finite.
    """
    logits, targets = logits.detach().cpu().double(), targets.cpu().double()
    _check(logits, targets, classes, thresholds)
    true, predicted = targets > 0.5, decisions(logits.sigmoid(), thresholds)
    right = (true & predicted).sum(0).double()
    support, found = true.sum(0).double(), predicted.sum(0).double()
    precision, recall, f1 = _share(right, found), _share(right, support), _share(2 * right, support + found)
    all_right, all_support, all_found = right.sum(), support.sum(), found.sum()
    present = support > 0
    averages = average_precisions(logits, targets)
    areas = areas_under_roc(logits, targets)
    _, sets = torch.unique(true, dim=0, return_counts=True)
    columns = (classes, precision, recall, f1, support, averages, areas, thresholds)
    return {
        "count": len(targets),
        "loss": float(nn.functional.binary_cross_entropy_with_logits(logits, targets)),
        "accuracy": float((true == predicted).all(dim=1).double().mean()),
        "label_accuracy": float((true == predicted).double().mean()),
        "map": float(averages[present].mean()) if bool(present.any()) else None,
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        "f1": float(f1.mean()),
        "micro_precision": float(_share(all_right, all_found)),
        "micro_recall": float(_share(all_right, all_support)),
        "micro_f1": float(_share(2 * all_right, all_support + all_found)),
        "majority_accuracy": int(sets.max()) / len(targets),
        "per_class": [
            {
                "class": name,
                "precision": float(p),
                "recall": float(r),
                "f1": float(f),
                "support": int(n),
                "average_precision": _known(average),
                "auroc": _known(area),
                "threshold": float(threshold),
            }
            for name, p, r, f, n, average, area, threshold in zip(*columns, strict=True)
        ],
    }


def decisions(probabilities: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Which labels are given.

    Args:
        probabilities: float64 ``(N, K)``, 0–1.
        thresholds: One a label.

    Returns:
        bool ``(N, K)``.
    """
    return probabilities >= torch.tensor(list(thresholds), dtype=torch.float64)


def best_thresholds(logits: Tensor, targets: Tensor) -> tuple[float, ...]:
    """The threshold of each label that maximises its F1.

    It lies half-way between the lowest probability that is to be given the label and the next one below, and of several
    that are as good nearest to one half. A label that all samples have, or none, tells nothing and gets one half.

    Args:
        logits: ``(N, K)``, of validation samples.
        targets: ``(N, K)`` of 0 and 1.

    Returns:
        K numbers above 0 and below 1.
    """
    ranked = ranking(logits.cpu().double().sigmoid(), targets.cpu())
    thresholds = []
    for label in range(logits.shape[1]):
        scores, right = ranked.scores[:, label], ranked.right[:, label]
        support = float(right[-1])
        if support in (0, len(scores)):
            thresholds.append(EVEN)
            continue
        ends = torch.unique(ranked.end[:, label])
        f1 = 2 * right[ends] / (ends + 1 + support)
        upper = scores[ends]
        lower = torch.cat((scores[ends[:-1] + 1], torch.zeros(1, dtype=torch.float64)))
        between = (upper + lower) / 2
        # Neighbouring floats have no number between them.
        between = torch.where(between > lower, between, upper).clamp(1e-12, 1 - 1e-12)
        best = between[f1 == f1.max()]
        thresholds.append(float(best[(best - EVEN).abs().argmin()]))
    return tuple(thresholds)


def areas_under_roc(scores: Tensor, targets: Tensor) -> Tensor:
    """For each label the chance that a sample that has it scores higher than one that does not; ties count half.

    Args:
        scores: ``(N, K)``.
        targets: ``(N, K)`` of 0 and 1.

    Returns:
        float64 ``(K,)``, 0–1; NaN where all samples have the label or none.
    """
    ranked = ranking(scores, targets)
    true = ranked.true
    wrong = (1 - true).cumsum(0)
    to_end, before = wrong.gather(0, ranked.end), wrong.gather(0, ranked.start)
    before = before - (1 - true).gather(0, ranked.start)
    wins = true * (wrong[-1] - (to_end + before) / 2)
    return wins.sum(0) / (true.sum(0) * wrong[-1])


def _check(logits: Tensor, targets: Tensor, classes: Sequence[str], thresholds: Sequence[float]) -> None:
    if not len(targets):
        raise DataError("there are no images to score.")
    if not logits.shape == targets.shape == (len(targets), len(classes)) or len(thresholds) != len(classes):
        raise DataError(
            f"logits of shape {tuple(logits.shape)} do not fit targets of shape {tuple(targets.shape)} and "
            f"{len(classes)} labels with {len(thresholds)} thresholds."
        )
    bad = int(logits.isfinite().logical_not().any(dim=1).sum())
    if bad:
        raise TrainingError(
            f"the model's output is not finite for {bad} of {len(logits)} images: its weights are damaged or diverged."
        )


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """The quotient, and 0 where the denominator is."""
    return torch.where(whole > 0, part / whole.clamp(min=1), 0.0)


def _known(value: Tensor) -> float | None:
    return None if bool(value.isnan()) else float(value)
