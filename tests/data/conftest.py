"""Generated photographs and folders of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter


def generated_photo(seed: int, width: int, height: int) -> Image.Image:
    """Colours that vary smoothly, edges and a little noise, as in a photograph."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (max(2, height // 24), max(2, width // 24), 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    image = image.filter(ImageFilter.UnsharpMask(4, 80))
    noise = random.normal(0, 2, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def photo() -> Callable[[int, int, int], Image.Image]:
    return generated_photo


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder with small different images at the paths given."""

    def make(*paths: str, name: str = "photos") -> Path:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        for number, path in enumerate(paths):
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            generated_photo(number + len(list(root.rglob("*"))), 24, 20).save(file)
        return root

    return make
