"""Features of images for other tools."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open

import zoo
from zoo.cli.app import cli
from zoo.errors import OptionError, RunExistsError, UsageError
from zoo.phases import Front
from zoo.recipes import Phase
from zoo.training.batches import Batch
from zoo.training.engine import Engine, Numerics


@pytest.fixture(scope="module")
def artifact(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.finetune(
        photos,
        model="simple_cnn",
        weights="none",
        image_size=16,
        options={"widths": "4,8", "hidden": 16, "batch_norm": True},
        recipe=(Phase(epochs=2, train="head"),),
        device="cpu",
        output=tmp_path_factory.mktemp("runs") / "run",
    ).artifact


def backbone_features(artifact: Path, paths: tuple[Path, ...]) -> torch.Tensor:
    from zoo.data import ImageReader

    model = zoo.load(artifact)
    chain = model.chain()
    engine = Engine(torch.device("cpu"), Numerics("float32", False, 8, torch.get_num_threads(), {}))
    pixels = ImageReader(paths, model.preprocessing).read(range(len(paths)))
    batch = Batch(pixels, torch.zeros(len(paths)), torch.arange(len(paths)), len(paths))
    with torch.inference_mode():
        found = chain.part(0, len(chain) - 1)(Front(model.preprocessing, engine=engine)(batch, False))
    assert isinstance(found, torch.Tensor)
    return found


def test_an_embedding_is_what_the_backbone_gives(artifact: Path, photos: Path) -> None:
    found = zoo.embed(photos, model=artifact, device="cpu", precision="float32")
    expected = backbone_features(artifact, found.paths)
    assert found.features.dtype == torch.float32
    assert (found.features - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert [found.classes[label] for label in found.labels] == [path.parent.name for path in found.paths]


def test_safetensors_hold_everything_in_one_file(artifact: Path, photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "f.safetensors"
    found = zoo.embed(photos, model=artifact, output=target, device="cpu")
    with safe_open(target, "pt") as file:
        assert torch.equal(file.get_tensor("features"), found.features)
        assert file.get_tensor("labels").tolist() == list(found.labels)
        facts = json.loads(file.metadata()["zoo_embedding"])
    assert [str(photos / path) for path in facts["paths"]] == [str(path) for path in found.paths]
    assert facts["architecture"] == "simple_cnn/simple_cnn"
    assert facts["classes"] == list(found.classes)
    zoo.embed(photos, model=artifact, output=tmp_path / "again.safetensors", device="cpu")
    assert target.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_npy_has_a_json_beside_it(artifact: Path, photos: Path, tmp_path: Path) -> None:
    found = zoo.embed(photos, model=artifact, output=tmp_path / "f.npy", device="cpu")
    assert np.array_equal(np.load(tmp_path / "f.npy"), found.features.numpy())
    facts = json.loads((tmp_path / "f.json").read_text())
    assert facts["labels"] == list(found.labels)
    with pytest.raises(RunExistsError, match=r"f\.npy exists"):
        zoo.embed(photos, model=artifact, output=tmp_path / "f.npy", device="cpu")


def test_images_without_classes_have_no_labels(artifact: Path, photos: Path) -> None:
    found = zoo.embed(photos / "cross", model=artifact, device="cpu")
    assert len(found.paths) == 20
    assert found.labels == ()


def test_an_earlier_stage_gives_its_maps(artifact: Path, photos: Path) -> None:
    found = zoo.embed(photos / "cross", model=artifact, stage="block1", device="cpu")
    assert found.features.shape == (20, 4, 8, 8)
    with pytest.raises(OptionError, match="which has block1, block2, flatten"):
        zoo.embed(photos, model=artifact, stage="block", device="cpu")


def test_without_the_cache_nothing_is_kept(artifact: Path, photos: Path) -> None:
    from zoo.files import cache_folder

    kept = zoo.embed(photos / "cross", model=artifact, cache=False, device="cpu")
    assert not (cache_folder() / "features").exists()
    assert torch.equal(kept.features, zoo.embed(photos / "cross", model=artifact, device="cpu").features)


def test_an_ending_that_cannot_be_written_is_refused(artifact: Path, photos: Path) -> None:
    with pytest.raises(UsageError, match=r"neither in \.safetensors nor in \.npy"):
        zoo.embed(photos, model=artifact, output="features.csv", device="cpu")


def test_the_command_writes_and_says_what(artifact: Path, photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "f.npy"
    arguments: list[Any] = ["embed", str(photos), "--model", str(artifact), "--output", str(target), "--quiet"]
    said = CliRunner().invoke(cli, [*arguments, "--json", "--device", "cpu"], catch_exceptions=False)
    assert json.loads(said.stdout)["shape"] == [60, 128]
    assert target.is_file()
