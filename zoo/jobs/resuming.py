"""Going on with a run that was stopped or killed, from nothing but its folder."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from zoo.artifact import read_header
from zoo.decoding import Misfit
from zoo.errors import CheckpointError, DataError, UsageError
from zoo.progress import Progress
from zoo.recipes import Recipe
from zoo.registry.tables import decode_phase
from zoo.runs import ARTIFACT, CHECKPOINTS, CONFIG, METRICS, REPORT, Run, RunFolder, UnwrittenFolder, to_toml
from zoo.sources import is_published
from zoo.training.checkpoint import Cadence, Checkpoints, Snapshot
from zoo.training.engine import Engine, Numerics
from zoo.training.signals import StopRequest, Terminated
from zoo.training.trainer import Stopped

OWN_DATA = "data sets of the caller"
# Versions that decide the last bits of a result.
_DISTRIBUTIONS = ("torch-zoo", "torch", "torchvision", "pillow")


@dataclass(frozen=True)
class StoredRun:
    """A run that did not finish, as its ``config.toml`` states it.

    Attributes:
        folder: The run folder.
        config: The file's content.
        recipe: Its phases.
        numerics: Those that it trained in.
    """

    folder: Path
    config: Mapping[str, Any]
    recipe: Recipe
    numerics: Numerics

    @classmethod
    def read(cls, folder: Path) -> StoredRun:
        """Read a run folder.

        Raises:
            UsageError: It is none, or was left before its configuration was written.
        """
        path = folder / CONFIG
        if not path.is_file():
            reason = "it holds no config.toml" if folder.is_dir() else "there is no such folder"
            raise UsageError(f"{folder} cannot be resumed: {reason}. Give the first command again, with --output.")
        try:
            config = tomllib.loads(path.read_text(encoding="utf-8"))
            numerics = dict(config["numerics"])
            reasons = {key: numerics.pop(key) for key in list(numerics) if key.endswith("_reason")}
            return cls(
                folder=folder,
                config=config,
                recipe=Recipe(
                    name=config["recipe"], phases=tuple(decode_phase(phase) for phase in config["phases"]), strict=False
                ),
                numerics=Numerics(**numerics, reasons={key.removesuffix("_reason"): r for key, r in reasons.items()}),
            )
        except (OSError, ValueError, KeyError, TypeError, Misfit) as error:
            raise UsageError(
                f"{path} cannot be read ({type(error).__name__}: {error}): it was changed, or another version of zoo "
                "wrote it."
            ) from error

    def settings(self, names: Iterable[str]) -> dict[str, Any]:
        """The arguments of :func:`zoo.finetune`, besides the data, that gave this run.

        Args:
            names: Its parameters.
        """
        settings = {name: self.config[name] for name in names if name in self.config and name != "data"}
        settings |= {name: self._here(settings[name]) for name in ("weights", "registry") if name in settings}
        return {**settings, "recipe": self.recipe}

    def data(self, given: Any) -> Any:
        """The data of the run.

        Args:
            given: The caller's data sets where the run had such, else None.

        Raises:
            UsageError: Data sets are missing, or a path was given to a run that has its own.
        """
        stored = str(self.config["data"])
        if stored == OWN_DATA:
            if given is None or isinstance(given, str | Path):
                raise UsageError(f"{self.folder} was trained on data sets of your own: pass them again with resume.")
            return given
        if given is not None:
            raise UsageError(f"--resume takes no data: {self.folder} goes on with {stored}.")
        return stored if is_published(stored) else self._here(stored, must_exist=True)

    def check_criterion(self, criterion: object) -> None:
        """Refuse another criterion than the run's.

        Raises:
            UsageError: The run had one of its caller's and there is none now, or the other way round.
        """
        if bool(self.config.get("own_criterion")) != (criterion is not None):
            had = "had a criterion of your own: pass it again" if criterion is None else "had none: leave it out"
            raise UsageError(f"{self.folder} {had}.")

    def check_data(self, fingerprint: str) -> None:
        """Refuse images that are not those of the run.

        Raises:
            DataError: They are not.
        """
        stored = self.config["fingerprint"]
        if stored != fingerprint:
            raise DataError(
                f"the images are not those that {self.folder} began with: their fingerprint was {stored[:16]}… and is "
                f"{fingerprint[:16]}…. Put them back as they were, or train again into another --output."
            )

    def versions_that_changed(self) -> str:
        """Words for each distribution whose version is another one now; empty where none is."""
        stored = self.config.get("versions", {})
        changed = [(name, stored.get(name), version(name)) for name in _DISTRIBUTIONS]
        return ", ".join(f"{name} {old} is now {new}" for name, old, new in changed if old and old != new)

    def is_of(self, config: Mapping[str, Any]) -> bool:
        """Whether a configuration is that of this run."""
        return bool(tomllib.loads(to_toml(config)) == self.config)

    def finished(self) -> Run | None:
        """The run where it has nothing left to do, else None."""
        artifact, report = self.folder / ARTIFACT, self.folder / REPORT
        if not (artifact.is_file() and report.is_file()):
            return None
        rows = (self.folder / METRICS).read_text(encoding="utf-8").splitlines()
        history = [json.loads(row) for row in rows]
        return Run(self.folder, artifact, report, read_header(artifact).metrics, history, seconds=0.0)

    def _here(self, path: str, *, must_exist: bool = False) -> str:
        """A path that was relative to the folder that the run was started in."""
        found = Path(self.config["working_folder"], path)
        return str(found) if must_exist or found.exists() else path


def versions() -> dict[str, str]:
    """The versions of what decides the last bits of a result."""
    return {name: version(name) for name in _DISTRIBUTIONS}


def entry_point(
    checkpoints: Checkpoints, run_folder: RunFolder | UnwrittenFolder, *, engine: Engine, progress: Progress
) -> Snapshot | None:
    """Where a stopped run goes on: its newest whole checkpoint, or None for its beginning; says which.

    Args:
        checkpoints: Of the run.
        run_folder: Whose ``metrics.jsonl`` loses what comes after that checkpoint.
        engine: Whose processes have to agree.
        progress: Told where.

    Raises:
        CheckpointError: There are checkpoints and all are damaged, or the processes see different ones.
    """
    snapshot = checkpoints.newest()
    place = -1 if snapshot is None else _step_of(snapshot)
    if engine.largest(place, -place) != (place, -place):
        raise CheckpointError(
            f"the processes see different checkpoints in {run_folder.path}: it has to be a folder that all machines "
            "share."
        )
    if snapshot is None:
        progress.warn(f"{run_folder.path} has no checkpoint yet: training begins again, as its config.toml says.")
        run_folder.rewrite_metrics([])
        return None
    trainer = snapshot.facts["trainer"]
    run_folder.rewrite_metrics([*snapshot.facts["history"], *(trainer["history"] if trainer else [])])
    progress.note(f"resuming {run_folder.path} in phase {snapshot.facts['phase'] + 1}, after step {place}")
    return snapshot


def _step_of(snapshot: Snapshot) -> int:
    trainer = snapshot.facts["trainer"]
    return int(snapshot.facts["step"] if trainer is None else trainer["step"])


def open_checkpoints(folder: Path, *, every: str, writes: bool, progress: Progress) -> Checkpoints:
    """The checkpoints of a run folder.

    Args:
        folder: The run folder.
        every: How often one is written.
        writes: Whether this process does the writing.
        progress: Told of damaged ones.

    Raises:
        OptionError: ``every`` is no cadence.
    """
    return Checkpoints(folder / CHECKPOINTS, cadence=Cadence.parse(every), writes=writes, progress=progress)


@contextmanager
def stoppable(folder: Path, progress: Progress) -> Iterator[StopRequest]:
    """Take signals while the block runs, and leave with the line to type when one stopped it."""
    stop = StopRequest()
    resume = f"To go on: zoo finetune --resume {shlex.quote(str(folder))}"
    try:
        with stop.listening():
            yield stop
    except Stopped:
        text = f"stopped, and saved. {resume}"
        progress.warn(text)
        stop.leave(text)
    except (KeyboardInterrupt, Terminated):
        progress.warn(f"stopped at once; what came after the last checkpoint is lost. {resume}")
        raise
