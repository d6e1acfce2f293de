"""Disks that are full, read-only or taken away while a run writes to them."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs root, to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """Leave no room on a small disk."""
    path = folder / "other people's files"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return path


def test_a_disk_that_is_full_from_the_start_is_named_before_training(zoo_command: Any, small_disk: Path) -> None:
    fill(small_disk)
    found = zoo_command.finetune(small_disk / "run")
    assert found.code == 6, found.said
    assert "No space left on device" in found.said
    assert "epoch 1" not in found.said


def test_a_disk_that_fills_up_ends_the_run_and_room_lets_it_go_on(
    zoo_command: Any, small_disk: Path, whole: Callable[[], bytes]
) -> None:
    # Enough for two checkpoints of this model and not for a third beside them.
    found = zoo_command.finetune(small_disk / "run", "--checkpoint-every", "6", fault="checkpoint.tensors:4:full")
    assert found.code == 6, found.said
    assert "The checkpoint takes 0.1 MB" in found.said or "The checkpoint takes 0.0 MB" in found.said
    left = [path.name for path in (small_disk / "run" / "checkpoints").iterdir()]
    assert len(left) == 2
    assert not any("tmp" in name for name in left)
    filler = fill(small_disk)
    full = zoo_command("finetune", "--resume", small_disk / "run")
    assert full.code == 6, full.said
    assert "No space left on device" in full.said
    assert not (small_disk / "run" / "model.safetensors").exists()
    filler.unlink()
    resumed = zoo_command("finetune", "--resume", small_disk / "run")
    assert resumed.code == 0, resumed.said
    assert (small_disk / "run" / "model.safetensors").read_bytes() == whole()


def test_no_room_for_the_artifact_leaves_none(zoo_command: Any, small_disk: Path, whole: Callable[[], bytes]) -> None:
    process = zoo_command.start(*zoo_command.words(small_disk / "run"), fault="artifact:1:term")
    process.communicate(timeout=240)
    filler = fill(small_disk)
    found = zoo_command("finetune", "--resume", small_disk / "run")
    assert found.code == 6
    assert not (small_disk / "run" / "model.safetensors").exists()
    filler.unlink()
    assert zoo_command("finetune", "--resume", small_disk / "run").code == 0
    assert (small_disk / "run" / "model.safetensors").read_bytes() == whole()


def test_a_read_only_place_is_refused_before_training(zoo_command: Any, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    found = zoo_command.finetune(small_disk / "run")
    assert found.code == 6
    assert "epoch 1" not in found.said
    assert "choose another folder" in found.said


def test_a_disk_that_turns_read_only_never_says_saved(zoo_command: Any, small_disk: Path) -> None:
    found = zoo_command.finetune(small_disk / "run", fault="checkpoint.begin:2:denied,step:9:term")
    assert found.code == 6
    assert "Permission denied" in found.said
    assert "saved. To go on" not in found.said


def test_two_processes_on_one_run_folder_do_not_mix(zoo_command: Any, whole: Callable[[], bytes]) -> None:
    assert zoo_command.finetune("run", fault="step:20:kill").code == -9
    first = zoo_command.start("finetune", "--resume", "run")
    second = zoo_command.start("finetune", "--resume", "run")
    ends = {process.communicate(timeout=240)[0]: process.returncode for process in (first, second)}
    assert sorted(ends.values()) in ([0, 2], [0, 0])  # the second may come when the first is done
    if 2 in ends.values():
        assert any("another process is working on" in said for said, code in ends.items() if code == 2)
    assert zoo_command.artifact("run") == whole()


def test_a_log_that_cannot_be_written_ends_the_run_and_names_it(zoo_command: Any, whole: Callable[[], bytes]) -> None:
    found = zoo_command.finetune("run", fault="metrics:5:full")
    assert found.code == 6, found.said
    assert "metrics.jsonl: No space left on device" in found.said
    assert zoo_command("finetune", "--resume", "run").code == 0
    assert zoo_command.artifact("run") == whole()
