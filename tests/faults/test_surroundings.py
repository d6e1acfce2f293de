"""What is wrong around a run: no home, a drive that does not answer, a clock that jumps, a kill before it began."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

# A day back and ten years on, again and again.
JUMPING_CLOCK = """
import itertools, time
real, jumps = time.time, itertools.cycle([0.0, -86400.0, 315360000.0])
time.time = lambda: real() + next(jumps)
"""


def at_start(folder: Path, script: str) -> str:
    """A folder for PYTHONPATH whose script every Python runs first."""
    target = folder / "at_start"
    target.mkdir()
    (target / "sitecustomize.py").write_text(script)
    return str(target)


def test_killed_while_images_are_read_nothing_is_left_and_the_same_command_runs(
    zoo_command: Any, whole: Callable[[], bytes]
) -> None:
    assert zoo_command.finetune("run", fault="read:20:kill").code == -9
    assert not (zoo_command.folder / "run").exists()
    assert zoo_command.finetune("run").code == 0
    assert zoo_command.artifact("run") == whole()


@pytest.mark.parametrize("home", ["/dev/null", "/proc/1/nowhere"])
def test_without_a_home_listing_and_training_work(zoo_command: Any, whole: Callable[[], bytes], home: str) -> None:
    without = {"HOME": home, "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}
    listed = zoo_command("list", "simple_cnn", **without)
    assert (listed.code, "simple_cnn" in listed.said) == (0, True), listed.said
    trained = zoo_command.finetune("run", **without)
    assert trained.code == 0, trained.said
    assert zoo_command.artifact("run") == whole()
    uncached = zoo_command.finetune("uncached", **without, ZOO_CACHE="")
    assert uncached.code == 0, uncached.said
    assert uncached.said.count("features cannot be kept") == 1
    assert zoo_command.artifact("uncached") == whole()


def test_a_clock_that_jumps_changes_nothing(zoo_command: Any, whole: Callable[[], bytes]) -> None:
    clock = at_start(zoo_command.folder, JUMPING_CLOCK)
    assert zoo_command.finetune("run", fault="step:20:kill", PYTHONPATH=clock).code == -9
    resumed = zoo_command("finetune", "--resume", "run", PYTHONPATH=clock)
    assert "after step 16" in resumed.said
    assert zoo_command.artifact("run") == whole()
    rows = (zoo_command.folder / "run" / "metrics.jsonl").read_text().splitlines()
    assert all(0 <= json.loads(row)["seconds"] < 600 for row in rows)
    assert len(rows) == 9


def test_a_read_that_is_never_answered_ends_the_run_and_names_the_file(zoo_command: Any) -> None:
    impatient = at_start(zoo_command.folder, "import zoo.data.reader\nzoo.data.reader._PATIENCE_S = 1.0\n")
    found = zoo_command.finetune("run", fault="read:20:hang", PYTHONPATH=impatient)
    assert found.code == 3, found.said
    assert ".png was not read within 1 s" in found.said
