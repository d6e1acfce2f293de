"""A run: one folder that holds everything a training gave, and everything needed to do it again."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from zoo.errors import RunExistsError
from zoo.faults import fault
from zoo.files import storage_error, write_atomically

CONFIG = "config.toml"
METRICS = "metrics.jsonl"
ARTIFACT = "model.safetensors"
REPORT = "report.html"
LOG = "log.txt"
CHECKPOINTS = "checkpoints"
_LOCK = ".lock"


@dataclass(frozen=True)
class Run:
    """What a finished training left.

    Attributes:
        folder: The run folder.
        artifact: The trained model, one self-describing ``.safetensors`` file.
        report: A self-contained HTML page.
        metrics: ``{"val": {...}, "test": {...}}`` as :func:`zoo.tasks.metrics.classification_report` gives them, or for
            multi-label data :func:`zoo.tasks.label_metrics.label_report`, whose ``accuracy`` counts images with every
            label right; a split that the data does not have is absent.
        history: One dictionary an epoch, as in ``metrics.jsonl``.
        seconds: From the call to the finished artifact.
    """

    folder: Path
    artifact: Path
    report: Path
    metrics: Mapping[str, Mapping[str, Any]]
    history: Sequence[Mapping[str, Any]]
    seconds: float

    def summary(self) -> dict[str, Any]:
        """The document that ``zoo finetune --json`` prints."""
        return {
            **{split: dict(report) for split, report in self.metrics.items()},
            "artifact": str(self.artifact),
            "report": str(self.report),
            "folder": str(self.folder),
            "epochs": len(self.history),
            "seconds": round(self.seconds, 2),
        }


class RunFolder:
    """A run's folder while it is being filled. Held exclusively: two processes never fill one together.

    Args:
        path: A folder that does not exist yet, or with ``resume`` one that an earlier process began to fill.
        resume: Whether to go on with an earlier process's run.

    Raises:
        RunExistsError: It exists, or another process is filling it.
        StorageError: It cannot be made.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        try:
            path.mkdir(parents=True, exist_ok=resume)
            self._lock = _locked(path)
        except FileExistsError:
            raise exists_error(path) from None
        except OSError as error:
            raise storage_error(path, error) from error
        self.path = path
        self._handler = logging.FileHandler(path / LOG, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger().addHandler(self._handler)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write ``config.toml``."""
        write_atomically(self.path / CONFIG, to_toml(config))

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add one line to ``metrics.jsonl``.

        Raises:
            StorageError: The line cannot be written.
        """
        try:
            fault("metrics")
            with (self.path / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise storage_error(self.path / METRICS, error) from error

    def rewrite_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Make ``metrics.jsonl`` hold these lines and no others."""
        write_atomically(self.path / METRICS, "".join(json.dumps(row) + "\n" for row in rows))

    def write_report(self, page: str) -> None:
        """Write ``report.html``."""
        write_atomically(self.path / REPORT, page)

    def close(self) -> None:
        """Stop writing the log, and let another process have the folder."""
        logger().removeHandler(self._handler)
        self._handler.close()
        if self._lock is not None:
            self._lock.close()


class UnwrittenFolder:
    """A run folder that another process of the same run fills.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Left to the other."""

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Left to the other."""

    def rewrite_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Left to the other."""

    def write_report(self, page: str) -> None:
        """Left to the other."""

    def close(self) -> None:
        """Nothing is open."""


def logger() -> logging.Logger:
    """The logger whose lines end up in the run folder's ``log.txt``."""
    found = logging.getLogger("zoo")
    found.setLevel(logging.INFO)
    return found


def free_folder(parent: Path, stem: str) -> Path:
    """``parent/stem-n`` with the first free n, counted from 1. Nothing is made."""
    n = 1
    while (parent / f"{stem}-{n}").exists():
        n += 1
    return parent / f"{stem}-{n}"


def _locked(folder: Path) -> IO[str] | None:
    """Hold a folder until the file is closed or the process ends, however that comes about."""
    try:
        import fcntl
    except ImportError:  # Windows: the exclusive making of the folder has to do
        return None
    file = (folder / _LOCK).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise RunExistsError(f"another process is working on {folder}; wait for it, or stop it first.") from None
    except OSError:  # a network file system without locks
        file.close()
        return None
    return file


def last_folder(parent: Path, stem: str) -> Path | None:
    """``parent/stem-n`` with the last n that is taken; None where none is."""
    n = 1
    while (parent / f"{stem}-{n}").exists():
        n += 1
    return parent / f"{stem}-{n - 1}" if n > 1 else None


def exists_error(path: Path) -> RunExistsError:
    """The error for an output folder that is taken."""
    return RunExistsError(f"{path} exists already and is left as it is; name another folder with --output.")


def to_toml(config: Mapping[str, Any]) -> str:
    """TOML text of a mapping of plain values, lists of tables and tables. None values are left out.

    Strings, numbers and flat lists are written as JSON writes them, which TOML reads the same.
    """
    lines: list[str] = []
    tables: list[str] = []
    for key, value in config.items():
        if value is None:
            continue
        if isinstance(value, Mapping):
            tables += ["", f"[{key}]", *_pairs(value)]
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            for row in value:
                tables += ["", f"[[{key}]]", *_pairs(row)]
        else:
            lines.append(f"{key} = {_quoted(value)}")
    return "\n".join([*lines, *tables]) + "\n"


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [
        f"{_quoted(key) if not key.isidentifier() else key} = {_quoted(value)}"
        for key, value in table.items()
        if value is not None
    ]


def _quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
