import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from zoo.data import augment_batch, permutation, uniforms
from zoo.data.augment import random_crop, smallest_crop
from zoo.data.pixels import rotated


def batch(count: int, channels: int = 3, size: tuple[int, int] = (20, 24)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, *size), dtype=torch.uint8, generator=generator)


def test_draws_are_uniform() -> None:
    draws = uniforms(0, 0, range(20_000), count=8)
    assert draws.dtype == np.float32
    assert draws.min() >= 0
    assert draws.max() < 1
    for column in draws.T:
        counts = np.histogram(column, 50, (0, 1))[0]
        chi_square = ((counts - 400) ** 2 / 400).sum()
        assert chi_square < 95  # 49 degrees of freedom: exceeded once in ten thousand
    assert np.abs(np.corrcoef(draws.T) - np.eye(8)).max() < 0.03
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.03


def test_draws_never_change() -> None:
    expected = [
        [0.79451543, 0.07648081, 0.49780363],
        [0.83300859, 0.84753126, 0.77205324],
        [0.20598835, 0.71274686, 0.91015577],
    ]
    np.testing.assert_allclose(uniforms(7, 3, [0, 1, 123_456], view=1, count=3), expected, rtol=0, atol=1e-7)


def test_draws_depend_on_every_coordinate() -> None:
    rows = [
        uniforms(seed, epoch, [index], view, 4)[0]
        for seed in (0, 1, -1, 2**40)
        for epoch in (0, 1)
        for index in (0, 1)
        for view in (0, 1)
    ]
    assert len({row.tobytes() for row in rows}) == len(rows)


def test_draws_do_not_depend_on_the_batch() -> None:
    whole = uniforms(1, 2, range(100))
    np.testing.assert_array_equal(uniforms(1, 2, [42]), whole[42:43])
    np.testing.assert_array_equal(uniforms(1, 2, [9, 3, 9]), whole[[9, 3, 9]])
    np.testing.assert_array_equal(uniforms(1, 2, [42], count=3), whole[42:43, :3])


def test_a_permutation_is_of_seed_and_epoch() -> None:
    first = permutation(0, 0, 1000)
    assert sorted(first) == list(range(1000))
    assert permutation(0, 0, 1000).tolist() == first.tolist()
    assert permutation(0, 1, 1000).tolist() != first.tolist()
    assert permutation(1, 0, 1000).tolist() != first.tolist()
    assert abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.1
    assert permutation(0, 0, 6).tolist() == [1, 3, 0, 5, 4, 2]


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (64, 64), (1000, 100)])
def test_a_random_crop_lies_inside_with_area_and_shape_in_range(size: tuple[int, int]) -> None:
    width, height = size
    draws = uniforms(0, 0, range(2000))
    shares = []
    for row in draws:
        left, top, right, bottom = random_crop(size, row)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert 3 / 4 - 1e-6 <= (right - left) / (bottom - top) <= 4 / 3 + 1e-6
        shares.append((right - left) * (bottom - top) / (width * height))
        assert min(right - left, bottom - top) >= smallest_crop(row) * min(size) - 1e-6 or width == 1000
    if width < 1000:
        assert min(shares) >= 0.25 - 1e-6
        assert 0.5 < np.mean(shares) < 0.65
    else:
        assert min(shares) > 0.07


