"""Checkpoints: folders that are whole or not there, read newest first.

A checkpoint is written as ``step-N.tmp-…``: the tensors as safetensors, everything else as JSON, each file flushed to
the disk, then a manifest of their sizes and hashes. Only then does the folder get its name, ``step-N``. A reader takes
the newest folder that agrees with its manifest. There is no pickle.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from zoo.errors import CheckpointError, OptionError, StorageError
from zoo.faults import fault
from zoo.files import storage_error, sync_folder
from zoo.progress import Progress, Silent

MANIFEST = "MANIFEST.json"
_TENSORS = "state.safetensors"
_FACTS = "state.json"
_FORMAT = 1
_NAME = re.compile(r"step-(\d+)")
# A checkpoint is not begun before so many times the last one's duration have passed, whatever the cadence in seconds.
_PAUSE_FOR_COST = 50


@dataclass(frozen=True)
class Snapshot:
    """A state of training.

    Attributes:
        facts: What JSON can hold.
        tensors: By name; slashes group them.
    """

    facts: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names begin with ``name/``, without that."""
        start = f"{name}/"
        return {key.removeprefix(start): tensor for key, tensor in self.tensors.items() if key.startswith(start)}


@dataclass(frozen=True)
class Cadence:
    """How often a checkpoint is written.

    Attributes:
        seconds: After so many seconds, at the end of a step.
        steps: After every so many optimizer steps; where it is given ``seconds`` counts no longer.
    """

    seconds: float = 60.0
    steps: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Cadence":
        """Read ``"500"`` or ``"500 steps"``, ``"90s"`` or ``"2m"``.

        Raises:
            OptionError: It is none of these.
        """
        found = re.fullmatch(r"(\d+(?:\.\d+)?) *(steps?|s|m|min)?", text.strip())
        if found and float(found[1]) > 0:
            number, unit = float(found[1]), found[2] or "steps"
            if unit.startswith("step") and number.is_integer():
                return cls(steps=int(number))
            if not unit.startswith("step"):
                return cls(seconds=number * (1 if unit == "s" else 60))
        raise OptionError(f"checkpoints every {text!r}: write a number of steps (500) or a time (90s, 2m).")


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Where they are; made with the first.
        cadence: How often :meth:`due` says yes.
        keep: How many to keep, at least 1; the second is for the day the first is damaged.
        writes: False on a process that leaves the writing to another, which holds the same state.
        progress: Told of damaged ones.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        folder: Path,
        *,
        cadence: Cadence = Cadence(),
        keep: int = 2,
        writes: bool = True,
        progress: Progress = Silent(),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.folder = folder
        self.written = 0
        self.seconds = 0.0
        self._cadence = cadence
        self._keep = keep
        self._writes = writes
        self._progress = progress
        self._clock = clock
        self._last_end = clock()
        self._last_cost = 0.0

    def due(self, step: int) -> bool:
        """Whether it is time for one.

        Args:
            step: Optimizer steps taken since the run began.
        """
        if not self._writes:
            return False
        if self._cadence.steps is not None:
            return step % self._cadence.steps == 0
        passed = self._clock() - self._last_end
        return passed >= max(self._cadence.seconds, _PAUSE_FOR_COST * self._last_cost)

    def save(self, step: int, snapshot: Snapshot) -> None:
        """Write a checkpoint, then remove older ones. One that is there whole for this step is left as it is.

        Raises:
            StorageError: It cannot be written; those before it are untouched.
        """
        if not self._writes:
            return
        started = self._clock()
        target = self.folder / f"step-{step:09d}"
        if not (target.exists() and not _damage(target)):
            self._write(target, snapshot)
        damage = _damage(target)
        if damage:
            raise StorageError(f"{target} cannot be read back ({damage}): check that disk; those before it were kept.")
        fault("checkpoint.prune")
        self._prune()
        self._last_end = self._clock()
        self._last_cost = self._last_end - started
        self.written += 1
        self.seconds += self._last_cost
        fault("checkpoint.done")

    def newest(self) -> Snapshot | None:
        """The newest whole checkpoint; None where there never was one.

        Raises:
            CheckpointError: There are checkpoints and every one is damaged.
        """
        found = self._finished()
        for folder in found:
            try:
                return _read(folder)
            except _DamagedError as damage:
                self._progress.warn(f"the checkpoint {folder} is damaged ({damage}): the one before it is used.")
        if found:
            raise CheckpointError(
                f"every checkpoint in {self.folder} is damaged: {', '.join(folder.name for folder in found)}. To train "
                "again from the beginning give the same command another --output."
            )
        return None

    def clear(self) -> None:
        """Remove them all: the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, target: Path, snapshot: Snapshot) -> None:
        temporary = self.folder / f"{target.name}.tmp-{uuid.uuid4().hex}"
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in snapshot.tensors.items()}
        try:
            fault("checkpoint.begin")
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True)
                sync_folder(self.folder.parent)
            temporary.mkdir()
            safetensors.torch.save_file(tensors, temporary / _TENSORS)
            fault("checkpoint.tensors")
            (temporary / _FACTS).write_text(json.dumps(snapshot.facts))
            for name in (_TENSORS, _FACTS):
                _sync(temporary / name)
            fault("checkpoint.fsync")
            _write_manifest(temporary)
            fault("checkpoint.manifest")
            sync_folder(temporary)
            if target.exists():  # damaged, or it would not be written again
                target.rename(self.folder / f"{target.name}.tmp-{uuid.uuid4().hex}")
            temporary.rename(target)
            fault("checkpoint.rename")
            sync_folder(self.folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise _not_written(target, error, sum(tensor.nbytes for tensor in tensors.values())) from error

    def _prune(self) -> None:
        for folder in self._finished()[self._keep :]:
            # Renamed first, so that one that is half removed is none.
            doomed = self.folder / f"{folder.name}.tmp-{uuid.uuid4().hex}"
            folder.rename(doomed)
            fault("checkpoint.remove")
        for folder in self.folder.glob("step-*.tmp-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _finished(self) -> list[Path]:
        """Folders with their final name, the newest first."""
        if not self.folder.is_dir():
            return []
        steps = {int(found[1]): path for path in self.folder.iterdir() if (found := _NAME.fullmatch(path.name))}
        return [path for _, path in sorted(steps.items(), reverse=True)]


class _DamagedError(Exception):
    """A folder is no whole checkpoint; the message says why."""


def _damage(folder: Path) -> str:
    try:
        _check(folder)
    except _DamagedError as damage:
        return str(damage)
    return ""


def _check(folder: Path) -> None:
    for name, facts in _manifest(folder).items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != facts["bytes"]:
                raise _DamagedError(f"{name} has {size} bytes, not {facts['bytes']}")
            if _digest(path) != facts["sha256"]:
                raise _DamagedError(f"the content of {name} is not what was written")
        except OSError as error:
            raise _DamagedError(f"{name}: {error.strerror}") from error


def _read(folder: Path) -> Snapshot:
    """Check and load a checkpoint. The very bytes whose hash agrees are those that are used."""
    contents: dict[str, bytes] = {}
    for name, facts in _manifest(folder).items():
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError as error:
            raise _DamagedError(f"{name}: {error.strerror}") from error
        if hashlib.sha256(contents[name]).hexdigest() != facts["sha256"]:
            raise _DamagedError(f"the content of {name} is not what was written")
    return Snapshot(json.loads(contents[_FACTS]), safetensors.torch.load(contents[_TENSORS]))


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files: dict[str, Any] = manifest["files"]
        if manifest["format"] != _FORMAT or set(files) != {_TENSORS, _FACTS}:
            raise _DamagedError(f"{MANIFEST} is of another version of zoo: {manifest.get('zoo')}")
        return {name: {"bytes": int(f["bytes"]), "sha256": str(f["sha256"])} for name, f in files.items()}
    except FileNotFoundError as error:
        raise _DamagedError(f"it has no {MANIFEST}") from error
    except OSError as error:
        raise _DamagedError(f"{MANIFEST}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _DamagedError(f"{MANIFEST} cannot be read") from error


def _write_manifest(folder: Path) -> None:
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": _digest(folder / name)} for name in (_TENSORS, _FACTS)
    }
    content = {"format": _FORMAT, "zoo": version("torch-zoo"), "torch": version("torch"), "files": files}
    (folder / MANIFEST).write_text(json.dumps(content, indent=1))
    _sync(folder / MANIFEST)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _not_written(target: Path, error: Exception, size_bytes: int) -> StorageError:
    # safetensors gives the system's words in an error of its own.
    reason = str(storage_error(target, error)) if isinstance(error, OSError) else f"cannot write {target}: {error}."
    return StorageError(
        f"{reason} The checkpoint takes {size_bytes / 1e6:.1f} MB; what was saved before it is untouched."
    )
