"""An epoch's losses and counts, left on the device until they are asked for."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.errors import DataError
from zoo.training.engine import Engine


class TrainingTotals:
    """What the steps of an epoch came to, over all processes, and which of them were not finite.

    Args:
        engine: Its device holds the figures.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._figures: list[Tensor] = []
        self._looked_at = 0

    def __len__(self) -> int:
        """Steps so far."""
        return len(self._figures)

    def add(self, figures: Tensor) -> None:
        """Add a step.

        Args:
            figures: float32 ``(4,)``: sum of losses, right answers, samples, and 1 if all was finite, else 0.
        """
        self._figures.append(figures)

    def new_finite_flags(self) -> list[bool]:
        """For each step since the last call whether it was finite. Waits for the device."""
        new = self._figures[self._looked_at :]
        self._looked_at = len(self._figures)
        return [bool(flag) for flag in torch.stack(new)[:, 3].tolist()] if new else []

    def row(self) -> dict[str, Any]:
        """Mean loss and accuracy over the samples of the finite steps, and how many steps were not finite, if any."""
        figures = self._table().double()
        finite = figures[figures[:, 3] > 0]
        losses, right, count = finite[:, :3].sum(dim=0).tolist()
        row: dict[str, Any] = {
            "train_loss": losses / count if count else float("nan"),
            "train_accuracy": right / count if count else float("nan"),
        }
        skipped = len(figures) - len(finite)
        return {**row, "skipped_steps": skipped} if skipped else row

    def tensors(self) -> dict[str, Tensor]:
        """The figures for a checkpoint."""
        return {"figures": self._table()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what a checkpoint holds."""
        self._figures = list(tensors["figures"].to(self._engine.device))
        self._looked_at = len(self._figures)

    def _table(self) -> Tensor:
        return torch.stack(self._figures).cpu() if self._figures else torch.empty(0, 4)


class ValidationTotals:
    """A validation's losses and, by class, right answers, samples and predictions: over all processes once asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._losses: list[Tensor] = []
        self._counts: Tensor | None = None

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: the sum of its losses, its logits ``(N, K)`` and targets."""
        classes = logits.shape[1]
        labels = targets.argmax(dim=1) if targets.ndim > 1 else targets
        predicted = logits.argmax(dim=1)
        right = labels[labels == predicted]
        counts = torch.stack([torch.bincount(x, minlength=classes) for x in (right, labels, predicted)])
        self._losses.append(loss)
        self._counts = counts if self._counts is None else self._counts + counts

    def row(self) -> dict[str, float]:
        """Every metric that can be monitored, as ``val_…``. All processes call it together.

        Raises:
            DataError: No process had a sample.
        """
        loss = torch.stack(self._losses).cpu().double().sum() if self._losses else torch.zeros((), dtype=torch.double)
        # A process without a batch of its own learns the number of classes from the others.
        classes = self._engine.largest(0 if self._counts is None else self._counts.shape[1])
        if not classes:
            raise DataError("there are no images in these batches.")
        counts = torch.zeros(3, classes) if self._counts is None else self._counts.cpu()
        sums = self._engine.all_sum(torch.cat([loss.reshape(1), counts.double().flatten()]))
        right, support, predicted = sums[1:].reshape(3, classes)
        count = float(support.sum())
        return {
            "val_loss": float(sums[0]) / count,
            "val_accuracy": float(right.sum()) / count,
            "val_precision": float((right / predicted.clamp_min(1)).mean()),
            "val_recall": float((right / support.clamp_min(1)).mean()),
            "val_f1": float((2 * right / (support + predicted).clamp_min(1)).mean()),
        }
