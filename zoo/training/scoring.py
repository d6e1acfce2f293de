"""What counts as right, and the validation's figures: one class an image, or any number of labels."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from zoo.errors import DataError
from zoo.training.engine import Engine
from zoo.training.losses import correct_predictions
from zoo.training.totals import ValidationTotals


class Totals(Protocol):
    """A validation's figures while they are added up."""

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: the sum of its losses, its logits ``(N, K)`` and targets."""

    def row(self) -> dict[str, float]:
        """Every metric that can be monitored, as ``val_…``. All processes call it together."""


class Scoring(Protocol):
    """How the trainer counts right answers."""

    def right(self, logits: Tensor, targets: Tensor) -> Tensor:
        """How many samples of a batch are right, as a scalar on the batch's device."""

    def totals(self, engine: Engine) -> Totals:
        """Empty figures for a validation."""


class OneClass:
    """The largest logit is the answer. Targets are int64 ``(N,)``, or float ``(N, K)`` of which the largest counts."""

    def right(self, logits: Tensor, targets: Tensor) -> Tensor:
        """How many largest logits are at the target."""
        return correct_predictions(logits, targets)

    def totals(self, engine: Engine) -> Totals:
        """Counts by class."""
        return ValidationTotals(engine)


class ManyLabels:
    """Every logit above 0, a probability above one half, is a label. Targets are float ``(N, K)`` of 0 and 1."""

    def right(self, logits: Tensor, targets: Tensor) -> Tensor:
        """How many samples have every label right."""
        return ((logits > 0) == (targets > 0.5)).all(dim=1).sum()

    def totals(self, engine: Engine) -> Totals:
        """All logits and targets."""
        return LabelTotals(engine)


class LabelTotals:
    """A validation's losses, logits and targets: over all processes once asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._losses: list[Tensor] = []
        self._rows: list[Tensor] = []

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: the sum of its losses, its logits ``(N, K)`` and targets ``(N, K)``."""
        self._losses.append(loss)
        self._rows.append(torch.stack((logits.float(), targets.float())))

    def row(self) -> dict[str, float]:
        """Every metric that can be monitored, as ``val_…``. All processes call it together.

        Raises:
            DataError: No process had a sample.
        """
        engine = self._engine
        classes = engine.largest(self._rows[0].shape[2] if self._rows else 0)
        if not classes:
            raise DataError("there are no images in these batches.")
        rows = torch.cat(self._rows, dim=1).cpu() if self._rows else torch.zeros(2, 0, classes)
        logits, targets = self._gathered(rows)
        loss = torch.stack(self._losses).cpu().double().sum() if self._losses else torch.zeros((), dtype=torch.double)
        loss = engine.all_sum(loss.reshape(1))[0]
        predicted, true = logits > 0, targets > 0.5
        right = (predicted & true).sum(0).double()
        found, support = predicted.sum(0).double(), true.sum(0).double()
        precisions = average_precisions(logits, targets)
        return {
            "val_loss": float(loss) / len(logits),
            "val_accuracy": float((predicted == true).all(dim=1).double().mean()),
            "val_precision": float((right / found.clamp_min(1)).mean()),
            "val_recall": float((right / support.clamp_min(1)).mean()),
            "val_f1": float((2 * right / (support + found).clamp_min(1)).mean()),
            "val_map": float(precisions.nanmean()) if bool((support > 0).any()) else 0.0,
        }

    def _gathered(self, rows: Tensor) -> Tensor:
        """The rows of all processes, ``(2, N, K)``, in the order of their ranks."""
        engine = self._engine
        counts = torch.zeros(engine.world_size, dtype=torch.int64)
        counts[engine.rank] = rows.shape[1]
        counts = engine.all_sum(counts)
        everything = torch.zeros(2, int(counts.sum()), rows.shape[2])
        start = int(counts[: engine.rank].sum())
        everything[:, start : start + rows.shape[1]] = rows
        return engine.all_sum(everything)


def average_precisions(scores: Tensor, targets: Tensor) -> Tensor:
    """The average precision of each label: precision at every threshold, weighed by the recall that it adds.

    As scikit-learn's ``average_precision_score``: equal scores share a threshold, nothing is interpolated.

    Args:
        scores: ``(N, K)``, larger for what is more likely.
        targets: ``(N, K)`` of 0 and 1.

    Returns:
        float64 ``(K,)``, 0–1; NaN for a label that no sample has.
    """
    ranked = ranking(scores, targets)
    precision = ranked.right.gather(0, ranked.end) / (ranked.end + 1)
    return (ranked.true * precision).sum(0) / ranked.true.sum(0)


@dataclass(frozen=True)
class Ranking:
    """The samples of each label from the highest score to the lowest, all ``(N, K)``.

    Attributes:
        scores: float64, falling.
        true: float64, 1 where the sample has the label, else 0.
        right: float64, how many have it down to here.
        start: int64, position of the first sample of the same score.
        end: int64, position of the last.
    """

    scores: Tensor
    true: Tensor
    right: Tensor
    start: Tensor
    end: Tensor


def ranking(scores: Tensor, targets: Tensor) -> Ranking:
    """Rank the samples for each label.

    Args:
        scores: ``(N, K)``.
        targets: ``(N, K)`` of 0 and 1.
    """
    ordered, places = scores.double().sort(dim=0, descending=True, stable=True)
    true = targets.double().gather(0, places)
    count = len(ordered)
    positions = torch.arange(count)[:, None].expand_as(ordered)
    changes = ordered[1:] != ordered[:-1]
    edge = torch.ones(1, ordered.shape[1], dtype=torch.bool)
    last = torch.where(torch.cat((changes, edge)), positions, count)
    first = torch.where(torch.cat((edge, changes)), positions, 0)
    return Ranking(
        scores=ordered,
        true=true,
        right=true.cumsum(0),
        start=first.cummax(0).values,
        end=last.flip(0).cummin(0).values.flip(0),
    )
