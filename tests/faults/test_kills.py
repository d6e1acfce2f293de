"""Killed at any moment, a run goes on to the bytes of one that nothing stopped."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from zoo.training.checkpoint import Checkpoints, Snapshot

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

# 60 photos, 42 of them for training, 8 a step: 6 steps an epoch, 18 a phase, 54 in all.
KILLS = {
    "first step": "step:1:kill",
    "head, before a checkpoint": "step:3:kill",
    "head, in an epoch": "step:9:kill",
    "head, in its last step": "backward:18:kill",
    "last 3, in its first step": "forward:19:kill",
    "last 3, in an epoch": "step:27:kill",
    "last 3, at an epoch's end": "forward:30:kill",
    "all, in its first step": "step:37:kill",
    "all, in an epoch": "backward:45:kill",
    "all, in its last step": "step:54:kill",
    "validation": "validation:2:kill",
    "validation at a phase's beginning": "validation:4:kill",
    "checkpoint, before anything": "checkpoint.begin:3:kill",
    "checkpoint, tensors written": "checkpoint.tensors:4:kill",
    "checkpoint, flushed": "checkpoint.fsync:5:kill",
    "checkpoint, manifest written": "checkpoint.manifest:6:kill",
    "checkpoint, renamed": "checkpoint.rename:7:kill",
    "checkpoint, before pruning": "checkpoint.prune:8:kill",
    "checkpoint, pruning half done": "checkpoint.remove:5:kill",
    "checkpoint, done": "checkpoint.done:2:kill",
    "very first checkpoint": "checkpoint.manifest:1:kill",
    "feature extraction, first batch": "features:1:kill",
    "feature extraction, later": "features:2:kill",
    "before the artifact": "artifact:1:kill",
    "before the report": "report:1:kill",
}


@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_run_ends_with_the_same_bytes(zoo_command: Any, whole: Callable[[], bytes], moment: str) -> None:
    killed = zoo_command.finetune("run", fault=KILLS[moment])
    assert killed.code == -9, killed.said
    resumed = zoo_command("finetune", "--resume", "run")
    assert resumed.code == 0, resumed.said
    assert re.search(r"resuming run in phase \d, after step \d+|has no checkpoint yet", resumed.said)
    assert zoo_command.artifact("run") == whole()
    rows = (zoo_command.folder / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == list(range(9))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("step:9:kill", "step:1:kill"),
        ("step:10:kill", "step:3:kill"),
        ("step:20:kill", "checkpoint.manifest:1:kill"),
        ("step:42:kill", "step:14:kill"),
        ("features:1:kill", "features:1:kill"),
    ],
)
def test_killed_twice_it_ends_with_the_same_bytes(
    zoo_command: Any, whole: Callable[[], bytes], first: str, second: str
) -> None:
    assert zoo_command.finetune("run", fault=first).code == -9
    assert zoo_command("finetune", "--resume", "run", fault=second).code == -9
    resumed = zoo_command("finetune", "--resume", "run")
    assert resumed.code == 0, resumed.said
    assert zoo_command.artifact("run") == whole()


@pytest.mark.parametrize("part", ["trainer/optimizer/", "trainer/best/", "trainer/average/", "model/"])
def test_the_comparison_notices_a_part_of_the_state_that_is_left_out(zoo_command: Any, part: str) -> None:
    """The control: without each part the bytes differ, or the checkpoint is refused."""
    # With so high a rate the last phase ends with the state that it began with, which is then what counts.
    rates = ["--lr", "3e-3,3e-3,0.5"] if part == "trainer/best/" else []
    assert zoo_command.finetune("whole", *rates).code == 0
    assert zoo_command.finetune("run", *rates, fault="step:51:kill").code == -9
    checkpoints = Checkpoints(zoo_command.folder / "run" / "checkpoints")
    found = checkpoints.newest()
    assert found is not None
    checkpoints.clear()
    tensors = {name: tensor for name, tensor in found.tensors.items() if not name.startswith(part)}
    assert len(tensors) < len(found.tensors)
    facts = dict(found.facts)
    if part == "trainer/best/":
        facts["trainer"] = {**facts["trainer"], "best": {}}
    checkpoints.save(48, Snapshot(facts, tensors))
    resumed = zoo_command("finetune", "--resume", "run")
    assert resumed.code != 0 or zoo_command.artifact("run") != zoo_command.artifact("whole")
