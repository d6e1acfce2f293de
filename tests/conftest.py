"""Fixtures for every test: real data where it lies beside the checkout, and a cache folder of the test's own."""

import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_SHARED = Path(__file__).resolve().parents[2] / "shared"


# A shell that runs the tests in the background has them, and every process they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("huggingface")))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "ZOO_MIRROR", "ZOO_LOCKED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("ZOO_REGISTRY", raising=False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photographs beside the checkout."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """Real pretrained weights beside the checkout."""
    return _shared("weights")


def _shared(name: str) -> Path:
    folder = _SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the real files in ../shared/{name}, which are not here")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small generated photos: three classes that a small network can tell apart, 20 of each."""
    folder = tmp_path_factory.mktemp("photos") / "shapes"
    write_photos(folder, {"circle": 20, "cross": 20, "stripes": 20})
    return folder


def write_photos(folder: Path, counts: dict[str, int], *, size: int = 24) -> None:
    """Write noisy pictures of circles, crosses and stripes as PNG files, one folder a class."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size - 0.5
    shapes = {
        "circle": x**2 + y**2 < 0.1,
        "cross": (abs(x) < 0.1) | (abs(y) < 0.1),
        "stripes": (np.arange(size) // 4 % 2 == 0)[None, :].repeat(size, 0),
    }
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            colours = generator.uniform(0, 255, (2, 3))
            pixels = np.where(shapes[name][..., None], colours[0], colours[1]) + generator.normal(
                0, 12, (size, size, 3)
            )
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{i:02d}.png")
