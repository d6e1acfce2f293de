"""Changes of a batch of images, each row by numbers of its own: mirrored, moved, recoloured.

Every operation works on elements or on exact whole numbers, so a row comes out the same bits in any batch.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""

_ROTATION_DEGREES = 15.0
_JITTER = 0.2


def flipped(images: Tensor, flip: NDArray[np.bool_]) -> Tensor:
    """Mirror some images from left to right.

    Args:
        images: ``(N, C, H, W)``.
        flip: Which of them, ``(N,)``.

    Returns:
        float32 ``(N, C, H, W)``, contiguous.
    """
    mirrored = torch.where(column(flip, images), images.flip(3), images)
    return mirrored.to(dtype=torch.float32, memory_format=torch.contiguous_format)


def rotated(images: Tensor, draws: NDArray[np.float32], flip: NDArray[np.bool_]) -> Tensor:
    """Rotate by up to 15° either way, and mirror some of the results from left to right.

    Args:
        images: ``(N, C, H, W)``.
        draws: One number in [0, 1) an image, 0 and 1 the ends of the range.
        flip: Which to mirror, ``(N,)``.

    Returns:
        float32 ``(N, C, H, W)``.
    """
    height, width = images.shape[2:]
    matrices = rotations([_ROTATION_DEGREES * (2 * float(draw) - 1) for draw in draws], height=height, width=width)
    matrices[:, 0] *= np.where(flip, -1.0, 1.0)[:, None]
    return warped(images, matrices)


def rotations(degrees: list[float], *, height: int, width: int) -> NDArray[np.float64]:
    """Matrices for :func:`warped` that rotate about the centre, float64 ``(N, 2, 3)``."""
    matrices = np.zeros((len(degrees), 2, 3))
    # math.cos one by one: vectorised cosines may differ in the last bit with the length of the vector.
    for matrix, angle in zip(matrices, map(math.radians, degrees), strict=True):
        matrix[0, :2] = math.cos(angle), -math.sin(angle) * (height / width)
        matrix[1, :2] = math.sin(angle) * (width / height), math.cos(angle)
    return matrices


def warped(images: Tensor, matrices: NDArray[np.float64]) -> Tensor:
    """Fetch every pixel from elsewhere in its image, bilinearly; beyond the edges the image is mirrored.

    Args:
        images: ``(N, C, H, W)``.
        matrices: ``(N, 2, 3)``: from (x, y, 1) of a pixel to (x, y) of its source, both -1 to 1 over the image.

    Returns:
        float32 ``(N, C, H, W)``.
    """
    height, width = images.shape[2:]

    def factor(row: int, of: int) -> Tensor:
        return torch.from_numpy(matrices[:, row, of].astype(np.float32)).to(images.device).view(-1, 1, 1)

    x = ((torch.arange(width, device=images.device, dtype=torch.float32) * 2 + 1) / width - 1).view(1, 1, width)
    y = ((torch.arange(height, device=images.device, dtype=torch.float32) * 2 + 1) / height - 1).view(1, height, 1)
    # Elementwise, not affine_grid: its matrix product may differ in the last bit with the size of the batch.
    source = [x * factor(row, 0) + y * factor(row, 1) + factor(row, 2) for row in (0, 1)]
    pixels = images.to(dtype=torch.float32, memory_format=torch.contiguous_format)
    grid = torch.stack(source, dim=3)
    return functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def recoloured(moved: Tensor, images: Tensor, draws: NDArray[np.float32]) -> Tensor:
    """Change brightness, contrast around the original's mean grey, and saturation by up to 20 %.

    Args:
        moved: float32 ``(N, C, H, W)`` with values 0–255.
        images: The same images before they were moved.
        draws: Three numbers in [0, 1) an image, ``(N, 3)``.

    Returns:
        float32 ``(N, C, H, W)`` with values 0–255.
    """
    brightness, contrast, saturation = (1 + _JITTER * (2 * draws[:, i].astype(np.float64) - 1) for i in range(3))
    channels = images.shape[1]
    colours = moved if channels < 4 else moved[:, :3]
    if channels < 3:
        saturation = np.ones_like(saturation)
    # Together the three are one linear map of the colours.
    offset = mean_grey(images) * column(brightness * (1 - contrast), images)
    changed = colours * column(saturation * brightness * contrast, images)
    if channels >= 3:
        changed += grey(colours) * column((1 - saturation) * brightness * contrast, images)
    changed = changed.add_(offset).clamp_(0, 255)
    return changed if channels < 4 else torch.cat((changed, moved[:, 3:]), dim=1)


def grey(colours: Tensor) -> Tensor:
    """Grey values ``(N, 1, H, W)`` of float32 colours ``(N, 3, H, W)``."""
    red, green, blue = (colours[:, channel : channel + 1] * LUMA[channel] for channel in range(3))
    return red + green + blue


def mean_grey(images: Tensor) -> Tensor:
    """The mean grey value of each image, float32 ``(N, 1, 1, 1)``."""
    means = channel_means(images)
    if images.shape[1] < 3:
        return means[:, :1].view(-1, 1, 1, 1)
    return (means[:, 0] * LUMA[0] + means[:, 1] * LUMA[1] + means[:, 2] * LUMA[2]).view(-1, 1, 1, 1)


def channel_means(images: Tensor) -> Tensor:
    """The mean of each channel, float32 ``(N, C)``; values count as the nearest whole numbers."""
    # Sums of whole numbers are exact in any order, so the mean does not depend on how the work is shared out.
    whole = images if images.dtype == torch.uint8 else images.round().to(torch.int64)
    return whole.sum(dim=(2, 3), dtype=torch.int64).to(torch.float32) / (images.shape[2] * images.shape[3])


def column(values: NDArray[np.float64] | NDArray[np.bool_], images: Tensor) -> Tensor:
    """One value an image as ``(N, 1, 1, 1)`` on the device of the images, float32 or bool."""
    kind = torch.bool if values.dtype == np.bool_ else torch.float32
    return torch.from_numpy(values).to(device=images.device, dtype=kind).view(-1, 1, 1, 1)
