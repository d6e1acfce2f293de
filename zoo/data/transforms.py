"""From a decoded image to the pixels of a model's input, by one resize of one box."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zoo.architecture import Preprocessing
from zoo.data.decode import decode

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge in pixels of the image, fractions allowed."""

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


class Transform:
    """The preparation that a model's :class:`~zoo.architecture.Preprocessing` describes, up to uint8 pixels.

    Resizing the shorter edge and cropping the centre is the same as resizing one box of the image, so only pixels that
    are kept are computed.

    Args:
        preprocessing: What to prepare for. An output that is not square is cut from an image resized to cover it.
    """

    def __init__(self, preprocessing: Preprocessing):
        self.channels, self.height, self.width = preprocessing.input_size
        self._filter = _FILTERS[preprocessing.interpolation]
        self._resize = preprocessing.resize
        self._share = preprocessing.crop_pct if preprocessing.crop_mode == "squash" else None

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """The centre of an image.

        Args:
            image: Mode ``L``, ``RGB`` or ``RGBA`` for 1, 3 or 4 channels.

        Returns:
            uint8 ``(H, W, C)``.
        """
        return self.boxed(image, self.centre(image.size))

    def boxed(self, image: Image.Image, box: Box) -> NDArray[np.uint8]:
        """A part of an image, resized to the input size.

        Returns:
            uint8 ``(H, W, C)``.
        """
        # A gap of 3 first shrinks by whole factors where the image is at least six times too large: Pillow's manual
        # calls the result indistinguishable from the full filter.
        resized = image.resize((self.width, self.height), self._filter, box=box, reducing_gap=3.0)
        return np.asarray(resized).reshape(self.height, self.width, self.channels)

    def read(self, source: Path | bytes) -> NDArray[np.uint8]:
        """Decode an image and prepare its centre.

        Returns:
            uint8 ``(H, W, C)``.

        Raises:
            ImageError: The image cannot be decoded.
        """
        return self(decode(source, channels=self.channels, target=self.target))

    @property
    def target(self) -> int:
        """Shorter edge in pixels that an image is shrunk to, for :func:`~zoo.data.decode.decode`."""
        return max(self._resize, self.height, self.width)

    def centre(self, size: tuple[int, int]) -> Box:
        """The box of an image of ``size`` (width, height) that the centre crop keeps."""
        width, height = size
        if self._share is not None:
            dx, dy = width * (1 - self._share) / 2, height * (1 - self._share) / 2
            return dx, dy, width - dx, height - dy
        shorter = min(width, height)
        edge = max(self._resize, self.height * shorter / height, self.width * shorter / width)
        # Whole pixels, rounded as torchvision's Resize and CenterCrop do.
        resized_width = max(self.width, int(edge * width / shorter))
        resized_height = max(self.height, int(edge * height / shorter))
        left, top = round((resized_width - self.width) / 2), round((resized_height - self.height) / 2)
        sx, sy = width / resized_width, height / resized_height
        right, bottom = (left + self.width) * sx, (top + self.height) * sy
        return left * sx, top * sy, min(right, float(width)), min(bottom, float(height))


def to_batch(images: NDArray[np.uint8]) -> Tensor:
    """Images side by side as a batch for a model.

    Args:
        images: uint8 ``(N, H, W, C)``.

    Returns:
        uint8 ``(N, C, H, W)``, a view of the same memory.
    """
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Scale pixels to 0–1, subtract the mean and divide by the standard deviation, on the tensor's device.

    Args:
        images: ``(N, C, H, W)`` with values 0–255, uint8 or float32.
        preprocessing: Its ``mean`` and ``std`` have one value for each of the C channels.

    Returns:
        float32 ``(N, C, H, W)``; ``images`` is left as it was. The layout in memory is that of ``images``: what
        :func:`to_batch` gives stays channels last.
    """
    channels = images.shape[1]
    if not len(preprocessing.mean) == len(preprocessing.std) == channels:
        raise ValueError(
            f"images have {channels} channels, but mean has {len(preprocessing.mean)} and std has "
            f"{len(preprocessing.std)} values"
        )
    pixels = images.permute(0, 2, 3, 1)
    if images.device.type == "cpu" and images.dtype == torch.uint8 and pixels.is_contiguous():
        return torch.from_numpy(_normalised(pixels.numpy(), preprocessing)).permute(0, 3, 1, 2)
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=images.device).view(1, channels, 1, 1)
        for values in (preprocessing.mean, preprocessing.std)
    )
    return images.to(dtype=torch.float32, copy=True).div_(255).sub_(mean).div_(std)


def _normalised(images: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Normalise ``(N, H, W, C)`` on one thread, image by image, each of which stays in the processor's cache meanwhile.

    The other processors decode at this time; torch's threads would wait for them, spinning, several times a batch.
    """
    count, height, width, channels = images.shape
    normalised = np.empty(images.shape, dtype=np.float32)
    # Rows of pixels with all channels in them: long enough for vector instructions.
    mean, std = (np.tile(np.array(values, np.float32), width) for values in (preprocessing.mean, preprocessing.std))
    rows = (count, height, width * channels)
    for pixels, values in zip(images.reshape(rows), normalised.reshape(rows), strict=True):
        np.divide(pixels, np.float32(255), out=values, dtype=np.float32)
        np.subtract(values, mean, out=values)
        np.divide(values, std, out=values)
    return normalised
