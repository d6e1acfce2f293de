"""What the trainer is fed, whether it comes from images, stored features or a tensor in memory."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One step's worth of samples.

    Attributes:
        inputs: A tensor, or a tuple of tensors, with the batch first. Rows from ``count`` on are padding.
        targets: int64 ``(N,)`` class indices, or float32 ``(N, classes)``.
        indices: int64 ``(N,)``, each sample's position in its data set.
        count: Rows that are samples; the others repeat the last one and count nowhere.
        epoch: The epoch it belongs to, which augmentation depends on. The trainer fills it in.
    """

    inputs: Tensor | tuple[Tensor, ...]
    targets: Tensor
    indices: Tensor
    count: int
    epoch: int = 0

    def rows(self, start: int, stop: int) -> "Batch":
        """Rows ``start`` to ``stop`` as a batch."""
        inputs = self.inputs
        return replace(
            self,
            inputs=tuple(x[start:stop] for x in inputs) if isinstance(inputs, tuple) else inputs[start:stop],
            targets=self.targets[start:stop],
            indices=self.indices[start:stop],
            count=max(0, min(stop, self.count) - start),
        )


class Batches(Protocol):
    """Batches in an order that depends on the seed and the epoch alone."""

    def __len__(self) -> int:
        """Steps an epoch."""

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from step ``start`` on. Epochs count from 0."""
