"""Checkpoints: whole or not there, the newest whole one is read, and one is never thrown away too early."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.errors import CheckpointError, OptionError, StorageError
from zoo.training.checkpoint import MANIFEST, Cadence, Checkpoints, Snapshot


class Told:
    """Progress that keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def snapshot(number: int) -> Snapshot:
    """A state with tensors in the layouts that models have."""
    images = torch.arange(48.0).reshape(2, 3, 2, 4).contiguous(memory_format=torch.channels_last)
    return Snapshot(
        {"number": number, "history": [{"lr": 0.1 + number}], "nothing": None},
        {"model/weight": images + number, "model/count": torch.tensor(number), "epoch/empty": torch.empty(0, 4)},
    )


def number_of(found: Snapshot | None) -> int:
    assert found is not None
    number: int = found.facts["number"]
    assert torch.equal(found.tensors["model/weight"], snapshot(number).tensors["model/weight"])
    return number


def filled(folder: Path, *steps: int, progress: Any = None, keep: int = 2) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep=keep, progress=progress or Told())
    for step in steps:
        checkpoints.save(step, snapshot(step))
    return checkpoints


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    found = filled(tmp_path, 7).newest()
    assert found is not None
    assert found.facts == snapshot(7).facts
    assert {name: t.shape for name, t in found.tensors.items()} == {n: t.shape for n, t in snapshot(7).tensors.items()}
    assert torch.equal(found.group("model")["weight"], snapshot(7).tensors["model/weight"])
    assert set(found.group("epoch")) == {"empty"}


def test_the_newest_is_read_and_older_ones_go_once_it_is_there(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, 5, 10, 100, 20)
    assert number_of(checkpoints.newest()) == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000020", "step-000000100"]


def test_no_checkpoint_was_ever_written(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "nowhere").newest() is None
    (tmp_path / "step-000000003.tmp-abc").mkdir()
    assert Checkpoints(tmp_path).newest() is None


def damage(folder: Path, how: str) -> None:
    tensors, facts = folder / "state.safetensors", folder / "state.json"
    content = bytearray(tensors.read_bytes())
    match how:
        case "truncated":
            tensors.write_bytes(content[:-9])
        case "one bit flipped":
            content[len(content) // 2] ^= 4
            tensors.write_bytes(content)
        case "zero bytes":
            facts.write_bytes(b"")
        case "a file missing":
            tensors.unlink()
        case "no manifest":
            (folder / MANIFEST).unlink()
        case "half a manifest":
            (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:-5])
        case "a manifest of something else":
            (folder / MANIFEST).write_text('["files"]')
        case "a folder in place of a file":
            facts.unlink()
            facts.mkdir()


DAMAGES = [
    "truncated",
    "one bit flipped",
    "zero bytes",
    "a file missing",
    "no manifest",
    "half a manifest",
    "a manifest of something else",
    "a folder in place of a file",
]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_read(tmp_path: Path, how: str) -> None:
    told = Told()
    checkpoints = filled(tmp_path, 1, 2, progress=told)
    damage(tmp_path / "step-000000002", how)
    assert number_of(checkpoints.newest()) == 1
    (warning,) = told.warnings
    assert "step-000000002 is damaged" in warning


def test_all_damaged_is_an_error_that_names_them(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, 1, 2)
    damage(tmp_path / "step-000000001", "truncated")
    damage(tmp_path / "step-000000002", "no manifest")
    with pytest.raises(CheckpointError, match="step-000000002, step-000000001") as error:
        checkpoints.newest()
    assert error.value.exit_code == 6


def test_a_damaged_one_is_written_again_at_the_same_step(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, 1, 2)
    damage(tmp_path / "step-000000002", "truncated")
    checkpoints.save(2, snapshot(2))
    assert number_of(checkpoints.newest()) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000001", "step-000000002"]


def test_one_that_cannot_be_written_leaves_those_before_it_and_says_how_large_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = filled(tmp_path, 1)
    monkeypatch.setenv("ZOO_FAULT", f"checkpoint.tensors:1:full,{os.urandom(4).hex()}:1:full")
    with pytest.raises(StorageError, match=r"No space left on device.*takes 0\.0 MB.*untouched"):
        checkpoints.save(2, snapshot(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]
    assert number_of(checkpoints.newest()) == 1


def test_nothing_is_pruned_when_the_new_one_cannot_be_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = filled(tmp_path, 1, 2)
    rename = Path.rename

    def rename_and_damage(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        if target.name == "step-000000003":
            damage(target, "one bit flipped")
        return moved

    monkeypatch.setattr(Path, "rename", rename_and_damage)
    with pytest.raises(StorageError, match="cannot be read back"):
        checkpoints.save(3, snapshot(3))
    assert number_of(Checkpoints(tmp_path, progress=Told()).newest()) == 2  # type: ignore[arg-type]


def test_there_is_no_pickle_in_a_checkpoint(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    files = {path.name: path for path in (tmp_path / "step-000000001").iterdir()}
    assert set(files) == {"state.safetensors", "state.json", MANIFEST}
    assert json.loads(files["state.json"].read_text())["number"] == 1
    header_size = int.from_bytes(files["state.safetensors"].read_bytes()[:8], "little")
    assert json.loads(files["state.safetensors"].read_bytes()[8 : 8 + header_size])


def test_due_counts_steps_or_time_and_leaves_time_for_training() -> None:
    by_steps = Checkpoints(Path("unused"), cadence=Cadence.parse("10 steps"))
    assert [step for step in range(1, 31) if by_steps.due(step)] == [10, 20, 30]
    now = [0.0]
    by_time = Checkpoints(Path("unused"), cadence=Cadence(seconds=60), clock=lambda: now[0])
    assert not by_time.due(1)
    now[0] = 60.0
    assert by_time.due(2)


def test_a_slow_disk_is_written_to_less_often(tmp_path: Path) -> None:
    now = iter([0.0, 100.0, 103.0, 170.0, 252.9, 253.0])
    checkpoints = Checkpoints(tmp_path, cadence=Cadence(seconds=60), clock=lambda: next(now))
    checkpoints.save(1, snapshot(1))  # took 3 s
    assert [checkpoints.due(2), checkpoints.due(3), checkpoints.due(4)] == [False, False, True]


@pytest.mark.parametrize(
    ("text", "cadence"),
    [("500", Cadence(steps=500)), ("3 steps", Cadence(steps=3)), ("90s", Cadence(seconds=90)), ("2m", Cadence(120))],
)
def test_a_cadence_is_read(text: str, cadence: Cadence) -> None:
    assert Cadence.parse(text) == cadence


@pytest.mark.parametrize("text", ["", "0", "often", "1.5", "-3", "10 days"])
def test_what_is_no_cadence_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="a number of steps"):
        Cadence.parse(text)


def test_clearing_removes_all(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path / "checkpoints", 1, 2)
    checkpoints.clear()
    assert not (tmp_path / "checkpoints").exists()
    shutil.rmtree(tmp_path)
    checkpoints.clear()
