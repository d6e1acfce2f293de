"""Decoded images kept in memory, so that an epoch of random crops does not decode every file again."""

from math import ceil
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.data.augment import SMALLEST_CROP
from zoo.data.decode import decode
from zoo.data.transforms import Transform


class DecodedImages:
    """Decoded images at the size that random crops need, as uint8, up to a limit.

    An image is kept whole, but shrunk to the shorter edge at which the smallest random crop still has a pixel for each
    of the model's: 518 for 224. One that no longer fits is decoded to the same pixels each time, so what is kept
    decides on speed alone. Files are taken not to change while a run goes on.

    Args:
        transform: What crops are prepared for.
        limit_bytes: Most memory for kept pixels.

    Attributes:
        edge: Longest shorter edge of a kept image, in pixels.
        limit_bytes: As given.
        size_bytes: Memory of what is kept.
    """

    def __init__(self, transform: Transform, *, limit_bytes: int) -> None:
        self.edge = ceil(max(transform.height, transform.width) / SMALLEST_CROP)
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self._transform = transform
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        """Images kept."""
        return len(self._kept)

    def image(self, position: int, path: Path) -> Image.Image:
        """An image, decoded now or earlier.

        Args:
            position: What the image is known by.
            path: Its file.

        Raises:
            ImageError: It cannot be decoded.
        """
        kept = self._kept.get(position)
        if kept is not None:
            return Image.fromarray(kept)
        image = self._decoded(path)
        self._keep(position, image)
        return image

    def _decoded(self, path: Path) -> Image.Image:
        image = decode(path, channels=self._transform.channels, target=self.edge)
        share = self.edge / min(image.size)
        if share >= 1:
            return image
        width, height = (max(1, round(edge * share)) for edge in image.size)
        return image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)

    def _keep(self, position: int, image: Image.Image) -> None:
        size_bytes = image.width * image.height * self._transform.channels
        with self._lock:
            if position in self._kept or self.size_bytes + size_bytes > self.limit_bytes:
                return
            self.size_bytes += size_bytes
            self._kept[position] = np.asarray(image)
