"""Writing files so that they are whole or absent, and where zoo keeps its own."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from zoo.errors import StorageError


def cache_folder() -> Path:
    """Where downloads and computed features are kept: ``$ZOO_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("ZOO_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zoo"


@contextmanager
def atomic_writer(path: Path) -> Iterator[IO[bytes]]:
    """Open a private temporary file that becomes ``path`` when the block ends well.

    The content is flushed to the disk before the rename, and the folder after it, so a reader sees the old file or
    the whole new one. When the block raises, the temporary file is removed and ``path`` stays as it was.

    Args:
        path: The file to write; its folder is made where it is missing.

    Raises:
        StorageError: The file cannot be written: no space, no permission, a folder in its place.
    """
    import tempfile  # only here: it takes longer to import than a listing takes to print

    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a whole file at once, or leave what was there.

    Raises:
        StorageError: The file cannot be written.
    """
    with atomic_writer(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the platform can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def storage_error(path: Path, error: OSError) -> StorageError:
    """The error to raise for a file that could not be written."""
    advice = {
        errno.ENOSPC: "make room on that disk, or choose another folder",
        errno.EDQUOT: "your quota is used up: make room, or choose another folder",
        errno.EACCES: "choose a folder that you may write to",
        errno.EROFS: "that disk is read-only: choose another folder",
    }.get(error.errno or 0, "choose another folder")
    return StorageError(f"cannot write {path}: {error.strerror or error}; {advice}.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
