"""The strong augmentation: one change of TrivialAugment an image, then random erasing.

TrivialAugment (Müller and Hutter 2021, arXiv:2103.10158) takes one of 14 changes at one of 31 strengths, each as
likely as the others. The ranges are those of its wide space; a shift reaches 1/7 of the edge, the paper's 32 pixels of
an image of 224, so that it means the same at every size, and edges are mirrored outwards instead of filled with black.
Erasing is that of Zhong et al. 2017 (arXiv:1708.04896), in the image's own mean colour.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.pixels import channel_means, column, grey, mean_grey, rotations, warped

STRENGTHS = 31
"""Strengths of each change, from none to the strongest."""

_SHEAR = 0.99
_SHIFT = 1 / 7
_ROTATION_DEGREES = 135.0
_FACTOR = 0.99
_FEWEST_BITS = 2

_ERASE_SHARE = 0.25
_ERASED_AREA = (0.02, 1 / 3)
_ERASED_RATIO = (0.3, 1 / 0.3)


def trivially_changed(images: Tensor, draws: NDArray[np.float32]) -> Tensor:
    """Change each image in one way.

    Args:
        images: float32 ``(N, C, H, W)`` with values 0–255. A fourth channel is moved and keeps its values.
        draws: Three numbers in [0, 1) an image, ``(N, 3)``: which change, how strong, in which direction.

    Returns:
        float32 ``(N, C, H, W)`` with values 0–255.
    """
    kinds = (draws[:, 0] * len(CHANGES)).astype(np.int64)
    strengths = np.floor(draws[:, 1].astype(np.float64) * STRENGTHS) / (STRENGTHS - 1)
    signs = np.where(draws[:, 2] < 0.5, -1.0, 1.0)
    return changed(images, kinds, strengths, signs)


def changed(
    images: Tensor, kinds: NDArray[np.int64], strengths: NDArray[np.float64], signs: NDArray[np.float64]
) -> Tensor:
    """Apply to each image the change of its kind.

    Args:
        images: As for :func:`trivially_changed`.
        kinds: Positions in :data:`CHANGES`, ``(N,)``.
        strengths: 0–1, ``(N,)``.
        signs: -1 or 1, ``(N,)``; counts where a change has two directions.
    """
    result = images.clone()
    for kind in np.unique(kinds).tolist():
        name, change = list(CHANGES.items())[kind]
        rows = np.flatnonzero(kinds == kind)
        places = torch.from_numpy(rows).to(images.device)
        chosen = images.index_select(0, places)
        moved = name in _MOVES
        colours = chosen if moved or images.shape[1] < 4 else chosen[:, :3]
        done = change(colours, strengths[rows], signs[rows]).clamp_(0, 255)
        result.index_copy_(0, places, done if colours is chosen else torch.cat((done, chosen[:, 3:]), dim=1))
    return result


def erased(images: Tensor, draws: NDArray[np.float32]) -> Tensor:
    """Paint a rectangle of every fourth image over with the image's mean colour.

    Args:
        images: float32 ``(N, C, H, W)`` with values 0–255.
        draws: Five numbers in [0, 1) an image, ``(N, 5)``: whether, area, shape, and place across and down.

    Returns:
        float32 ``(N, C, H, W)``.
    """
    height, width = images.shape[2:]
    low, high = (math.log(ratio) for ratio in _ERASED_RATIO)
    edges = np.zeros((len(images), 4), dtype=np.int64)
    for row, (whether, area, shape, across, down) in enumerate(draws.tolist()):
        if whether >= _ERASE_SHARE:
            continue
        pixels = height * width * (_ERASED_AREA[0] + (_ERASED_AREA[1] - _ERASED_AREA[0]) * area)
        ratio = math.exp(low + (high - low) * shape)
        rows, columns = min(height, round(math.sqrt(pixels / ratio))), min(width, round(math.sqrt(pixels * ratio)))
        top, left = int(down * (height - rows + 1)), int(across * (width - columns + 1))
        edges[row] = top, top + rows, left, left + columns
    first_row, last_row, first_column, last_column = (
        torch.from_numpy(edge).to(images.device).view(-1, 1, 1, 1) for edge in edges.T
    )
    y = torch.arange(height, device=images.device).view(1, 1, -1, 1)
    x = torch.arange(width, device=images.device).view(1, 1, 1, -1)
    inside = (first_row <= y) & (y < last_row) & (first_column <= x) & (x < last_column)
    return torch.where(inside, channel_means(images)[:, :, None, None], images)


_Change = Callable[[Tensor, NDArray[np.float64], NDArray[np.float64]], Tensor]


def _identity(images: Tensor, strengths: NDArray[np.float64], signs: NDArray[np.float64]) -> Tensor:
    return images.clone()


def _sheared(axis: int) -> _Change:
    def shear(images: Tensor, strengths: NDArray[np.float64], signs: NDArray[np.float64]) -> Tensor:
        matrices = _identities(len(images))
        edges = images.shape[2:]
        matrices[:, axis, 1 - axis] = signs * strengths * _SHEAR * (edges[axis] / edges[1 - axis])
        return warped(images, matrices)

    return shear


def _shifted(axis: int) -> _Change:
    def shift(images: Tensor, strengths: NDArray[np.float64], signs: NDArray[np.float64]) -> Tensor:
        matrices = _identities(len(images))
        matrices[:, axis, 2] = 2 * signs * strengths * _SHIFT
        return warped(images, matrices)

    return shift


def _rotated(images: Tensor, strengths: NDArray[np.float64], signs: NDArray[np.float64]) -> Tensor:
    height, width = images.shape[2:]
    return warped(images, rotations((signs * strengths * _ROTATION_DEGREES).tolist(), height=height, width=width))


def _brightened(images: Tensor, strengths: NDArray[np.float64], signs: NDArray[np.float64]) -> Tensor:
    return images * column(_factors(strengths, signs), images)


def _saturated(images: Tensor, strengths: NDArray[np.float64], signs: NDArray[np.float64]) -> Tensor:
    if images.shape[1] < 3:
        return images.clone()
    return _blended(images, grey(images), _factors(strengths, signs))


def _contrasted(images: Tensor, strengths: NDArray[np.float64], signs: NDArray[np.float64]) -> Tensor:
    return _blended(images, mean_grey(images), _factors(strengths, signs))


def _sharpened(images: Tensor, strengths: NDArray[np.float64], signs: NDArray[np.float64]) -> Tensor:
    """Towards or away from Pillow's smoothing kernel, 5 in the middle of eight ones; the edges stay."""
    height, width = images.shape[2:]
    if min(height, width) < 3:
        return images.clone()
    # Shifted sums, not a convolution: its order of additions may depend on the batch.
    total = images[:, :, 1:-1, 1:-1] * 4
    for down in range(3):
        for across in range(3):
            total = total + images[:, :, down : height - 2 + down, across : width - 2 + across]
    smooth = images.clone()
    smooth[:, :, 1:-1, 1:-1] = total / 13
    return _blended(images, smooth, _factors(strengths, signs))


