"""Whatever is saved, cut off, damaged and read again in whatever order: once there was a checkpoint, there is one."""

import os
import shutil
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zoo.faults import VARIABLE
from zoo.training.checkpoint import MANIFEST, Checkpoints, Snapshot

_NUMBERS = count()
# Where a process can be cut off, and whether its checkpoint is there then.
_MOMENTS = {
    "begin": False,
    "tensors": False,
    "fsync": False,
    "manifest": False,
    "rename": True,
    "prune": True,
    "remove": True,
    "done": True,
}


class Quiet:
    """Progress for nobody."""

    def warn(self, text: str) -> None:
        pass


class CheckpointFolder(RuleBasedStateMachine):
    """A folder, and the steps whose checkpoints are whole."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.step = 0
        self.whole: set[int] = set()
        self.ever = False
        self.checkpoints = self.opened()

    def opened(self) -> Checkpoints:
        return Checkpoints(self.folder, keep=2, progress=Quiet())  # type: ignore[arg-type]

    def saved(self, step: int) -> None:
        self.ever = True
        self.whole.add(step)

    def kept(self) -> None:
        """What pruning left: it counts damaged ones too, and never takes the newest."""
        self.whole &= {int(path.name[5:]) for path in self.folder.iterdir() if "tmp" not in path.name}

    @rule(steps=st.integers(0, 3))
    def save(self, steps: int) -> None:
        self.step += steps
        self.checkpoints.save(self.step, Snapshot({"step": self.step}, {"x": torch.full((8,), self.step)}))
        self.saved(self.step)
        self.kept()

    @rule(steps=st.integers(1, 3), moment=st.sampled_from(sorted(_MOMENTS)))
    def cut_off(self, steps: int, moment: str) -> None:
        self.step += steps
        snapshot = Snapshot({"step": self.step}, {"x": torch.full((8,), self.step)})
        os.environ[VARIABLE] = f"checkpoint.{moment}:1:crash,{next(_NUMBERS)}:1:crash"
        cut = False
        try:
            self.checkpoints.save(self.step, snapshot)
        except RuntimeError:
            cut = True
        finally:
            del os.environ[VARIABLE]
        assert cut or moment == "remove", "only where there is something to remove is that a moment"
        if _MOMENTS[moment]:
            self.saved(self.step)
        self.kept()
        self.checkpoints = self.opened()

    @precondition(lambda self: len(self.whole) > 1)
    @rule(how=st.sampled_from(["manifest", "truncated", "flipped"]), newest=st.booleans())
    def damage(self, how: str, newest: bool) -> None:
        step = max(self.whole) if newest else min(self.whole)
        folder = self.folder / f"step-{step:09d}"
        tensors = folder / "state.safetensors"
        content: Any = bytearray(tensors.read_bytes())
        if how == "manifest":
            (folder / MANIFEST).unlink()
        elif how == "truncated":
            tensors.write_bytes(content[:-1])
        else:
            content[-1] ^= 1
            tensors.write_bytes(content)
        self.whole.discard(step)

    @rule()
    def restart(self) -> None:
        self.checkpoints = self.opened()

    @invariant()
    def the_newest_whole_one_is_read(self) -> None:
        if not self.ever:
            assert self.checkpoints.newest() is None
            return
        assert self.whole, "a whole checkpoint was lost"
        found = self.checkpoints.newest()
        assert found is not None
        assert found.facts["step"] == max(self.whole)
        assert found.tensors["x"].tolist() == [max(self.whole)] * 8

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


TestCheckpointFolder = CheckpointFolder.TestCase
TestCheckpointFolder.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
