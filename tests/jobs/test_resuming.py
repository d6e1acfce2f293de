"""Runs that were stopped, killed or damaged, and what becomes of them."""

import json
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import zoo
from zoo.cli.app import cli
from zoo.errors import CheckpointError, DataError, OptionError, RunExistsError, UsageError
from zoo.progress import Silent
from zoo.recipes import Phase
from zoo.runs import RunFolder

RECIPE = (
    Phase(epochs=2, train="head", lr=1e-2, batch_size=16, ema=0.9),
    Phase(epochs=2, train="last 3", lr=3e-3, batch_size=16, augment="light", mixup=0.2),
)
SMALL: dict[str, Any] = {
    "model": "simple_cnn",
    "image_size": 16,
    "options": {"widths": "4,8", "hidden": 16, "block_dropout": 0.2},
    "device": "cpu",
    "recipe": RECIPE,
    "checkpoint_every": "2",
}
_NUMBERS = count()


class Warnings:
    """Progress that keeps warnings."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        self.texts.append(text)

    task = Silent().task


@pytest.fixture(scope="module")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The artifact of a run that nothing stopped."""
    return zoo.finetune(photos, **SMALL, output=tmp_path_factory.mktemp("whole") / "run").artifact.read_bytes()


@pytest.fixture
def stopped(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a run that a fault stopped, and says what was raised."""

    def run(fault: str, **settings: Any) -> tuple[Path, BaseException]:
        folder = tmp_path / f"run{next(_NUMBERS)}"
        monkeypatch.setenv("ZOO_FAULT", f"{fault},counted-anew-{folder}:1:value")
        with pytest.raises(BaseException) as raised:  # noqa: PT011  # a signal raises no Exception
            zoo.finetune(settings.pop("data", photos), **{**SMALL, **settings}, output=folder)
        monkeypatch.delenv("ZOO_FAULT")
        return folder, raised.value

    return run


@pytest.mark.parametrize(
    "fault",
    ["step:1:int", "step:3:term", "step:4:int", "validation:1:term", "step:6:term", "validation:4:int", "step:11:int"],
)
def test_a_stopped_run_goes_on_to_the_same_bytes(stopped: Any, whole: bytes, fault: str) -> None:
    folder, raised = stopped(fault)
    assert isinstance(raised, SystemExit if fault.endswith("term") else KeyboardInterrupt)
    assert isinstance(raised, KeyboardInterrupt) or raised.code == 143  # type: ignore[attr-defined]
    run = zoo.finetune(resume=folder)
    assert run.artifact.read_bytes() == whole
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert not (folder / "checkpoints").exists()


def test_a_stop_says_what_to_type(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Warnings()
    monkeypatch.setenv("ZOO_FAULT", "step:2:int,unused:1:int")
    with pytest.raises(KeyboardInterrupt):
        zoo.finetune(photos, **SMALL, output=tmp_path / "a run", progress=told)
    assert told.texts[-1] == f"stopped, and saved. To go on: zoo finetune --resume '{tmp_path / 'a run'}'"


def test_without_a_checkpoint_it_begins_again_and_says_so(stopped: Any, whole: bytes) -> None:
    folder, _ = stopped("step:2:full", checkpoint_every="100")
    told = Warnings()
    run = zoo.finetune(resume=folder, progress=told)
    assert any("has no checkpoint yet: training begins again" in text for text in told.texts)
    assert run.artifact.read_bytes() == whole


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(stopped: Any, whole: bytes) -> None:
    folder, _ = stopped("step:10:full")
    newest = max((folder / "checkpoints").iterdir())
    (newest / "state.safetensors").write_bytes(b"")
    told = Warnings()
    run = zoo.finetune(resume=folder, progress=told)
    assert any(f"{newest.name} is damaged" in text for text in told.texts)
    assert run.artifact.read_bytes() == whole


def test_with_all_checkpoints_damaged_it_never_begins_again_in_silence(stopped: Any) -> None:
    folder, _ = stopped("step:10:full")
    for checkpoint in (folder / "checkpoints").iterdir():
        (checkpoint / "MANIFEST.json").unlink()
    with pytest.raises(CheckpointError, match="every checkpoint"):
        zoo.finetune(resume=folder)
    result = CliRunner().invoke(cli, ["finetune", "--resume", str(folder)])
    assert isinstance(result.exception, CheckpointError)
    assert result.exception.exit_code == 6


def test_a_finished_run_says_so_and_stays_as_it_is(photos: Path, tmp_path: Path) -> None:
    run = zoo.finetune(photos, **SMALL, output=tmp_path / "run")
    before = {path: path.read_bytes() for path in run.folder.iterdir()}
    told = Warnings()
    again = zoo.finetune(resume=run.folder, progress=told)
    assert told.texts == [f"{run.folder} is finished: there is nothing to resume."]
    assert (again.artifact, len(again.history)) == (run.artifact, 4)
    assert again.metrics == run.metrics
    assert {path: path.read_bytes() for path in run.folder.iterdir()} == before


def test_other_images_are_refused_by_their_fingerprint(stopped: Any, photos: Path, tmp_path: Path) -> None:
    moved = tmp_path / "shapes"
    shutil.copytree(photos, moved)
    folder, _ = stopped("step:4:full", data=moved)
    next((moved / "cross").iterdir()).unlink()
    with pytest.raises(DataError, match=r"not those that .* began with: their fingerprint was"):
        zoo.finetune(resume=folder)


def test_what_a_resumed_run_would_ignore_is_refused(stopped: Any, photos: Path) -> None:
    folder, _ = stopped("step:2:full")
    with pytest.raises(UsageError, match="leave out model, seed"):
        zoo.finetune(resume=folder, model="resnet50", seed=3)
    with pytest.raises(UsageError, match="takes no data"):
        zoo.finetune(photos, resume=folder)
    with pytest.raises(UsageError, match="had none"):
        zoo.finetune(resume=folder, criterion=lambda logits, targets: logits.sum())
    for arguments in (["--seed", "3"], [str(photos)], ["--model", "resnet50"]):
        result = CliRunner().invoke(cli, ["finetune", "--resume", str(folder), *arguments])
        assert isinstance(result.exception, UsageError)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such folder"):
        zoo.finetune(resume=tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"holds no config\.toml"):
        zoo.finetune(resume=tmp_path)
    (tmp_path / "config.toml").write_text("recipe = 3\n")
    with pytest.raises(UsageError, match="cannot be read"):
        zoo.finetune(resume=tmp_path)


def test_two_processes_never_fill_one_folder(stopped: Any) -> None:
    folder, _ = stopped("step:4:full")
    other = RunFolder(folder, resume=True)
    with pytest.raises(RunExistsError, match="another process is working on"):
        zoo.finetune(resume=folder)
    other.close()
    zoo.finetune(resume=folder)


def test_a_run_can_be_resumed_from_another_folder(
    photos: Path, tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    shutil.copytree(photos, tmp_path / "here" / "shapes")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("ZOO_FAULT", "step:5:int,elsewhere:1:int")
    with pytest.raises(KeyboardInterrupt):
        zoo.finetune("shapes", **SMALL, output="run")
    monkeypatch.delenv("ZOO_FAULT")
    monkeypatch.chdir(tmp_path)
    assert zoo.finetune(resume="here/run").artifact.read_bytes() == whole


def test_data_sets_of_ones_own_are_passed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    class Shades:
        classes = ("dark", "light")

        def __len__(self) -> int:
            return 24

        def __getitem__(self, i: int) -> Any:
            return np.random.default_rng(i).integers(0, 100, (3, 16, 16), dtype=np.uint8) + 100 * (i % 2), i % 2

    data = {"train": Shades()}
    settings = {**SMALL, "options": {"widths": "4,8", "hidden": 16}}
    expected = zoo.finetune(data, **settings, output=tmp_path / "whole").artifact.read_bytes()
    monkeypatch.setenv("ZOO_FAULT", "step:2:int,own:1:int")
    with pytest.raises(KeyboardInterrupt):
        zoo.finetune(data, **settings, output=tmp_path / "run")
    monkeypatch.delenv("ZOO_FAULT")
    with pytest.raises(UsageError, match="pass them again"):
        zoo.finetune(resume=tmp_path / "run")
    assert zoo.finetune(data, resume=tmp_path / "run").artifact.read_bytes() == expected


def test_checkpoints_change_nothing(photos: Path, tmp_path: Path, whole: bytes) -> None:
    seldom = zoo.finetune(photos, **{**SMALL, "checkpoint_every": "1"}, output=tmp_path / "often")
    assert seldom.artifact.read_bytes() == whole
    with pytest.raises(OptionError, match="a number of steps"):
        zoo.finetune(photos, **{**SMALL, "checkpoint_every": "now"}, output=tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_weights_that_changed_since_are_noticed(photos: Path, tmp_path: Path, stopped: Any) -> None:
    parent = zoo.finetune(photos, **SMALL, output=tmp_path / "parent").artifact
    folder, _ = stopped("step:8:full", weights=parent, recipe=(Phase(epochs=6, train="head", batch_size=16),))
    other = zoo.finetune(photos, **{**SMALL, "seed": 5}, output=tmp_path / "other").artifact
    shutil.copy(other, parent)
    with pytest.raises((CheckpointError, DataError), match="not those"):
        zoo.finetune(resume=folder)
