"""Random changes of training images as pure functions of (seed, epoch, image, view).

Neither the order of the images nor the batch, worker or process they are handled in changes what is drawn for them.
"""

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from zoo.recipes import Augment

DRAWS = 16
"""Random numbers drawn for each image and epoch: 0–9 place the crop, 10 flips, 11 rotates, 12–14 change colours."""

CROP_DRAWS = 10

_CROP_TRIES = 4
_CROP_AREA = (0.25, 1.0)
_CROP_RATIO = (3 / 4, 4 / 3)
_FLIP, _ROTATE, _BRIGHTNESS, _CONTRAST, _SATURATION = 10, 11, 12, 13, 14
_ROTATION_DEGREES = 15.0
_JITTER = 0.2
_LUMA = (0.299, 0.587, 0.114)

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def uniforms(seed: int, epoch: int, indices: ArrayLike, view: int = 0, count: int = DRAWS) -> NDArray[np.float32]:
    """Random numbers that depend on nothing but their coordinates.

    A counter-based generator: the finaliser of SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195) is
    chained over seed, epoch, view, index and column.

    Args:
        seed: Any whole number; it counts modulo 2**64.
        epoch: Counted from 0.
        indices: Positions of the samples in their data set, ``(N,)``.
        view: Which of several versions of the same epoch.
        count: Numbers for each sample.

    Returns:
        float32 ``(N, count)``, uniform in [0, 1).
    """
    rows = _hash_rows(seed, epoch, view, indices)
    columns = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    bits = _mix(rows[:, None] + columns[None, :])
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The positions 0 … ``count`` - 1 in an order that depends on seed and epoch alone."""
    # View 2**32 is out of the way of every view of the images.
    return np.argsort(_hash_rows(seed, epoch, 1 << 32, np.arange(count)), kind="stable").astype(np.int64)


def random_crop(size: tuple[int, int], draws: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """The box of a random resized crop: 25–100 % of the area, width to height between 3:4 and 4:3.

    The rule of Inception (Szegedy et al. 2015, arXiv:1409.4842) with four tries; if none fits, the centre.

    Args:
        size: Width and height of the image in pixels.
        draws: At least :data:`CROP_DRAWS` numbers of :func:`uniforms`.

    Returns:
        Left, top, right, bottom in pixels.
    """
    width, height = size
    low, high = (math.log(ratio) for ratio in _CROP_RATIO)
    for area, shape in draws[: 2 * _CROP_TRIES].reshape(-1, 2).tolist():
        ratio = math.exp(low + (high - low) * shape)
        pixels = width * height * _area_share(area)
        crop_width, crop_height = math.sqrt(pixels * ratio), math.sqrt(pixels / ratio)
        if crop_width <= width and crop_height <= height:
            across, down = draws[2 * _CROP_TRIES : CROP_DRAWS].tolist()
            left, top = across * (width - crop_width), down * (height - crop_height)
            return left, top, min(left + crop_width, float(width)), min(top + crop_height, float(height))
    crop_width, crop_height = min(width, height * _CROP_RATIO[1]), min(height, width / _CROP_RATIO[0])
    left, top = (width - crop_width) / 2, (height - crop_height) / 2
    return left, top, left + crop_width, top + crop_height


def smallest_crop(draws: NDArray[np.float32]) -> float:
    """Lower bound of the shorter edge of :func:`random_crop`, as a share of the image's shorter edge."""
    return math.sqrt(_CROP_RATIO[0] * _area_share(float(draws[: 2 * _CROP_TRIES : 2].min())))


def augment_batch(
    images: Tensor, *, augment: Augment, seed: int, epoch: int, indices: Tensor | ArrayLike, view: int = 0
) -> Tensor:
    """Flip, rotate and recolour a batch on the device it is on.

    ``"light"`` flips half of the images, rotates by up to 15° (edges are mirrored outwards) and changes brightness,
    contrast and saturation by up to 20 %. ``"standard"`` does the same but for the rotation; its random resized crop
    has taken place when the image was read. Saturation needs 3 channels; the fourth is left as it is but for its place.

    Args:
        images: ``(N, C, H, W)`` with values 0–255, uint8 or float32.
        augment: What to do; ``"none"`` gives the images back.
        seed: Seed of the run.
        epoch: Counted from 0.
        indices: Positions of the samples in their data set, ``(N,)``.
        view: Which of several versions of the same epoch.

    Returns:
        float32 ``(N, C, H, W)`` with values 0–255, or ``images`` itself.
    """
    if augment == "none":
        return images
    positions = indices.cpu().numpy() if isinstance(indices, Tensor) else np.asarray(indices)
    draws = uniforms(seed, epoch, positions, view)
    moved = _rotated(images, draws) if augment == "light" else _flipped(images, draws)
    return _recoloured(moved, images, draws)


