"""Any number of labels an image, from a manifest to a verified artifact and its answers."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.artifact import read_header
from zoo.cli.app import cli
from zoo.errors import DataError, OptionError
from zoo.recipes import Phase
from zoo.tasks import MultiLabel, SingleLabel

SMALL: dict[str, Any] = {
    "model": "simple_cnn",
    "image_size": 16,
    "options": {"widths": "6,12", "hidden": 24},
    "device": "cpu",
}
CHANNELS = {"red": 0, "green": 1, "blue": 2}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy pictures that are bright in the channels whose names are their labels."""
    folder = tmp_path_factory.mktemp("lights")
    random = np.random.default_rng(0)
    lines = ["path,labels"]
    for i in range(120):
        on = [name for name in CHANNELS if random.random() < 0.4]
        pixels = random.normal(90, 30, (20, 20, 3))
        for name in on:
            pixels[4:16, 4:16, CHANNELS[name]] += 90
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i:03d}.png")
        lines.append(f"{i:03d}.png,{'|'.join(on)}")
    (folder / "lights.csv").write_text("\n".join(lines) + "\n")
    return folder / "lights.csv"


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> zoo.Run:
    return zoo.finetune(manifest, **SMALL, epochs=12, lr=1e-2, output=tmp_path_factory.mktemp("runs") / "run")


def test_it_learns_and_its_figures_are_those_of_labels(run: zoo.Run) -> None:
    test = run.metrics["test"]
    assert test["map"] > 0.9
    assert test["accuracy"] > test["majority_accuracy"]
    assert [row["class"] for row in test["per_class"]] == ["blue", "green", "red"]
    assert "confusion" not in test
    assert run.history[-1]["val_map"] >= run.history[0]["val_map"]


def test_the_thresholds_are_in_the_header_and_decide(run: zoo.Run, manifest: Path) -> None:
    header = read_header(run.artifact)
    assert header.task == "multi-label"
    assert header.thresholds == [row["threshold"] for row in run.metrics["test"]["per_class"]]
    assert header.recipe.phases[0]["monitor"] == "map"
    paths = sorted(manifest.parent.glob("*.png"))
    model = zoo.load(run.artifact)
    threshold = dict(zip(header.classes, header.thresholds, strict=True))
    for prediction in model.predict(paths, top_k=3):
        expected = tuple((name, p) for name, p in prediction.top if p >= threshold[name])
        assert prediction.labels == expected


def test_evaluate_repeats_the_figures_exactly_and_agrees_with_predict(run: zoo.Run, manifest: Path) -> None:
    for split in ("val", "test"):
        assert zoo.evaluate(run.artifact, manifest, split=split, device="cpu").report == run.metrics[split]
    everything = zoo.evaluate(run.artifact, manifest, device="cpu")
    assert "--split test" in everything.notes[0]
    rows = [line.split(",") for line in manifest.read_text().splitlines()[1:]]
    predictions = zoo.load(run.artifact).predict([manifest.parent / path for path, _ in rows])
    right = sum(
        {name for name, _ in p.labels} == set(filter(None, labels.split("|")))
        for p, (_, labels) in zip(predictions, rows, strict=True)
    )
    assert right == round(everything.report["accuracy"] * 120)


def test_verify_and_a_child_on_its_frozen_part(run: zoo.Run, manifest: Path, tmp_path: Path) -> None:
    child = zoo.finetune(manifest, **SMALL, weights=run.artifact, recipe="frozen", epochs=1, output=tmp_path / "child")
    assert zoo.verify(child.artifact, parent=run.artifact).frozen_stages == 3
    assert child.metrics["val"]["map"] > 0.9


def test_equal_runs_write_equal_bytes(manifest: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "recipe": [Phase(epochs=2, augment="strong", class_weights="balanced", label_smoothing=0.1)]}
    runs = [zoo.finetune(manifest, **settings, output=tmp_path / str(i), workers=i + 1) for i in range(2)]
    assert runs[0].artifact.read_bytes() == runs[1].artifact.read_bytes()


