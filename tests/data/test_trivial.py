"""TrivialAugment and erasing against torchvision's operations."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from zoo.data import uniforms
from zoo.data.trivial import CHANGES, STRENGTHS, changed, erased, trivially_changed

COLOURS = {
    "brightness": lambda image, strength, sign: functional.adjust_brightness(image, 1 + 0.99 * sign * strength),
    "saturation": lambda image, strength, sign: functional.adjust_saturation(image, 1 + 0.99 * sign * strength),
    "contrast": lambda image, strength, sign: functional.adjust_contrast(image, 1 + 0.99 * sign * strength),
    "sharpness": lambda image, strength, sign: functional.adjust_sharpness(image, 1 + 0.99 * sign * strength),
    "posterise": lambda image, strength, sign: functional.posterize(image, 8 - round(6 * strength)),
    "solarise": lambda image, strength, sign: functional.solarize(image, 255 * (1 - strength)),
    "autocontrast": lambda image, strength, sign: functional.autocontrast(image),
    "equalise": lambda image, strength, sign: functional.equalize(image),
    "identity": lambda image, strength, sign: image,
}


def photos(count: int, channels: int = 3, size: tuple[int, int] = (20, 24)) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic")
    noise = torch.randn(count, channels, *size, generator=generator)
    return (smooth * 200 + 30 + 4 * noise).clamp(0, 255).round()


def one(name: str, images: Tensor, strength: float, sign: float) -> Tensor:
    count = len(images)
    kinds = np.full(count, list(CHANGES).index(name))
    return changed(images, kinds, np.full(count, strength), np.full(count, sign))


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_colours_change_as_torchvision_changes_them(name: str, sign: float) -> None:
    images = photos(4)
    for strength in (0.0, 1 / 3, 1.0):
        if name in ("brightness", "saturation", "contrast", "sharpness"):  # blends, which torchvision has for 0–1 too
            expected = COLOURS[name](images / 255, strength, sign) * 255
        else:
            expected = COLOURS[name](images.to(torch.uint8), strength, sign).float()
        # Torchvision rounds autocontrast to whole numbers, and its weights of red, green and blue have four digits.
        assert (one(name, images, strength, sign) - expected).abs().max() <= (1 if name == "autocontrast" else 0.1)


@pytest.mark.parametrize(
    ("name", "strength", "settings"),
    [
        ("rotate", 0.3, {"angle": -0.3 * 135}),
        ("shift x", 0.5, {"translate": [-0.5 * 28 / 7, 0]}),
        ("shift y", 1.0, {"translate": [0, -21 / 7]}),
        ("shear x", 0.3, {"shear": [math.degrees(math.atan(0.3 * 0.99)), 0]}),
        ("shear y", 0.3, {"shear": [0, math.degrees(math.atan(0.3 * 0.99))]}),
    ],
)
def test_moves_equal_torchvisions_inside(name: str, strength: float, settings: dict[str, object]) -> None:
    coarse = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.interpolate(coarse, (21, 28), mode="bicubic").mul(60).add(100)
    all_settings = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], **settings}
    expected = functional.affine(images, **all_settings, interpolation=InterpolationMode.BILINEAR)  # type: ignore[arg-type]
    inside = (functional.affine(torch.ones_like(images), **all_settings) == 1)[:, :, 7:-7, 8:-8]  # type: ignore[arg-type]
    found = one(name, images, strength, 1.0)
    assert inside.float().mean() > 0.9
    assert ((found - expected)[:, :, 7:-7, 8:-8] * inside).abs().max() < 0.2


def test_equalising_equals_torchvision_exactly() -> None:
    images = torch.cat((photos(3), torch.full((1, 3, 20, 24), 7.0)))
    assert torch.equal(one("equalise", images, 0.5, 1.0), functional.equalize(images.to(torch.uint8)).float())


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_strength_none_changes_nothing(name: str, channels: int) -> None:
    images = photos(2, channels)
    if name in ("autocontrast", "equalise"):
        return  # they have no strength
    tolerance = 1e-3 if name in ("rotate", "contrast") or name.startswith("sh") else 1e-4
    torch.testing.assert_close(one(name, images, 0.0, 1.0), images, rtol=0, atol=tolerance)


def test_every_change_and_strength_is_as_likely() -> None:
    draws = uniforms(0, 0, range(20_000))[:, 15:18]
    kinds = np.bincount((draws[:, 0] * len(CHANGES)).astype(int), minlength=len(CHANGES))
    strengths = np.bincount((draws[:, 1] * STRENGTHS).astype(int), minlength=STRENGTHS)
    assert len(CHANGES) == 14
    for counts, chi_square in ((kinds, 38), (strengths, 63)):  # exceeded about once in five thousand
        expected = counts.sum() / len(counts)
        assert ((counts - expected) ** 2 / expected).sum() < chi_square


def test_each_image_has_one_change_of_its_own() -> None:
    images = photos(40)
    draws = uniforms(3, 0, range(40))[:, 15:18]
    together = trivially_changed(images, draws)
    for row in range(40):
        assert torch.equal(trivially_changed(images[row : row + 1], draws[row : row + 1])[0], together[row])
    assert 1 <= sum(bool(torch.equal(a, b)) for a, b in zip(together, images, strict=True)) <= 15


def test_the_fourth_channel_moves_and_keeps_its_values() -> None:
    images = photos(2, 4)
    assert torch.equal(one("solarise", images, 1.0, 1.0)[:, 3], images[:, 3])
    assert torch.equal(one("shear x", images, 0.5, 1.0)[:, 3], one("shear x", images[:, 3:], 0.5, 1.0)[:, 0])


def test_a_quarter_of_the_images_loses_a_rectangle_to_its_mean_colour() -> None:
    images = photos(400, size=(24, 30))
    found = erased(images, uniforms(0, 0, range(400))[:, 18:23])
    touched = [row for row in range(400) if not torch.equal(found[row], images[row])]
    assert 70 < len(touched) < 130
    for row in touched:
        differs = (found[row] != images[row]).any(0)
        rows, columns = differs.any(1).nonzero()[:, 0], differs.any(0).nonzero()[:, 0]
        patch = found[row][:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        mean = images[row].mean((1, 2))
        assert (patch - mean[:, None, None]).abs().max() < 1e-3
        assert 0.01 < patch[0].numel() / (24 * 30) < 0.38


@pytest.mark.gpu
def test_a_gpu_changes_images_as_the_processor_does() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    images = photos(56)
    for name in CHANGES:
        for strength in (0.2, 1.0):
            here, there = one(name, images, strength, -1.0), one(name, images.cuda(), strength, -1.0)
            assert (there.cpu() - here).abs().max() < 0.05, name
