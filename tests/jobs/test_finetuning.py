"""The main job from end to end, on small generated photos."""

import html
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

import zoo
from zoo.artifact import read_artifact, read_header, write_artifact
from zoo.errors import DataError, OptionError, RunExistsError, UnknownNameError, VerifyError
from zoo.recipes import Phase

SMALL: dict[str, Any] = {
    "model": "simple_cnn",
    "image_size": 16,
    "options": {"widths": "4,8", "hidden": 16},
    "device": "cpu",
}
TWO_PHASES = (Phase(epochs=1, train="head", lr=1e-2), Phase(epochs=2, train="last 3", lr=1e-3, augment="light"))


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> zoo.Run:
    return zoo.finetune(
        photos, **SMALL, epochs=20, lr=1e-2, batch_size=16, output=tmp_path_factory.mktemp("runs") / "run"
    )


def test_a_run_folder_holds_what_it_should(run: zoo.Run) -> None:
    assert {path.name for path in run.folder.iterdir()} >= {
        "model.safetensors",
        "report.html",
        "metrics.jsonl",
        "config.toml",
        "log.txt",
    }
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(20))
    assert all(row["val_accuracy"] is not None for row in rows)
    config = tomllib.loads((run.folder / "config.toml").read_text())
    assert config["phases"][0]["epochs"] == 20
    assert config["options"]["widths"] == [4, 8]


def test_it_learns_shapes_and_says_how_well(run: zoo.Run) -> None:
    assert run.metrics["val"]["count"] == run.metrics["test"]["count"] == 9
    assert run.history[-1]["train_loss"] < run.history[0]["train_loss"]
    assert run.metrics["test"]["accuracy"] >= 2 / 3


def test_the_artifact_predicts_what_evaluate_measured(run: zoo.Run, photos: Path) -> None:
    model = zoo.load(run.artifact)
    found = zoo.evaluate(run.artifact, photos, split="test", device="cpu")
    assert found.report == run.metrics["test"]
    paths = sorted(photos.rglob("*.png"))
    predicted = model.predict(paths, top_k=3)
    right = sum(prediction.label == path.parent.name for prediction, path in zip(predicted, paths, strict=True))
    everything = zoo.evaluate(run.artifact, photos, device="cpu")
    assert right == round(everything.report["accuracy"] * len(paths))
    assert "--split test" in everything.notes[0]
    assert abs(sum(probability for _, probability in predicted[0].top) - 1) < 1e-5


def test_one_image_alone_gives_the_probabilities_it_gives_in_a_batch(run: zoo.Run, photos: Path) -> None:
    model = zoo.load(run.artifact)
    paths = sorted(photos.rglob("*.png"))[:5]
    together = model.predict(paths)
    for path, expected in zip(paths, together, strict=True):
        alone = model.predict(path)
        assert alone.label == expected.label
        assert alone.probability == pytest.approx(expected.probability, abs=1e-3)


def test_equal_runs_write_equal_bytes(photos: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "options": {"widths": "4,8", "hidden": 16, "block_dropout": 0.2}, "recipe": TWO_PHASES}
    first = zoo.finetune(photos, **settings, output=tmp_path / "first", seed=3)
    moved = tmp_path / "elsewhere" / "shapes"
    shutil.copytree(photos, moved)
    second = zoo.finetune(moved, **settings, output=tmp_path / "second", seed=3, workers=1)
    assert first.artifact.read_bytes() == second.artifact.read_bytes()
    third = zoo.finetune(photos, **settings, output=tmp_path / "third", seed=4, split_seed=3)
    assert first.artifact.read_bytes() != third.artifact.read_bytes()


def test_settings_for_speed_and_memory_change_no_value(photos: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "epochs": 2, "augment": "standard", "batch_size": 16}
    kept = zoo.finetune(photos, **settings, cache_images=0.1, output=tmp_path / "kept")
    none_fit = zoo.finetune(photos, **settings, cache_images=1e-9, recompute=True, output=tmp_path / "none fit")
    assert state_of(kept.artifact) == state_of(none_fit.artifact)


def state_of(artifact: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in read_artifact(artifact)[1].items()}


def test_what_every_phase_froze_is_the_parents_and_verify_proves_it(run: zoo.Run, photos: Path, tmp_path: Path) -> None:
    child = zoo.finetune(photos, **SMALL, weights=run.artifact, recipe=TWO_PHASES, output=tmp_path / "child")
    found = zoo.verify(child.artifact, parent=run.artifact)
    assert found.frozen_stages == 1
    _, before = read_artifact(run.artifact)
    header, after = read_artifact(child.artifact)
    assert [proof.frozen_stages for proof in header.freeze] == [3, 1]
    assert all(proof.before == proof.after for proof in header.freeze)
    first, second = sorted(name for name, tensor in before.items() if tensor.ndim == 4)
    assert torch.equal(before[first], after[first])
    assert not torch.equal(before[second], after[second])


