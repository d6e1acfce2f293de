"""Figures of a classifier from its logits, all from the confusion matrix or the probabilities."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import DataError, TrainingError

_TOP = 5
_CALIBRATION_BINS = 15


def classification_report(logits: Tensor, targets: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """What a classifier gets right, in plain numbers that JSON can hold.

    Precision, recall and F1 are 0 where nothing was predicted or nothing is there, as in scikit-learn with
    ``zero_division=0``; their means over the classes weigh each class of ``classes`` the same.

    Args:
        logits: ``(N, K)``, N at least 1.
        targets: int64 ``(N,)`` class indices, or float ``(N, K)``, of which the largest counts.
        classes: Names of the K classes.

    Returns:
        ``count``, ``loss`` (mean cross-entropy), ``accuracy``, ``top5`` (only with more than five classes),
        ``precision``, ``recall`` and ``f1`` (means over classes), ``majority_accuracy`` (that of always answering the
        most frequent class), ``calibration_error`` (see :func:`expected_calibration_error`), ``per_class`` (``class``,
        ``precision``, ``recall``, ``f1`` and ``support`` of each) and ``confusion`` (rows the true classes, columns
        the predicted ones). Shares are 0–1.

    Raises:
        DataError: There are no samples.
        TrainingError: A logit is not finite.
    """
    logits = logits.detach().cpu().double()
    labels = (targets.argmax(dim=1) if targets.ndim > 1 else targets).cpu()
    _check(logits, labels, classes)
    confusion = confusion_matrix(labels, logits.argmax(dim=1), len(classes))
    right = confusion.diagonal().double()
    support, predicted = confusion.sum(dim=1).double(), confusion.sum(dim=0).double()
    precision, recall = _share(right, predicted), _share(right, support)
    f1 = _share(2 * right, support + predicted)
    report: dict[str, Any] = {
        "count": len(labels),
        "loss": float(nn.functional.cross_entropy(logits, labels)),
        "accuracy": float(right.sum() / len(labels)),
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        "f1": float(f1.mean()),
        "majority_accuracy": majority_accuracy(labels),
        "calibration_error": expected_calibration_error(logits, labels),
        "per_class": [
            {"class": name, "precision": p, "recall": r, "f1": f, "support": int(n)}
            for name, p, r, f, n in zip(
                classes, precision.tolist(), recall.tolist(), f1.tolist(), support.tolist(), strict=True
            )
        ],
        "confusion": confusion.tolist(),
    }
    if len(classes) > _TOP:
        among_top = (logits.topk(_TOP, dim=1).indices == labels[:, None]).any(dim=1)
        report["top5"] = float(among_top.double().mean())
    return report


def confusion_matrix(labels: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    """Counts of every pair of true and predicted class.

    Args:
        labels: int64 ``(N,)``, 0 to K - 1.
        predictions: int64 ``(N,)``, likewise.
        num_classes: K.

    Returns:
        int64 ``(K, K)``, rows the true classes.
    """
    pairs = labels * num_classes + predictions
    return torch.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def majority_accuracy(labels: Tensor) -> float:
    """The accuracy, 0–1, of always answering the most frequent class of int64 labels ``(N,)``."""
    return int(torch.bincount(labels).max()) / len(labels)


def expected_calibration_error(logits: Tensor, labels: Tensor, *, bins: int = _CALIBRATION_BINS) -> float:
    """How far a classifier's confidence is from its accuracy (Guo et al. 2017, arXiv:1706.04599).

    The samples are sorted by their largest probability into bins of equal width, closed above; the result is the mean
    over the samples of the distance between their bin's mean confidence and its accuracy.

    Args:
        logits: ``(N, K)``.
        labels: int64 ``(N,)``.
        bins: Number of bins.

    Returns:
        A number from 0, confidence means what it says, to 1.
    """
    confidence, predictions = logits.double().softmax(dim=1).max(dim=1)
    position = (confidence * bins).ceil().long().clamp(1, bins) - 1
    excess = confidence - (predictions == labels).double()
    return float(torch.zeros(bins, dtype=torch.float64).index_add(0, position, excess).abs().sum() / len(labels))


def _check(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> None:
    if not len(labels):
        raise DataError("there are no images to score.")
    if logits.shape != (len(labels), len(classes)):
        raise DataError(
            f"logits of shape {tuple(logits.shape)} do not fit {len(labels)} images, {len(classes)} classes."
        )
    bad = int(logits.isfinite().logical_not().any(dim=1).sum())
    if bad:
        raise TrainingError(
            f"the model's output is not finite for {bad} of {len(labels)} images: its weights are damaged or diverged."
        )


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """The quotient, and 0 where the denominator is."""
    return torch.where(whole > 0, part / whole.clamp(min=1), 0.0)