def test_one_label_makes_one_output(manifest: Path, tmp_path: Path) -> None:
    lines = manifest.read_text().splitlines()
    single = manifest.parent / "red.csv"
    single.write_text("\n".join([lines[0], *(re.sub(r",.*", "", x) + "," + "red" * ("red" in x) for x in lines[1:])]))
    run = zoo.finetune(single, **SMALL, epochs=6, lr=1e-2, output=tmp_path / "run")
    model = zoo.load(run.artifact)
    assert model.classes == ("red",)
    with torch.inference_mode():
        assert model.module(torch.zeros(2, 3, 16, 16)).shape == (2, 1)
    assert run.metrics["test"]["per_class"][0]["auroc"] > 0.9
    assert zoo.evaluate(run.artifact, single, split="test", device="cpu").report == run.metrics["test"]


def test_the_report_shows_labels_and_no_confusion(run: zoo.Run) -> None:
    page = run.report.read_text()
    for text in ("Every label", "every label right", "Mean average precision", "AUROC", "Threshold"):
        assert text in page
    assert "Confusion matrix" not in page
    assert "Every class" not in page


def test_the_commands_speak_of_labels(run: zoo.Run, manifest: Path) -> None:
    photos = [str(manifest.parent / f"{i:03d}.png") for i in range(20)]
    shown = CliRunner().invoke(cli, ["predict", str(run.artifact), *photos, "--json"])
    answers = json.loads(shown.stdout)
    counts = {len(answer["labels"]) for answer in answers}
    assert min(counts) == 0
    assert max(counts) > 1
    table = CliRunner().invoke(cli, ["predict", str(run.artifact), *photos]).stdout.splitlines()
    assert len(table) == 1 + sum(max(1, len(answer["labels"])) for answer in answers)
    empty = photos[[len(answer["labels"]) for answer in answers].index(0)]
    row = next(line for line in table if empty in line)
    assert row.split()[1:] == ["-", "-"]
    as_csv = CliRunner().invoke(cli, ["predict", str(run.artifact), empty, "--csv"]).stdout
    assert as_csv.splitlines()[1] == f"{empty},1,,"
    measured = CliRunner().invoke(cli, ["evaluate", str(run.artifact), str(manifest), "--split", "test"]).stdout
    assert "mAP" in measured
    assert "have every label right" in measured


def test_a_model_and_data_of_different_kinds_are_refused(
    run: zoo.Run, manifest: Path, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="needs a manifest with the column 'labels'"):
        zoo.evaluate(run.artifact, photos)
    other = zoo.finetune(photos, **SMALL, epochs=1, output=tmp_path / "other")
    with pytest.raises(DataError, match="says one class an image"):
        zoo.evaluate(other.artifact, manifest)


def test_what_a_task_does_not_have_is_refused(manifest: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match='sampling = "balanced"'):
        zoo.finetune(manifest, **SMALL, recipe=[Phase(epochs=1, sampling="balanced")], output=tmp_path / "run")
    with pytest.raises(OptionError, match='monitor = "map"'):
        zoo.finetune(photos, **SMALL, recipe=[Phase(epochs=1, monitor="map")], output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_targets_are_aligned_with_another_models_classes() -> None:
    assert SingleLabel().aligned(torch.tensor([0, 1, 1]), [2, 0], 3).tolist() == [2, 0, 0]
    targets = MultiLabel().targets([(0, 1), (), (1,)], 2)
    assert MultiLabel().aligned(targets, [2, 0], 3).tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 0]]


def test_mixing_and_checkpoints_take_several_labels(manifest: Path, tmp_path: Path) -> None:
    phases = [Phase(epochs=1, mixup=0.2, cutmix=1.0), Phase(epochs=2, train="head", ema=0.9, patience=1)]
    run = zoo.finetune(manifest, **SMALL, recipe=phases, output=tmp_path / "run")
    assert 0 <= run.metrics["test"]["map"] <= 1