def test_verify_refuses_another_parent(run: zoo.Run, photos: Path, tmp_path: Path) -> None:
    child = zoo.finetune(photos, **SMALL, weights=run.artifact, recipe="frozen", epochs=1, output=tmp_path / "child")
    stranger = zoo.finetune(photos, **SMALL, epochs=1, seed=9, output=tmp_path / "stranger")
    with pytest.raises(VerifyError, match="another file was its parent"):
        zoo.verify(child.artifact, parent=stranger.artifact)


def test_verify_believes_no_claim_about_freezing(run: zoo.Run, photos: Path, tmp_path: Path) -> None:
    child = zoo.finetune(photos, **SMALL, weights=run.artifact, recipe="frozen", epochs=1, output=tmp_path / "child")
    header, state = read_artifact(child.artifact)
    (proof,) = header.freeze
    claims = {
        "froze 9 stages": [replace(proof, frozen_stages=9)],
        "froze 0 stages": [replace(proof, frozen_stages=0)],
        "proofs of freezing for 0": [],
        "proofs of freezing for 1: last 1": [replace(proof, train="last 1")],
        "its hash differs": [replace(proof, before="0" * 64, after="0" * 64)],
    }
    for words, freeze in claims.items():
        write_artifact(tmp_path / "claim.safetensors", replace(header, freeze=freeze), state)
        with pytest.raises(VerifyError, match=words):
            zoo.verify(tmp_path / "claim.safetensors")


def test_a_frozen_recipe_on_pretrained_weights_is_the_default(run: zoo.Run, photos: Path, tmp_path: Path) -> None:
    child = zoo.finetune(photos, **SMALL, weights=run.artifact, epochs=1, output=tmp_path / "child")
    assert read_header(child.artifact).recipe.name == "frozen"
    assert read_header(run.artifact).recipe.name == "full"