@pytest.mark.parametrize("augment", ["light", "standard", "strong"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_image_is_changed_alike_in_every_batch(augment: str, channels: int) -> None:
    images = batch(33, channels)
    together = augment_batch(images, augment=augment, seed=1, epoch=2, indices=range(33))
    assert together.dtype == torch.float32
    assert together.shape == images.shape
    order = torch.randperm(33, generator=torch.Generator().manual_seed(1))
    assert torch.equal(augment_batch(images[order], augment=augment, seed=1, epoch=2, indices=order), together[order])
    channels_last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(augment_batch(channels_last, augment=augment, seed=1, epoch=2, indices=range(33)), together)
    for start, stop in ((0, 1), (5, 7), (20, 33)):
        part = augment_batch(images[start:stop], augment=augment, seed=1, epoch=2, indices=range(start, stop))
        assert torch.equal(part, together[start:stop])


@pytest.mark.parametrize("augment", ["light", "standard", "strong"])
def test_the_number_of_threads_changes_nothing(augment: str) -> None:
    images = batch(9)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 4):
            torch.set_num_threads(count)
            results.append(augment_batch(images, augment=augment, seed=1, epoch=2, indices=range(9)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_none_gives_the_images_back() -> None:
    images = batch(2)
    assert augment_batch(images, augment="none", seed=0, epoch=0, indices=[0, 1]) is images


@pytest.mark.parametrize("augment", ["light", "standard", "strong"])
def test_images_differ_by_epoch_seed_and_view(augment: str) -> None:
    images = batch(1).expand(4, -1, -1, -1)
    found = augment_batch(images, augment=augment, seed=0, epoch=0, indices=range(4))
    assert len({image.numpy().tobytes() for image in found}) == 4
    for change in ({"epoch": 1}, {"seed": 1}, {"view": 1}):
        other = augment_batch(images, augment=augment, **{"seed": 0, "epoch": 0, "indices": range(4), **change})
        assert not torch.equal(other, found)


@pytest.mark.parametrize("augment", ["light", "standard", "strong"])
def test_values_stay_in_range_and_the_input_is_left_alone(augment: str) -> None:
    images = batch(40)
    before = images.clone()
    found = augment_batch(images, augment=augment, seed=0, epoch=0, indices=range(40))
    assert found.min() >= 0
    assert found.max() <= 255
    assert torch.equal(images, before)


def test_half_of_the_images_are_flipped() -> None:
    ramp = torch.arange(24, dtype=torch.uint8).mul(10).expand(400, 3, 20, 24)
    found = augment_batch(ramp, augment="standard", seed=0, epoch=0, indices=range(400))
    flipped = (found[:, 0, 0, 0] > found[:, 0, 0, -1]).sum().item()
    assert 160 < flipped < 240


def test_colours_change_as_torchvision_changes_them() -> None:
    # A soft image, so that nothing is clipped on the way.
    image = batch(1, 3).float().mul(0.3).add(90).round().to(torch.uint8)
    draws = uniforms(5, 0, [8])[0]
    brightness, contrast, saturation = (1 + 0.2 * (2 * float(draw) - 1) for draw in draws[12:15])
    expected = image.float() / 255
    if draws[10] < 0.5:
        expected = expected.flip(3)
    expected = v2.functional.adjust_brightness(expected, brightness)
    expected = v2.functional.adjust_contrast(expected, contrast)
    expected = v2.functional.adjust_saturation(expected, saturation) * 255
    found = augment_batch(image, augment="standard", seed=5, epoch=0, indices=[8])
    assert (found - expected).abs().max() < 0.2


@pytest.mark.parametrize("size", [(24, 24), (20, 32)])
def test_rotation_equals_torchvision_inside(size: tuple[int, int]) -> None:
    coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(coarse, size, mode="bicubic").mul(60).add(100).round().to(torch.uint8)
    draws = uniforms(0, 0, range(20))
    draws = draws[draws[:, 10] >= 0.5][:6]  # not flipped
    found = rotated(image.expand(6, -1, -1, -1), draws[:, 11], draws[:, 10] < 0.5)
    for turned, draw in zip(found, draws[:, 11], strict=True):
        degrees = 15 * (2 * float(draw) - 1)
        expected = v2.functional.rotate(image.float(), degrees, interpolation=v2.InterpolationMode.BILINEAR)[0]
        assert (turned - expected)[:, 6:-6, 6:-6].abs().max() < 0.1


def test_the_alpha_channel_keeps_its_values() -> None:
    images = batch(6, 4)
    found = augment_batch(images, augment="standard", seed=0, epoch=0, indices=range(6))
    flipped = uniforms(0, 0, range(6))[:, 10] < 0.5
    for image, original, flip in zip(found, images, flipped, strict=True):
        alpha = original[3].flip(1) if flip else original[3]
        assert torch.equal(image[3], alpha.float())


@pytest.mark.gpu
def test_a_gpu_changes_images_as_the_processor_does() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    images = batch(16)
    for augment in ("light", "standard", "strong"):
        here = augment_batch(images, augment=augment, seed=0, epoch=0, indices=range(16))
        there = augment_batch(images.cuda(), augment=augment, seed=0, epoch=0, indices=range(16))
        assert there.is_cuda
        assert (there.cpu() - here).abs().max() < 0.05
