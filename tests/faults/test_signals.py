"""SIGTERM and Ctrl-C from outside: the step ends, the state is saved, and the exit code says what came."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

# Nothing but the signal makes a checkpoint.
SELDOM = ("--checkpoint-every", "100000")


def wait_for(path: Path, process: Any) -> None:
    """Wait until a file has content."""
    deadline = time.monotonic() + 120
    while not (path.exists() and path.stat().st_size):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("epochs", [1, 2, 4])
def test_a_signal_saves_and_exits_and_the_run_goes_on(
    zoo_command: Any, whole: Callable[[], bytes], number: int, code: int, epochs: int
) -> None:
    process = zoo_command.start(*zoo_command.words("run", *SELDOM))
    metrics = zoo_command.folder / "run" / "metrics.jsonl"
    wait_for(metrics, process)
    while len(metrics.read_text().splitlines()) < epochs and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == code, said
    assert "stopped, and saved. To go on: zoo finetune --resume run" in said
    resumed = zoo_command("finetune", "--resume", "run")
    assert resumed.code == 0, resumed.said
    assert "resuming run" in resumed.said
    assert zoo_command.artifact("run") == whole()


@pytest.mark.parametrize("step", [2, 11, 18, 19, 25, 31, 36, 40, 50, 54])
def test_sigterm_at_a_step_loses_nothing(zoo_command: Any, whole: Callable[[], bytes], step: int) -> None:
    stopped = zoo_command.finetune("run", *SELDOM, fault=f"step:{step}:term")
    assert stopped.code == 143, stopped.said
    resumed = zoo_command("finetune", "--resume", "run")
    assert f"after step {step}" in resumed.said
    assert zoo_command.artifact("run") == whole()


def test_a_second_ctrl_c_stops_at_once(zoo_command: Any) -> None:
    # The step that the first one lets finish would take an hour.
    process = zoo_command.start(*zoo_command.words("run", *SELDOM), fault="step:8:int,forward:8:hang")
    metrics = zoo_command.folder / "run" / "metrics.jsonl"
    wait_for(metrics, process)
    time.sleep(1.0)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped at once" in said


def test_a_signal_before_training_leaves_at_once(zoo_command: Any) -> None:
    stopped = zoo_command.finetune("run", fault="features:1:term")
    assert stopped.code == 143
    assert "zoo finetune --resume run" in stopped.said


def test_a_disk_that_never_answers_costs_one_checkpoint(zoo_command: Any, whole: Callable[[], bytes]) -> None:
    # SIGTERM comes at the 9th step; the checkpoint that it asks for, the third, hangs until someone loses patience.
    process = zoo_command.start(*zoo_command.words("run"), fault="step:9:term,checkpoint.fsync:3:hang")
    checkpoints = zoo_command.folder / "run" / "checkpoints"
    wait_for(checkpoints / "step-000000008" / "MANIFEST.json", process)
    while not list(checkpoints.glob("step-000000009.tmp-*/state.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    resumed = zoo_command("finetune", "--resume", "run")
    assert resumed.code == 0, resumed.said
    assert "after step 8" in resumed.said
    assert zoo_command.artifact("run") == whole()