def _posterised(images: Tensor, strengths: NDArray[np.float64], signs: NDArray[np.float64]) -> Tensor:
    steps = column(2.0 ** np.rint(strengths * (8 - _FEWEST_BITS)), images)
    return (images / steps).floor() * steps


def _solarised(images: Tensor, strengths: NDArray[np.float64], signs: NDArray[np.float64]) -> Tensor:
    return torch.where(images >= column(255 * (1 - strengths), images), 255 - images, images)


def _stretched(images: Tensor, strengths: NDArray[np.float64], signs: NDArray[np.float64]) -> Tensor:
    """Every channel over the whole range of values."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    span = high - low
    return torch.where(span > 0, (images - low) * (255 / span.clamp_min(1e-6)), images)


def _equalised(images: Tensor, strengths: NDArray[np.float64], signs: NDArray[np.float64]) -> Tensor:
    """Every channel with as many pixels of each value, as Pillow's ``ImageOps.equalize`` does it."""
    count, channels = images.shape[:2]
    values = images.round().to(torch.int64).flatten(2)
    offsets = 256 * torch.arange(count * channels, device=images.device).view(count, channels, 1)
    counts = torch.bincount((values + offsets).flatten(), minlength=256 * count * channels).view(count, channels, 256)
    last = counts.gather(2, values.amax(dim=2, keepdim=True))
    step = (counts.sum(dim=2, keepdim=True) - last) // 255
    below = counts.cumsum(dim=2) - counts
    table = ((below + step // 2) // step.clamp_min(1)).clamp_max(255)
    found = table.gather(2, values).view_as(images).to(torch.float32)
    return torch.where((step > 0).unsqueeze(3), found, images)


CHANGES: dict[str, _Change] = {
    "identity": _identity,
    "shear x": _sheared(0),
    "shear y": _sheared(1),
    "shift x": _shifted(0),
    "shift y": _shifted(1),
    "rotate": _rotated,
    "brightness": _brightened,
    "saturation": _saturated,
    "contrast": _contrasted,
    "sharpness": _sharpened,
    "posterise": _posterised,
    "solarise": _solarised,
    "autocontrast": _stretched,
    "equalise": _equalised,
}
"""The changes by name, each a function of float32 images, strengths 0–1 and signs."""

_MOVES = frozenset({"shear x", "shear y", "shift x", "shift y", "rotate"})


def _identities(count: int) -> NDArray[np.float64]:
    return np.tile(np.eye(2, 3), (count, 1, 1))


def _factors(strengths: NDArray[np.float64], signs: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 + signs * strengths * _FACTOR


def _blended(images: Tensor, other: Tensor, factors: NDArray[np.float64]) -> Tensor:
    return images * column(factors, images) + other * column(1 - factors, images)
