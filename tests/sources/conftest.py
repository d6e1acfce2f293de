"""Bytes of small pictures."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image


def picture(number: int, kind: str = "JPEG") -> bytes:
    """A file of its own for each number, dark for even ones and light for odd ones."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 100, (12, 12, 3)) + 150 * (number % 2)
    content = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(content, format=kind)
    return content.getvalue()


@pytest.fixture(scope="session")
def picture_bytes() -> Callable[..., bytes]:
    return picture
