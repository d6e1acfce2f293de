"""Predicting many files takes the features that training keeps, and says what evaluating says."""

import math
from pathlib import Path

import pytest

import zoo
from zoo.features.frozen import FrozenPass
from zoo.jobs.prediction import Prediction, predict_images


@pytest.fixture
def run(photos: Path, tmp_path: Path) -> zoo.Run:
    return zoo.finetune(
        photos,
        model="simple_cnn",
        image_size=16,
        options={"widths": "4,8", "hidden": 16},
        weights=None,
        recipe="frozen",
        epochs=3,
        lr=1e-2,
        device="cpu",
        precision="float32",
        output=tmp_path / "run",
    )


@pytest.fixture
def paths(photos: Path) -> list[Path]:
    return sorted(photos.rglob("*.png"))


@pytest.fixture
def no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the frozen part ran")

    monkeypatch.setattr(FrozenPass, "__init__", refuse)


def probabilities(predictions: list[Prediction]) -> list[dict[str, float]]:
    return [dict(prediction.top) for prediction in predictions]


def test_many_files_get_what_evaluate_measures(run: zoo.Run, photos: Path, paths: list[Path]) -> None:
    measured = zoo.evaluate(run.artifact, photos, device="cpu").report
    predictions = zoo.load(run.artifact).predict(paths)
    given = [row[path.parent.name] for row, path in zip(probabilities(predictions), paths, strict=True)]
    assert sum(-math.log(p) for p in given) / len(paths) == pytest.approx(measured["loss"], rel=1e-6)


def test_files_whose_features_are_kept_run_no_frozen_part(run: zoo.Run, paths: list[Path], no_pass: None) -> None:
    predictions = zoo.load(run.artifact).predict(paths)
    assert [prediction.source for prediction in predictions] == [str(path) for path in paths]


def test_stored_features_change_no_probability_beyond_rounding(run: zoo.Run, paths: list[Path]) -> None:
    model = zoo.load(run.artifact)
    stored, whole = (predict_images(model, paths, device="cpu", cache=cache) for cache in (True, False))
    for a, b in zip(probabilities(stored), probabilities(whole), strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_a_few_files_and_other_photos_run_the_whole_model(run: zoo.Run, paths: list[Path], no_pass: None) -> None:
    model = zoo.load(run.artifact)
    few = model.predict(paths[:3])
    as_bytes = model.predict([path.read_bytes() for path in paths])[:3]
    for a, b in zip(probabilities(few), probabilities(as_bytes), strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_a_damaged_file_among_many_is_named(run: zoo.Run, paths: list[Path], tmp_path: Path) -> None:
    damaged = tmp_path / "cut.png"
    damaged.write_bytes(paths[0].read_bytes()[:-60])
    with pytest.raises(zoo.errors.DataError, match=r"cut\.png"):
        zoo.load(run.artifact).predict([*paths, damaged])
