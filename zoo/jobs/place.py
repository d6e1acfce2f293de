"""Where a run happens: the processes that share it, the folder it fills, and what stands there already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.jobs.resuming import StoredRun, entry_point, open_checkpoints, stoppable
from zoo.models import Request
from zoo.progress import Progress, Silent
from zoo.runs import CONFIG, RunFolder, UnwrittenFolder, exists_error, free_folder, last_folder
from zoo.sources.own_data import as_folder
from zoo.training.checkpoint import Checkpoints, Snapshot
from zoo.training.distributed import Ranks, joined
from zoo.training.engine import Engine
from zoo.training.signals import StopRequest


@dataclass(frozen=True)
class OpenRun:
    """A run folder that this run holds, and what belongs to its training.

    Attributes:
        folder: Where rows and the report go.
        checkpoints: Of the run.
        snapshot: Where training goes on; None at its beginning.
        stop: Set when a signal asks the run to end.
    """

    folder: RunFolder | UnwrittenFolder
    checkpoints: Checkpoints
    snapshot: Snapshot | None
    stop: StopRequest


@dataclass(frozen=True)
class Place:
    """Where a run happens. Nothing is written before :meth:`opened`.

    Attributes:
        ranks: Which of how many processes this is.
        source: The images: a folder or a manifest.
        folder: The run folder.
        stored: The run that is gone on with, or None.
        restarted: Whether torchrun has started the same command anew.
        progress: Silent on all processes but the first.
    """

    ranks: Ranks
    source: Path
    folder: Path
    stored: StoredRun | None
    restarted: bool
    progress: Progress

    @contextmanager
    def opened(self, config: Mapping[str, Any], *, checkpoint_every: str, engine: Engine) -> Iterator[OpenRun]:
        """Hold the run folder and listen to signals while the block runs.

        Args:
            config: What ``config.toml`` says, or has to say where torchrun started the command anew.
            checkpoint_every: How often the run's state is saved.
            engine: Whose processes have to agree on where to go on.

        Raises:
            RunExistsError: The folder holds another run, or another process is filling it.
            CheckpointError: There are checkpoints and all are damaged.
        """
        begun = self.stored is not None or self.restarted
        with ExitStack() as stack:
            folder = RunFolder(self.folder, resume=begun) if self.ranks.is_first else UnwrittenFolder(self.folder)
            stack.callback(folder.close)
            stop = stack.enter_context(stoppable(self.folder, self.progress))
            checkpoints = open_checkpoints(
                self.folder, every=checkpoint_every, writes=self.ranks.is_first, progress=self.progress
            )
            snapshot = None
            if self.stored is None:
                folder.write_config(config)
            elif self.restarted and not self.stored.is_of(config):
                raise exists_error(self.folder)
            else:
                snapshot = entry_point(checkpoints, folder, engine=engine, progress=self.progress)
            yield OpenRun(folder, checkpoints, snapshot, stop)


@contextmanager
def find_place(
    data: Any,
    output: str | Path | None,
    request: Request,
    *,
    stored: StoredRun | None,
    offline: bool,
    progress: Progress,
) -> Iterator[Place]:
    """Join the other processes, bring the data into one form, and agree on the run folder, while the block runs.

    Args:
        data: As :func:`zoo.finetune` takes it.
        output: The run folder; None takes the first free one below ``runs``.
        request: The architecture, which gives the folder its name.
        stored: The run to go on with, or None.
        offline: Never download.
        progress: Where to say what is happening.

    Raises:
        RunExistsError: ``output`` exists.
        DataError: There is no such data.
    """
    with joined() as ranks:
        progress = progress if ranks.is_first else Silent()
        with as_folder(data, offline=offline, progress=progress) as source:
            restarted = stored is None and ranks.restarts > 0
            if restarted:
                stored = _left_by_restart(output, source, request)
            folder = stored.folder if stored else Path()
            if stored is None and ranks.is_first:
                folder = _choose_folder(output, source, request, restarted=restarted)
            yield Place(ranks, source, Path(ranks.told_by_first(str(folder))), stored, restarted, progress)


def _choose_folder(output: str | Path | None, source: Path, request: Request, *, restarted: bool) -> Path:
    if output is None:
        return free_folder(Path("runs"), _stem(source, request))
    folder = Path(output)
    # One that torchrun's first start left before anything was in it is its own.
    if folder.exists() and not (restarted and not (folder / CONFIG).exists()):
        raise exists_error(folder)
    return folder


def _left_by_restart(output: str | Path | None, source: Path, request: Request) -> StoredRun | None:
    """The run that torchrun had begun with the same command before it started all processes anew; None for none."""
    folder = Path(output) if output is not None else last_folder(Path("runs"), _stem(source, request))
    return StoredRun.read(folder) if folder is not None and (folder / CONFIG).is_file() else None


def _stem(source: Path, request: Request) -> str:
    name = source.resolve().stem if source.is_file() else source.resolve().name
    return f"{name or 'images'}-{request.architecture.name}"
