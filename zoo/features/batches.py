"""Batches of stored features for the trainer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.chain import Features
from zoo.features.store import FeatureStore
from zoo.training.batches import Batch

Steps = Callable[[int], Sequence[NDArray[np.int64]]]
"""The positions that each step of an epoch takes, as for images."""

# Up to here rows are copied out of the mapped files once, which makes a batch one index operation.
_IN_MEMORY_BYTES = 512 << 20


@dataclass(frozen=True)
class StoredRows:
    """The features of some images, in a fixed order.

    Attributes:
        store: Where they are.
        places: From :meth:`FeatureStore.find`, ``(n,)``.
        float32: Whether bfloat16 rows are given as float32, which holds the same values.
    """

    store: FeatureStore
    places: NDArray[np.int64]
    float32: bool = False
    _loaded: list[Features] = field(default_factory=list, repr=False)

    def take(self, indices: NDArray[np.int64]) -> Features:
        """The features at these positions of the order."""
        if len(self.places) * self.store.row_bytes > _IN_MEMORY_BYTES:
            return self._converted(self.store.take(self.places[indices]))
        if not self._loaded:
            self._loaded.append(self._converted(self.store.take(self.places)))
        rows = torch.from_numpy(indices)
        return _each(self._loaded[0], lambda x: x[rows])

    def _converted(self, features: Features) -> Features:
        return _each(features, lambda x: x.float() if x.dtype == torch.bfloat16 else x) if self.float32 else features


def _each(features: Features, function: Callable[[Tensor], Tensor]) -> Features:
    return tuple(map(function, features)) if isinstance(features, tuple) else function(features)


class FeatureBatches:
    """Stored features with their targets as the trainer takes them (:class:`zoo.training.batches.Batches`).

    Args:
        views: The rows of each view; epoch e takes view e modulo their number.
        targets: int64 ``(n,)`` class indices, or float32 ``(n, classes)``.
        steps: Which rows each step of an epoch takes.
        pad_to: Rows of every batch; None pads nothing.
    """

    def __init__(
        self,
        views: Sequence[StoredRows],
        targets: Tensor | Sequence[int],
        *,
        steps: Steps,
        pad_to: int | None = None,
    ) -> None:
        self.views = tuple(views)
        self.targets = torch.as_tensor(targets)
        self._steps = steps
        self._pad_to = pad_to

    def __len__(self) -> int:
        """Steps an epoch."""
        return len(self._steps(0))

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from step ``start`` on."""
        rows = self.views[epoch % len(self.views)]
        for indices in self._steps(epoch)[start:]:
            count = len(indices)
            padded = np.pad(indices, (0, max(0, (self._pad_to or 0) - count)), mode="edge")
            chosen = torch.from_numpy(padded)
            yield Batch(rows.take(padded), self.targets[chosen], chosen, count)
