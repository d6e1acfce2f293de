"""Features of a frozen part computed on a CUDA GPU."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from zoo.architecture import Preprocessing
from zoo.chain import Chain, Stage
from zoo.data import ImageReader, Transform
from zoo.features.frozen import FeatureCache, FrozenFeatures
from zoo.training import Engine, Numerics, choose_device

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

PREPROCESSING = Preprocessing(input_size=(3, 64, 64))


def features_on(device: str, precision: str, paths: list[Path], folder: Path) -> Tensor:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 32, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU())
    body = nn.Sequential(nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = nn.Sequential(stem, body, nn.Linear(64, 3)).eval()
    chain = Chain(model, [Stage("stem", stem), Stage("body", body), Stage("head", model[2])])
    engine = Engine(choose_device(device), Numerics(precision, True, 32, 1, {}))  # type: ignore[arg-type]
    engine.place(model)
    digests = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    cache = FeatureCache({}, PREPROCESSING, digests, precision, folder / device)  # type: ignore[arg-type]
    features = FrozenFeatures(chain.part(0, 2), digest="-", cache=cache, engine=engine)
    found = features.rows(ImageReader(paths, PREPROCESSING), paths).take(np.arange(len(paths)))
    assert isinstance(found, Tensor)
    assert found.device.type == "cpu"
    return found.float()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for i in range(300):
        Image.fromarray(generator.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(folder / f"{i:03}.png")
    return sorted(folder.iterdir())


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 5e-3), ("bfloat16", 2e-2)])
def test_the_gpu_gives_the_features_of_the_processor(
    paths: list[Path], tmp_path: Path, precision: str, tolerance: float
) -> None:
    expected = features_on("cpu", "float32", paths, tmp_path)
    found = features_on("cuda", precision, paths, tmp_path / precision)
    # cuDNN multiplies float32 in TF32 unless told otherwise.
    assert (found - expected).norm() <= tolerance * expected.norm()


def test_equal_passes_give_equal_bytes(paths: list[Path], tmp_path: Path) -> None:
    first = features_on("cuda", "bfloat16", paths, tmp_path / "a")
    assert torch.equal(features_on("cuda", "bfloat16", paths, tmp_path / "b"), first)


def test_images_for_the_gpu_lie_in_page_locked_memory(paths: list[Path]) -> None:
    torch.zeros(1, device="cuda")
    images = ImageReader(paths, PREPROCESSING).read(range(8))
    assert images.is_pinned()
    expected = torch.stack([torch.from_numpy(np.array(Transform(PREPROCESSING).read(path))) for path in paths[:8]])
    assert torch.equal(images.to("cuda", non_blocking=True).cpu(), expected.permute(0, 3, 1, 2))