def _flipped(images: Tensor, draws: NDArray[np.float32]) -> Tensor:
    flip = _column(draws[:, _FLIP] < 0.5, images)
    return torch.where(flip, images.flip(3), images).to(dtype=torch.float32, memory_format=torch.contiguous_format)


def _rotated(images: Tensor, draws: NDArray[np.float32]) -> Tensor:
    height, width = images.shape[2:]
    # math.cos one by one: vectorised cosines may differ in the last bit with the length of the vector.
    angles = [math.radians(_ROTATION_DEGREES * (2 * float(draw) - 1)) for draw in draws[:, _ROTATE]]
    cosine = np.array([math.cos(angle) for angle in angles])
    sine = np.array([math.sin(angle) for angle in angles])
    flip = np.where(draws[:, _FLIP] < 0.5, -1.0, 1.0)

    def factor(values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(images.device).view(-1, 1, 1)

    x = ((torch.arange(width, device=images.device, dtype=torch.float32) * 2 + 1) / width - 1).view(1, 1, width)
    y = ((torch.arange(height, device=images.device, dtype=torch.float32) * 2 + 1) / height - 1).view(1, height, 1)
    # Elementwise, not affine_grid: its matrix product may differ in the last bit with the size of the batch.
    source_x = x * factor(cosine * flip) - y * factor(sine * (height / width) * flip)
    source_y = x * factor(sine * (width / height)) + y * factor(cosine)
    grid = torch.stack((source_x, source_y), dim=3)
    pixels = images.to(dtype=torch.float32, memory_format=torch.contiguous_format)
    return functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _recoloured(moved: Tensor, images: Tensor, draws: NDArray[np.float32]) -> Tensor:
    """Brightness, contrast around the original's mean grey, saturation: together one linear map of the colours."""
    brightness, contrast, saturation = (
        1 + _JITTER * (2 * draws[:, column].astype(np.float64) - 1) for column in (_BRIGHTNESS, _CONTRAST, _SATURATION)
    )
    channels = images.shape[1]
    colours = moved if channels < 4 else moved[:, :3]
    if channels < 3:
        saturation = np.ones_like(saturation)
    offset = _mean_grey(images) * _column(brightness * (1 - contrast), images)
    recoloured = colours * _column(saturation * brightness * contrast, images)
    if channels >= 3:
        red, green, blue = (colours[:, channel : channel + 1] * _LUMA[channel] for channel in range(3))
        recoloured += (red + green + blue) * _column((1 - saturation) * brightness * contrast, images)
    recoloured = recoloured.add_(offset).clamp_(0, 255)
    return recoloured if channels < 4 else torch.cat((recoloured, moved[:, 3:]), dim=1)


def _mean_grey(images: Tensor) -> Tensor:
    # Sums of whole numbers are exact in any order, so the mean does not depend on how the work is shared out.
    whole = images if images.dtype == torch.uint8 else images.round().to(torch.int64)
    means = whole.sum(dim=(2, 3), dtype=torch.int64).to(torch.float32) / (images.shape[2] * images.shape[3])
    if images.shape[1] < 3:
        return means[:, :1].view(-1, 1, 1, 1)
    return (means[:, 0] * _LUMA[0] + means[:, 1] * _LUMA[1] + means[:, 2] * _LUMA[2]).view(-1, 1, 1, 1)


def _column(values: NDArray[np.float64] | NDArray[np.bool_], images: Tensor) -> Tensor:
    kind = torch.bool if values.dtype == np.bool_ else torch.float32
    return torch.from_numpy(values).to(device=images.device, dtype=kind).view(-1, 1, 1, 1)


def _area_share(draw: float) -> float:
    return _CROP_AREA[0] + (_CROP_AREA[1] - _CROP_AREA[0]) * draw


def _hash_rows(seed: int, epoch: int, view: int, indices: ArrayLike) -> NDArray[np.uint64]:
    state = np.zeros(1, dtype=np.uint64)
    for value in (seed, epoch, view):
        state = _mix(state ^ _mix(np.array([(value + _GOLDEN) & _MASK], dtype=np.uint64)))
    rows = np.asarray(indices).astype(np.uint64).reshape(-1) + np.uint64(_GOLDEN)
    return _mix(state ^ _mix(rows))


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = state ^ (state >> np.uint64(31))
    return mixed
