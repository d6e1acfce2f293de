"""Ranking models by what a linear head learns on their features."""

import json
import shlex
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import zoo
from zoo.cli.app import cli
from zoo.errors import UnknownNameError, UsageError
from zoo.jobs.comparison import Candidate, ranked
from zoo.recipes import Phase
from zoo.report.scatter import draw_comparison
from zoo.training.extraction import FrozenPass
from zoo.training.footprint import peak_bytes


@pytest.fixture(scope="module")
def artifacts(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [
        zoo.finetune(
            photos,
            model="simple_cnn",
            weights="none",
            image_size=16,
            options={"widths": widths, "hidden": 16},
            recipe=(Phase(epochs=1, train="head"),),
            device="cpu",
            output=folder / widths.replace(",", "-"),
        ).artifact
        for widths in ("4,8", "8,16")
    ]


def test_models_are_ranked_with_what_they_cost(artifacts: list[Path], photos: Path) -> None:
    found = zoo.compare(photos, models=artifacts, device="cpu")
    assert {candidate.model for candidate in found.candidates} == set(map(str, artifacts))
    accuracies = [candidate.accuracy for candidate in found.candidates]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] >= 2 / 3
    assert found.images == {"train": 42, "val": 9, "test": 9}
    for candidate in found.candidates:
        p = candidate.accuracy
        assert candidate.standard_error == pytest.approx((p * (1 - p) / 9) ** 0.5)
        assert candidate.latency_ms > 0
        assert candidate.images_per_s > 0
        assert candidate.memory_bytes > candidate.size_bytes == 4 * candidate.parameters
    assert any(candidate.on_front for candidate in found.candidates)


def test_a_second_comparison_runs_nothing(artifacts: list[Path], photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = zoo.compare(photos, models=artifacts[:1], device="cpu")

    def refuse(*_: object) -> None:
        raise AssertionError("a frozen part ran")

    monkeypatch.setattr(FrozenPass, "__init__", refuse)
    assert zoo.compare(photos, models=artifacts[:1], device="cpu") == first


def test_the_chosen_model_is_trained_on_features_that_are_there(
    artifacts: list[Path], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo.compare(photos, models=artifacts[:1], device="cpu")

    def refuse(*_: object) -> None:
        raise AssertionError("a frozen part ran")

    monkeypatch.setattr(FrozenPass, "__call__", refuse)
    zoo.finetune(
        photos,
        model="simple_cnn",
        weights=artifacts[0],
        image_size=16,
        options={"widths": "4,8", "hidden": 16},
        recipe="frozen",
        epochs=1,
        device="cpu",
        output=tmp_path / "run",
    )


def test_a_model_that_cannot_be_had_is_left_out_and_named(artifacts: list[Path], photos: Path) -> None:
    found = zoo.compare(photos, models=[artifacts[0], "resnet18"], image_size=32, offline=True, device="cpu")
    assert [bool(candidate.error) for candidate in found.candidates] == [False, True]
    assert found.candidates[1].model == "resnet18"
    assert json.loads(json.dumps(found.summary()))["models"][1]["accuracy"] is None


def test_what_cannot_be_compared_is_said_before_anything_runs(photos: Path) -> None:
    with pytest.raises(UnknownNameError, match="resnet19"):
        zoo.compare(photos, models=["resnet18", "resnet19"])
    with pytest.raises(UsageError, match="has no published weights"):
        zoo.compare(photos, models=["simple_cnn"])
    with pytest.raises(UsageError, match="no architecture with published weights fits"):
        zoo.compare(photos, models=["renset*"])


def candidate(name: str, accuracy: float, latency_ms: float, **others: object) -> Candidate:
    return Candidate(name, accuracy=accuracy, standard_error=0.02, latency_ms=latency_ms, **others)  # type: ignore[arg-type]


def test_the_front_holds_what_nothing_beats() -> None:
    rows = ranked(
        [
            candidate("slow and good", 0.9, 100),
            candidate("beaten", 0.7, 50),
            candidate("quick", 0.6, 1),
            candidate("middle", 0.8, 20),
            Candidate("broken", error="no weights"),
        ]
    )
    assert [row.model for row in rows] == ["slow and good", "middle", "beaten", "quick", "broken"]
    assert [row.on_front for row in rows] == [True, True, False, True, False]


def test_the_picture_is_sound_svg_with_every_model() -> None:
    names = ["resnet18", "<b>&", "a very long name of a file that goes on and on/model.safetensors"]
    rows = [
        {"model": name, "accuracy": 0.5 + i / 10, "standard_error": 0.02, "latency_ms": 3.0 * 4**i, "on_front": i > 0}
        for i, name in enumerate(names)
    ]
    picture = ElementTree.fromstring(draw_comparison(rows))
    texts = [text.text or "" for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "resnet18" in texts
    assert "<b>&" in texts
    assert any(text.endswith("model.safetensors") for text in texts)


def test_one_model_alone_can_be_drawn() -> None:
    row = {"model": "one", "accuracy": 1.0, "standard_error": None, "latency_ms": 3.0, "on_front": True}
    assert "100" in draw_comparison([row])


def test_the_command_prints_a_table_and_writes_the_picture(artifacts: list[Path], photos: Path, tmp_path: Path) -> None:
    models = ",".join(map(str, artifacts))
    arguments = ["compare", str(photos), "--models", models, "--no-cache", "--device", "cpu", "--quiet"]
    said = CliRunner().invoke(cli, [*arguments, "--output", str(tmp_path / "c.svg")], catch_exceptions=False)
    assert "on 9 test images" in said.stdout
    following = next(line for line in said.stdout.splitlines() if line.startswith("next"))
    words = shlex.split(following)[1:]
    assert words[:4] == ["zoo", "finetune", str(photos), "--model"]
    assert words[5] == "--weights"
    assert words[6] in models.split(",")
    assert words[-3:] == ["--no-cache", "--device", "cpu"]
    again = CliRunner().invoke(cli, [*words[1:], "--epochs", "1", "--output", str(tmp_path / "run"), "--quiet"])
    assert again.exit_code == 0, again.output
    assert (tmp_path / "c.svg").read_text().startswith("<svg")
    said = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False)
    assert len(json.loads(said.stdout)["models"]) == 2


def test_peak_memory_is_values_input_and_the_most_that_lives_at_once() -> None:
    module = nn.Sequential(nn.Linear(10, 100, bias=False), nn.ReLU(), nn.Linear(100, 10, bias=False)).eval()
    values, given, hidden = 4 * 2000, 4 * 10, 4 * 100
    assert peak_bytes(module, torch.zeros(1, 10)) == values + given + 2 * hidden
