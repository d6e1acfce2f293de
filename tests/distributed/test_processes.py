"""Several processes train what one would have trained, and stop, fail and go on together."""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from zoo.artifact import read_artifact

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(600)]


def assert_close(launcher: Any, output: str, alone: Any, *, tolerance: float = 1e-3) -> None:
    for row, expected in zip(launcher.rows(output), alone.rows("run"), strict=True):
        assert row == pytest.approx(expected, rel=tolerance)
    header, state = read_artifact(launcher.artifact(output))
    other, expected_state = read_artifact(alone.artifact("run"))
    torch.testing.assert_close(state, expected_state, rtol=tolerance, atol=1e-4)
    assert header.metrics["val"]["accuracy"] == other.metrics["val"]["accuracy"]
    assert header.metrics["test"]["confusion"] == other.metrics["test"]["confusion"]
    assert [proof.after for proof in header.freeze[:1]] == [proof.before for proof in header.freeze[:1]]


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_train_what_one_does(launcher: Any, alone: Callable[[], Any], processes: int) -> None:
    found = launcher.run("launch", "-n", processes, *launcher.words("run"))
    assert found.code == 0, found.said
    assert found.said.count("phase 1/2") == 1, "one process prints"
    assert found.said.count("artifact  run/model.safetensors") == 1
    assert_close(launcher, "run", alone())


def test_equal_runs_of_two_processes_give_equal_bytes(launcher: Any) -> None:
    for output in ("first", "second"):
        assert launcher.run("launch", "-n", 2, *launcher.words(output)).code == 0
    assert launcher.artifact("first").read_bytes() == launcher.artifact("second").read_bytes()


def test_torchrun_is_the_long_form(launcher: Any, alone: Callable[[], Any]) -> None:
    import subprocess

    words = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "zoo",
        *launcher.words("run"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ZOO_CACHE": str(launcher.folder / "cache")}
    found = subprocess.run(
        [sys.executable, *map(str, words)], cwd=launcher.folder, env=environment, capture_output=True, timeout=240
    )
    assert found.returncode == 0, found.stderr.decode()
    assert_close(launcher, "run", alone())


def test_a_lost_process_is_started_again_and_the_run_ends_as_if_it_had_not_been(launcher: Any) -> None:
    assert launcher.run("launch", "-n", 2, *launcher.words("whole")).code == 0
    found = launcher.run("launch", "-n", 2, "--restarts", 2, *launcher.words("run"), fault="step@1:15:kill")
    assert found.code == 0, found.said
    assert "resuming run in phase 2, after step 12" in found.said
    assert launcher.artifact("run").read_bytes() == launcher.artifact("whole").read_bytes()


def test_a_default_folder_is_found_again_after_a_restart(launcher: Any) -> None:
    words = [word for word in launcher.words("unused") if word not in ("--output", "unused")]
    found = launcher.run("launch", "-n", 2, "--restarts", 1, *words, fault="step@0:15:kill")
    assert found.code == 0, found.said
    assert [path.name for path in (launcher.folder / "runs").iterdir()] == ["shapes-simple_cnn-1"]


def test_without_restarts_the_others_end_with_the_lost_one(launcher: Any) -> None:
    started = time.monotonic()
    found = launcher.run("launch", "-n", 2, *launcher.words("run"), fault="step@1:15:kill")
    assert found.code == 137, found.said
    assert time.monotonic() - started < 120
    resumed = launcher.run("finetune", "--resume", "run")
    assert resumed.code == 0, resumed.said


def test_when_the_launcher_is_killed_the_others_save_and_end(launcher: Any) -> None:
    assert launcher.run("launch", "-n", 2, *launcher.words("whole")).code == 0
    process = launcher.start("launch", "-n", 2, *launcher.words("run", "--checkpoint-every", "1000"))
    launcher.wait_for_epochs(1, process)
    process.kill()
    said, _ = process.communicate(timeout=120)  # the pipe closes with the last process that has it
    assert "stopped, and saved. To go on: zoo finetune --resume run" in said
    assert launcher.run("launch", "-n", 2, "finetune", "--resume", "run").code == 0
    assert launcher.artifact("run").read_bytes() == launcher.artifact("whole").read_bytes()


@pytest.mark.parametrize("processes", [1, 4])
def test_another_number_of_processes_goes_on_with_the_same_steps(
    launcher: Any, alone: Callable[[], Any], processes: int
) -> None:
    assert launcher.run("launch", "-n", 2, *launcher.words("run"), fault="step@0:18:kill").code == 137
    launch = ["launch", "-n", processes] if processes > 1 else []
    resumed = launcher.run(*launch, "finetune", "--resume", "run")
    assert resumed.code == 0, resumed.said
    assert_close(launcher, "run", alone())


@pytest.mark.parametrize(("rank", "action", "code"), [(0, "term", 143), (1, "term", 143), (1, "int", 130)])
def test_a_signal_to_one_process_stops_all_together(launcher: Any, rank: int, action: str, code: int) -> None:
    assert launcher.run("launch", "-n", 2, *launcher.words("whole")).code == 0
    found = launcher.run("launch", "-n", 2, *launcher.words("run"), fault=f"step@{rank}:17:{action}")
    assert found.code == code, found.said
    assert "stopped, and saved. To go on: zoo finetune --resume run" in found.said
    resumed = launcher.run("launch", "-n", 2, "finetune", "--resume", "run")
    assert "after step 17" in resumed.said
    assert launcher.artifact("run").read_bytes() == launcher.artifact("whole").read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_launcher_stops_all_together(launcher: Any, number: int, code: int) -> None:
    process = launcher.start("launch", "-n", 2, *launcher.words("run", "--checkpoint-every", "1000"))
    launcher.wait_for_epochs(1, process)
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == code, said
    resumed = launcher.run("launch", "-n", 2, "finetune", "--resume", "run")
    assert resumed.code == 0, resumed.said


def test_out_of_memory_on_one_process_makes_the_parts_smaller_on_all(launcher: Any, alone: Callable[[], Any]) -> None:
    for stage in ("forward", "backward"):
        found = launcher.run("launch", "-n", 2, *launcher.words(stage), fault=f"{stage}@1:14:oom")
        assert found.code == 0, found.said
        assert "is taken 2 images at a time" in found.said
        assert_close(launcher, stage, alone())


def test_a_loss_that_is_not_finite_on_one_process_is_skipped_by_all(launcher: Any) -> None:
    found = launcher.run("launch", "-n", 2, *launcher.words("run"), fault="loss@1:14:value")
    assert found.code == 0, found.said
    assert "not finite" in found.said
    assert [row.get("skipped_steps", 0) for row in launcher.rows("run")] == [0, 0, 1, 0, 0]
    found = launcher.run("launch", "-n", 2, *launcher.words("other"), fault="loss@1:14-40:value")
    assert found.code == 6, found.said


def test_more_processes_than_images_a_step_are_refused(launcher: Any) -> None:
    found = launcher.run("launch", "-n", 2, *launcher.words("run"), "--recipe", "full", "--batch-size", 1)
    assert found.code == 2
    assert "cannot be shared by 2 processes" in found.said


def test_launch_refuses_what_runs_in_one_process(launcher: Any) -> None:
    found = launcher.run("launch", "-n", 2, "list")
    assert found.code == 2
    assert "leave 'launch' out" in found.said
