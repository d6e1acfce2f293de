"""Decoded images kept for random crops."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.architecture import Preprocessing
from zoo.data import ImageReader, uniforms
from zoo.data.augment import CROP_DRAWS, SMALLEST_CROP, random_crop, smallest_crop

Photo = Callable[[int, int, int], Image.Image]
SMALL = Preprocessing(input_size=(3, 32, 32))
EDGE = 74  # 32 / SMALLEST_CROP, rounded up


@pytest.fixture
def paths(photo: Photo, tmp_path: Path) -> list[Path]:
    sizes = [(400, 300), (60, 70), (301, 203), (100, 74)]
    found = [tmp_path / f"{number}.jpg" for number in range(4)]
    for number, (path, size) in enumerate(zip(found, sizes, strict=True)):
        photo(number, *size).save(path, quality=95)
    return found


def crops(epoch: int, count: int = 4) -> np.ndarray:
    return uniforms(0, epoch, np.arange(count), 0, CROP_DRAWS)


def read(reader: ImageReader, epoch: int) -> torch.Tensor:
    return reader.read(range(4), crops=crops(epoch))


def test_what_is_kept_changes_no_pixel(paths: list[Path]) -> None:
    small, large = (ImageReader(paths, SMALL, cache_images_bytes=limit, workers=2) for limit in (1, 1 << 30))
    for epoch in range(3):
        assert torch.equal(read(small, epoch), read(large, epoch))
    assert (len(small.decoded or ()), len(large.decoded or ())) == (0, 4)


def test_a_kept_image_is_not_read_again(paths: list[Path]) -> None:
    reader = ImageReader(paths, SMALL, cache_images_bytes=1 << 30)
    before = read(reader, 0)
    for path in paths:
        path.unlink()
    assert torch.equal(read(reader, 0), before)
    assert not torch.equal(read(reader, 1), before)


def test_memory_is_counted_and_stays_within_the_limit(paths: list[Path]) -> None:
    sizes = [(round(400 * EDGE / 300), EDGE), (60, 70), (round(301 * EDGE / 203), EDGE), (100, EDGE)]
    total = sum(3 * width * height for width, height in sizes)
    whole = ImageReader(paths, SMALL, cache_images_bytes=total + 100).decoded
    part = ImageReader(paths, SMALL, cache_images_bytes=total - 100).decoded
    assert whole is not None
    assert part is not None
    for decoded in (whole, part):
        for position, path in enumerate(paths):
            decoded.image(position, path)
            decoded.image(position, path)
    assert whole.size_bytes == total
    assert len(whole) == 4
    assert part.size_bytes <= part.limit_bytes
    assert len(part) == 3


def test_crops_differ_little_from_those_of_the_file(paths: list[Path]) -> None:
    kept = ImageReader(paths, SMALL, cache_images_bytes=1 << 30)
    plain = ImageReader(paths, SMALL)
    for epoch in range(4):
        difference = (read(kept, epoch).int() - read(plain, epoch).int()).abs().float()
        assert difference.mean() < 2


def test_no_crop_is_smaller_than_the_smallest() -> None:
    for draws in uniforms(3, 0, np.arange(2000), 0, CROP_DRAWS):
        left, top, right, bottom = random_crop((400, 300), draws)
        assert min(right - left, bottom - top) >= SMALLEST_CROP * 300 - 1e-6
        assert smallest_crop(draws) >= SMALLEST_CROP - 1e-6
