"""Batches of images for the trainer, in an order that depends on the seed and the epoch alone."""

from collections.abc import Callable, Iterator, Sequence
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.augment import CROP_DRAWS, CROPPING, permutation, uniforms
from zoo.data.reader import ImageReader, Request
from zoo.recipes import Augment
from zoo.training.batches import Batch

Steps = Callable[[int], Sequence[NDArray[np.int64]]]
"""The positions that each step of an epoch takes; a process among several would take its part of each."""


def training_steps(count: int, batch_size: int, *, seed: int) -> Steps:
    """Every epoch in an order of its own, cut into parts that differ by one image at most.

    No part has a single image, which BatchNorm cannot train on, unless ``batch_size`` or ``count`` is 1; for that,
    the parts of an odd ``count`` and a ``batch_size`` of 2 may have three.

    Args:
        count: Number of images, at least 1.
        batch_size: Most images a step.
        seed: Seed of the run.
    """
    number = ceil(count / batch_size)
    if batch_size > 1 and number > 1 and count // number < 2:
        number -= 1
    return lambda epoch: np.array_split(permutation(seed, epoch, count), number)


def evaluation_steps(count: int, batch_size: int) -> Steps:
    """The order of the data; the last part may be short."""
    return lambda _epoch: np.split(np.arange(count), range(batch_size, count, batch_size))


class ImageBatches:
    """Images with their targets as the trainer takes them (:class:`zoo.training.batches.Batches`).

    Inputs are uint8 ``(N, C, H, W)``. The random box of ``"standard"`` and ``"strong"`` is cut when an image is read;
    all else is the work of :func:`~zoo.data.augment.augment_batch` on the device. A step that is shorter than
    ``pad_to`` is filled up with its last image.

    Args:
        reader: Where the images come from.
        positions: Positions of these images in the reader's paths, ``(n,)``; a batch's ``indices`` count in this order.
        targets: int64 ``(n,)`` class indices, or float32 ``(n, classes)``.
        steps: Which images each step of an epoch takes, for example :func:`training_steps`.
        pad_to: Rows of every batch; None pads nothing.
        augment: Those of :data:`~zoo.data.augment.CROPPING` change how images are read.
        seed: Seed of the random boxes.
        view: Which of several versions of each epoch's boxes.
    """

    def __init__(
        self,
        reader: ImageReader,
        positions: Sequence[int],
        targets: Tensor | Sequence[int],
        *,
        steps: Steps,
        pad_to: int | None = None,
        augment: Augment = "none",
        seed: int = 0,
        view: int = 0,
    ):
        self.reader = reader
        self.positions = np.asarray(positions, dtype=np.int64)
        self.targets = torch.as_tensor(targets)
        if len(self.positions) != len(self.targets):
            raise ValueError(f"{len(self.positions)} positions and {len(self.targets)} targets")
        self.steps = steps
        self.pad_to = pad_to
        self._crops = augment in CROPPING
        self._seed = seed
        self._view = view

    def __len__(self) -> int:
        """Steps an epoch."""
        return len(self.steps(0))

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from step ``start`` on, read ahead in threads.

        Raises:
            DataError: An image cannot be read.
        """
        steps = self.steps(epoch)[start:]
        requests = (self._request(epoch, indices) for indices in steps)
        for indices, images in zip(steps, self.reader.ahead(requests), strict=True):
            yield self._batch(images, torch.from_numpy(indices))

    def _request(self, epoch: int, indices: NDArray[np.int64]) -> Request:
        crops = uniforms(self._seed, epoch, indices, self._view, CROP_DRAWS) if self._crops else None
        return Request(self.positions[indices].tolist(), crops)

    def _batch(self, images: Tensor, indices: Tensor) -> Batch:
        count = len(indices)
        padding = max(0, (self.pad_to or 0) - count)
        if padding:
            rows = torch.cat((torch.arange(count), torch.full((padding,), count - 1)))
            images, indices = images[rows], indices[rows]
        return Batch(images, self.targets[indices], indices, count)
