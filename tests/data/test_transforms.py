from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from zoo.architecture import Preprocessing
from zoo.data import Transform, decode, find_images, normalise, to_batch

Photo = Callable[[int, int, int], Image.Image]

RECIPES = [
    Preprocessing(input_size=(3, 64, 64), crop_pct=0.875, interpolation="bilinear"),
    Preprocessing(input_size=(3, 64, 64), crop_pct=1.0, interpolation="bicubic"),
    Preprocessing(input_size=(3, 48, 48), crop_pct=0.965, interpolation="bicubic"),
]


def torchvision_pixels(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    mode = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}[preprocessing.interpolation]
    height, width = preprocessing.input_size[1:]
    steps = v2.Compose(
        [v2.PILToTensor(), v2.Resize(preprocessing.resize, mode, antialias=True), v2.CenterCrop((height, width))]
    )
    return steps(image).permute(1, 2, 0).numpy().astype(np.int64)


@pytest.mark.parametrize("preprocessing", RECIPES)
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (200, 200), (641, 127), (90, 70), (40, 50), (1600, 1201)])
def test_one_boxed_resize_equals_resize_then_crop(
    photo: Photo, preprocessing: Preprocessing, size: tuple[int, int]
) -> None:
    image = photo(1, *size)
    difference = np.abs(Transform(preprocessing)(image).astype(np.int64) - torchvision_pixels(image, preprocessing))
    assert difference.mean() < 2


def test_smaller_decoding_of_a_jpeg_keeps_the_pixels(photo: Photo) -> None:
    buffer = BytesIO()
    photo(2, 1200, 900).save(buffer, "JPEG", quality=90)
    for preprocessing in RECIPES:
        transform = Transform(preprocessing)
        whole = transform(decode(buffer.getvalue())).astype(np.int64)
        quick = transform.read(buffer.getvalue()).astype(np.int64)
        assert np.abs(whole - quick).mean() < 2


def test_real_photos_equal_torchvision(shared_data: Path) -> None:
    paths = find_images(shared_data / "sign-digits").paths
    large = [path for path in paths if path.stat().st_size > 300_000]
    preprocessing = Preprocessing(input_size=(3, 64, 64))
    for path in (*paths[::200], large[0]):
        expected = torchvision_pixels(decode(path), preprocessing)
        assert np.abs(Transform(preprocessing).read(path).astype(np.int64) - expected).mean() < 2


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_image_of_the_right_size_is_left_alone(channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (32, 32, channels), dtype=np.uint8)
    image = Image.fromarray(values.squeeze(2) if channels == 1 else values)
    for interpolation in ("nearest", "bilinear", "bicubic"):
        transform = Transform(Preprocessing(input_size=(channels, 32, 32), interpolation=interpolation))
        np.testing.assert_array_equal(transform(image), values)


@pytest.mark.parametrize("size", [(10, 1000), (1000, 10), (1, 1), (3, 2), (224, 225)])
@pytest.mark.parametrize("crop_mode", ["center", "squash"])
def test_any_shape_of_image_works(size: tuple[int, int], crop_mode: str) -> None:
    for height, width in ((32, 32), (48, 16), (16, 48)):
        preprocessing = Preprocessing(input_size=(3, height, width), crop_pct=0.9, crop_mode=crop_mode)
        transform = Transform(preprocessing)
        left, top, right, bottom = transform.centre(size)
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        pixels = transform(Image.new("RGB", size, (1, 2, 3)))
        assert pixels.shape == (height, width, 3)
        assert (pixels == [1, 2, 3]).all()


def test_the_centre_keeps_the_aspect_ratio() -> None:
    left, top, right, bottom = Transform(Preprocessing(input_size=(3, 32, 64))).centre((400, 300))
    assert (right - left, bottom - top) == (400, 200)
    assert (left, top) == (0, 50)


def test_squash_takes_both_edges_whole() -> None:
    assert Transform(Preprocessing(crop_mode="squash")).centre((400, 300)) == (0, 0, 400, 300)
    quarter = Preprocessing(crop_mode="squash", crop_pct=0.5)
    assert Transform(quarter).centre((400, 300)) == (100, 75, 300, 225)


def test_a_batch_is_a_view() -> None:
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    batch = to_batch(images)
    assert batch.shape == (2, 3, 4, 5)
    assert batch[1, 2, 3, 4] == images[1, 3, 4, 2]
    assert batch.data_ptr() == images.__array_interface__["data"][0]


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_normalise_equals_torchvision(kind: torch.dtype, layout: torch.memory_format) -> None:
    images = to_batch(np.random.default_rng(0).integers(0, 256, (4, 8, 9, 3), dtype=np.uint8)).to(kind)
    images = images.contiguous(memory_format=layout)
    before = images.clone()
    preprocessing = Preprocessing()
    expected = v2.functional.normalize(images.float() / 255, list(preprocessing.mean), list(preprocessing.std))
    found = normalise(images, preprocessing)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=layout)
    assert torch.equal(images, before)


def test_normalise_needs_a_mean_for_each_channel() -> None:
    with pytest.raises(ValueError, match="images have 1 channels, but mean has 3 and std has 3 values"):
        normalise(torch.zeros(1, 1, 2, 2), Preprocessing())
