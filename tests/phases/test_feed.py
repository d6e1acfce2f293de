"""The main job on stored features: the same results, the second time without computing them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.artifact import read_artifact, read_header
from zoo.files import cache_folder
from zoo.recipes import Phase
from zoo.training.extraction import FrozenPass

HEAD = (Phase(epochs=3, train="head", lr=1e-2, batch_size=16),)
SMALL: dict[str, Any] = {
    "model": "simple_cnn",
    "image_size": 16,
    "options": {"widths": "4,8", "hidden": 16, "batch_norm": True},
    "weights": "none",
    "device": "cpu",
    "precision": "float32",
}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images of each batch that went through a pass."""
    seen: list[int] = []
    original = FrozenPass.__call__

    def counted(self: FrozenPass, images: torch.Tensor) -> Any:
        seen.append(len(images))
        return original(self, images)

    monkeypatch.setattr(FrozenPass, "__call__", counted)
    return seen


def test_a_second_run_computes_nothing_and_writes_the_same_bytes(
    photos: Path, tmp_path: Path, passes: list[int]
) -> None:
    first = zoo.finetune(photos, recipe=HEAD, **SMALL, output=tmp_path / "first")
    assert passes
    passes.clear()
    second = zoo.finetune(photos, recipe=HEAD, **SMALL, output=tmp_path / "second")
    assert not passes
    assert second.artifact.read_bytes() == first.artifact.read_bytes()
    shutil.rmtree(cache_folder() / "features")
    third = zoo.finetune(photos, recipe=HEAD, **SMALL, output=tmp_path / "third")
    assert third.artifact.read_bytes() == first.artifact.read_bytes()


def test_another_learning_rate_needs_no_new_features(photos: Path, tmp_path: Path, passes: list[int]) -> None:
    zoo.finetune(photos, recipe=HEAD, **SMALL, output=tmp_path / "first")
    passes.clear()
    zoo.finetune(photos, recipe=HEAD, lr=3e-2, **SMALL, output=tmp_path / "second")
    assert not passes


def test_with_and_without_the_store_the_logits_are_the_same(photos: Path, tmp_path: Path) -> None:
    stored = zoo.finetune(photos, recipe=HEAD, **SMALL, output=tmp_path / "stored")
    shutil.rmtree(cache_folder() / "features")
    plain = zoo.finetune(photos, recipe=HEAD, **SMALL, cache=False, output=tmp_path / "plain")
    assert not (cache_folder() / "features").exists()
    logits = [torch.tensor(read_header(run.artifact).check.logits) for run in (stored, plain)]
    assert (logits[0] - logits[1]).abs().max() <= 1e-5 * logits[1].abs().max()
    assert stored.metrics["test"]["accuracy"] == plain.metrics["test"]["accuracy"]


def test_evaluate_repeats_the_figures_from_the_same_rows(photos: Path, tmp_path: Path, passes: list[int]) -> None:
    run = zoo.finetune(photos, recipe=HEAD, **{**SMALL, "precision": "bfloat16"}, output=tmp_path / "run")
    assert read_header(run.artifact).numerics.feature_stages == 3
    passes.clear()
    assert zoo.evaluate(run.artifact, photos, split="test", device="cpu").report == run.metrics["test"]
    assert not passes
    shutil.rmtree(cache_folder() / "features")
    assert zoo.evaluate(run.artifact, photos, split="test", device="cpu").report == run.metrics["test"]
    assert passes


def test_later_phases_that_train_more_are_measured_whole(photos: Path, tmp_path: Path) -> None:
    phases = (*HEAD, Phase(epochs=1, train="all", lr=1e-3))
    run = zoo.finetune(photos, recipe=phases, **SMALL, output=tmp_path / "run")
    assert read_header(run.artifact).numerics.feature_stages == 0
    assert zoo.evaluate(run.artifact, photos, split="test", device="cpu").report == run.metrics["test"]


def test_views_are_kept_and_counted(photos: Path, tmp_path: Path, passes: list[int]) -> None:
    settings = {**SMALL, "recipe": HEAD, "augment": "light", "views": 2}
    first = zoo.finetune(photos, **settings, output=tmp_path / "first")
    assert read_header(first.artifact).recipe.phases[0]["views"] == 2
    passes.clear()
    second = zoo.finetune(photos, **settings, output=tmp_path / "second")
    assert not passes
    assert read_artifact(second.artifact)[0].metrics == read_artifact(first.artifact)[0].metrics
