"""Random changes of training images as pure functions of (seed, epoch, image, view).

Neither the order of the images nor the batch, worker or process they are handled in changes what is drawn for them.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from zoo.data.pixels import flipped, recoloured, rotated
from zoo.data.trivial import erased, trivially_changed
from zoo.recipes import Augment

DRAWS = 24
"""Random numbers drawn for each image and epoch.

0–9 place the crop, 10 flips, 11 rotates, 12–14 change colours, 15–17 choose TrivialAugment's change, 18–22 erase.
"""

CROP_DRAWS = 10

CROPPING: frozenset[Augment] = frozenset({"standard", "strong"})
"""The augmentations that begin with a random resized crop, which takes place when an image is read."""

_CROP_TRIES = 4
_CROP_AREA = (0.25, 1.0)
_CROP_RATIO = (3 / 4, 4 / 3)
SMALLEST_CROP = math.sqrt(_CROP_RATIO[0] * _CROP_AREA[0])
"""Lower bound of the shorter edge of every :func:`random_crop`, as a share of the image's shorter edge."""

_FLIP, _ROTATE, _COLOURS, _TRIVIAL, _ERASE = 10, 11, slice(12, 15), slice(15, 18), slice(18, 23)

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
    has taken place when the image was read. ``"strong"`` follows the same crop and flip with one change at random of
    TrivialAugment (:mod:`zoo.data.trivial`) and erases a rectangle from every fourth image. Saturation needs 3
    channels; the fourth is left as it is but for its place.

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
    flip = draws[:, _FLIP] < 0.5
    if augment == "strong":
        return erased(trivially_changed(flipped(images, flip), draws[:, _TRIVIAL]), draws[:, _ERASE])
    moved = rotated(images, draws[:, _ROTATE], flip) if augment == "light" else flipped(images, flip)
    return recoloured(moved, images, draws[:, _COLOURS])


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