def test_classes_of_an_earlier_artifact_are_matched_by_name(run: zoo.Run, photos: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed"
    shutil.copytree(photos, renamed)
    (renamed / "circle").rename(renamed / "zebra")  # now the last class instead of the first
    child = zoo.finetune(
        renamed,
        **SMALL,
        weights=run.artifact,
        recipe=[Phase(epochs=1, train="head", lr=1e-9)],
        output=tmp_path / "child",
    )
    header, after = read_artifact(child.artifact)
    assert header.classes == ["cross", "stripes", "zebra"]
    before = read_artifact(run.artifact)[1]["classifier.3.weight"]
    assert torch.allclose(after["classifier.3.weight"][:2], before[1:], atol=1e-6)
    assert not torch.allclose(after["classifier.3.weight"][2], before[0], atol=1e-2)


def test_data_sets_criterion_and_callbacks_of_ones_own(tmp_path: Path) -> None:
    class Squares(torch.utils.data.Dataset[tuple[Tensor, int]]):
        classes = ("dark", "light")

        def __init__(self, count: int) -> None:
            self.count = count

        def __len__(self) -> int:
            return self.count

        def __getitem__(self, i: int) -> tuple[Tensor, int]:
            generator = torch.Generator().manual_seed(i + 1000 * self.count)
            pixels = torch.randint(0, 100, (3, 20, 20), generator=generator, dtype=torch.uint8)
            return pixels + 150 * (i % 2), i % 2

    seen: list[str] = []

    class Recorder(zoo.Callback):
        def on_epoch_end(self, state: object, row: object) -> None:
            seen.append("epoch")

        def on_finish(self, metrics: object) -> None:
            seen.append("finish")

    def criterion(logits: Tensor, targets: Tensor) -> Tensor:
        return torch.nn.functional.multi_margin_loss(logits, targets)

    run = zoo.finetune(
        {"train": Squares(24), "val": Squares(8), "test": Squares(10)},
        **SMALL,
        epochs=3,
        criterion=criterion,
        callbacks=[Recorder()],
        output=tmp_path / "run",
    )
    assert seen == ["epoch", "epoch", "epoch", "finish"]
    assert read_header(run.artifact).classes == ["dark", "light"]
    assert run.metrics["test"]["count"] == 10


def test_a_dry_run_writes_nothing_and_counts_the_steps(photos: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    plan = zoo.finetune(photos, **SMALL, recipe=TWO_PHASES, dry_run=True)
    assert list(tmp_path.iterdir()) == []
    assert [phase.steps for phase in plan.phases] == [2, 4]
    assert plan.phases[0].frozen_stages == ("block1", "block2", "flatten")
    assert "nothing was written" in plan.text()


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_alpha_inputs_train(channels: int, photos: Path, tmp_path: Path) -> None:
    run = zoo.finetune(photos, **SMALL, in_channels=channels, epochs=1, output=tmp_path / "run")
    assert zoo.load(run.artifact).preprocessing.input_size == (channels, 16, 16)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"model": "simple_cn"}, UnknownNameError, "simple_cnn"),
        ({"options": {"hidden": 0}}, OptionError, r"\[1, 8192\]"),
        ({"options": {"image_size": 32}}, OptionError, "contradict"),
        ({"recipe": TWO_PHASES, "epochs": 3}, OptionError, "1 value.* 2 phase"),
        ({"recipe": [Phase(epochs=1, train="block9")]}, OptionError, "block1, block2, flatten, head"),
        ({"in_channels": 2}, OptionError, "1 .grey."),
        ({"cache_images": 1.0, "epochs": 5}, OptionError, "cache_images = 1 has no effect"),
        ({"cache_images": 1.0, "epochs": 1, "augment": "standard"}, OptionError, "takes two epochs or more"),
        ({"recipe": [Phase(epochs=1, train="head", recompute=True)]}, OptionError, "recompute has no effect"),
        ({"recipe": [Phase(epochs=1, train="last 2", recompute=True)]}, OptionError, "2 stage.s. of this model train"),
    ],
)
def test_a_wrong_request_is_refused_and_nothing_is_written(
    changes: dict[str, Any], error: type[Exception], text: str, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=text):
        zoo.finetune(photos, **{**SMALL, **changes}, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_existing_run_folder_is_left_alone(run: zoo.Run, photos: Path) -> None:
    before = run.artifact.read_bytes()
    with pytest.raises(RunExistsError, match="--output"):
        zoo.finetune(photos, **SMALL, output=run.folder)
    assert run.artifact.read_bytes() == before


def test_classes_that_the_model_does_not_know_are_named(run: zoo.Run, photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    (other / "cross").rename(other / "triangle")
    with pytest.raises(DataError, match="'triangle'"):
        zoo.evaluate(run.artifact, other)


def test_real_photos_train_and_report(shared_data: Path, tmp_path: Path) -> None:
    run = zoo.finetune(
        shared_data / "sign-digits", model="simple_cnn", image_size=24, epochs=2, output=tmp_path / "run"
    )
    assert run.metrics["test"]["count"] == 310
    assert run.metrics["test"]["accuracy"] > run.metrics["test"]["majority_accuracy"]


def test_the_command_in_the_report_trains_the_same_again(photos: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "options": {"widths": "4,8", "hidden": 16, "block_dropout": 0.1}}
    first = zoo.finetune(
        photos,
        **settings,
        recipe="lp-ft",
        epochs=[1, 2],
        lr=[3e-3, 2e-3],
        batch_size=8,
        augment="standard",
        cache=False,
        seed=3,
        split_seed=1,
        output=tmp_path / "first",
    )
    command = re.search(r"<pre>(zoo finetune .*?)</pre>", first.report.read_text(encoding="utf-8"))
    assert command is not None
    words = shlex.split(html.unescape(command[1]))
    subprocess.run([sys.executable, "-m", *words, "--device", "cpu", "--output", tmp_path / "again"], check=True)
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == first.artifact.read_bytes()


def test_the_configuration_gives_each_choice_of_the_pass_with_its_reason(photos: Path, tmp_path: Path) -> None:
    run = zoo.finetune(photos, **SMALL, recipe="frozen", epochs=1, lr=1e-3, output=tmp_path / "run")
    features = tomllib.loads((run.folder / "config.toml").read_text())["features"]
    for choice in ("precision", "channels_last", "batch_size", "folding", "fusing", "compiling"):
        assert choice in features
        assert features[f"{choice}_reason"]


def test_a_recipe_made_in_python_has_no_command(photos: Path, tmp_path: Path) -> None:
    run = zoo.finetune(photos, **SMALL, recipe=[Phase(epochs=1)], output=tmp_path / "run")
    assert "zoo finetune" not in run.report.read_text(encoding="utf-8")
    assert "zoo evaluate" in run.report.read_text(encoding="utf-8")


def test_a_split_seed_is_refused_where_nothing_is_split(photos: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(photos.rglob("*.png"))):
        target = tmp_path / "photos" / ("train", "val", "test")[number % 3] / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    with pytest.raises(OptionError, match="--split-seed has no effect"):
        zoo.finetune(tmp_path / "photos", **SMALL, split_seed=1, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
