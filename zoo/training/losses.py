"""Losses one number a sample, so that padding can be left out and totals add up over batches and processes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Maps logits ``(N, K)`` and targets to losses ``(N,)``, or to their mean as a scalar, which is a user's usual kind."""


class CrossEntropy(nn.Module):
    """Cross-entropy of each sample.

    Args:
        label_smoothing: Share of the target spread over all classes, 0–1.
        class_weights: float32 ``(K,)`` factors on the losses of each class, or None.
    """

    class_weights: Tensor | None

    def __init__(self, *, label_smoothing: float = 0.0, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", class_weights)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Losses ``(N,)`` of logits ``(N, K)`` against int64 targets ``(N,)`` or float targets ``(N, K)``."""
        return nn.functional.cross_entropy(
            logits, targets, weight=self.class_weights, label_smoothing=self.label_smoothing, reduction="none"
        )


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy of each sample, the mean over its labels.

    Args:
        label_smoothing: Share of each target moved towards one half, from 0 to below 1.
        positive_weights: float32 ``(K,)`` factors on the losses of the labels that a sample has, or None.
    """

    positive_weights: Tensor | None

    def __init__(self, *, label_smoothing: float = 0.0, positive_weights: Tensor | None = None) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("positive_weights", positive_weights)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Losses ``(N,)`` of logits ``(N, K)`` against float targets ``(N, K)`` of 0 and 1."""
        smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits, smooth, pos_weight=self.positive_weights, reduction="none"
        )
        return losses.mean(dim=1)


def balanced_label_weights(targets: Tensor) -> Tensor:
    """Factors on the samples that have a label that make them count as much as those that do not.

    Args:
        targets: ``(N, K)`` of 0 and 1, of every training sample.

    Returns:
        float32 ``(K,)``: samples without the label over samples with it; 1 where there are none of either.
    """
    present = targets.double().sum(0)
    absent = len(targets) - present
    return torch.where((present > 0) & (absent > 0), absent / present.clamp_min(1), 1.0).float()


def balanced_class_weights(labels: Sequence[int] | Tensor, num_classes: int) -> Tensor:
    """Factors inverse to each class's count that leave the mean factor over the samples at 1.

    Args:
        labels: Class index of every training sample.
        num_classes: K; a class without samples gets the factor 1.

    Returns:
        float32 ``(K,)``: with n samples of k classes that have any, ``n / (k * count)``.
    """
    counts = torch.bincount(torch.as_tensor(labels, dtype=torch.int64), minlength=num_classes).double()
    present = counts > 0
    weights = torch.ones_like(counts)
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights.float()


def summed_losses(criterion: Criterion, logits: Tensor, targets: Tensor) -> Tensor:
    """The sum of a batch's losses as a scalar, whether the criterion gives one a sample or their mean.

    Args:
        criterion: Of either kind.
        logits: ``(N, K)`` of any floating type; the loss is taken in float32.
        targets: int64 ``(N,)`` or float ``(N, K)``.
    """
    losses = criterion(logits.float(), targets)
    return losses.sum() if losses.ndim else losses * len(logits)


def correct_predictions(logits: Tensor, targets: Tensor) -> Tensor:
    """How many of a batch's largest logits are at the target, as an int64 scalar on the batch's device."""
    labels = targets.argmax(dim=1) if targets.ndim > 1 else targets
    return (logits.argmax(dim=1) == labels).sum()
