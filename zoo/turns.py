"""One process at a time, where the platform can.

Nothing may depend on it: on some network file systems locks do nothing, and a process that hangs is not waited for.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zoo.files import storage_error

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_POLL_S = 0.05


@contextmanager
def turn(
    path: Path, *, patience_s: float, sign_of_life: Callable[[], object], waiting: Callable[[], None]
) -> Iterator[bool]:
    """Wait until no other process is in a block of this path.

    Args:
        path: A file to lock, made and removed again.
        patience_s: How long to wait for a process that gives no sign of life.
        sign_of_life: A value that changes as long as the other process works.
        waiting: Called once when there is something to wait for.

    Yields:
        Whether this process is alone in the block. False where locks do nothing, or when patience ended.

    Raises:
        StorageError: The lock's file cannot be written.
    """
    descriptor = _acquired(path, patience_s, sign_of_life, waiting)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            with suppress(OSError):
                path.unlink()  # while it is locked, so that nobody else holds this very file
            os.close(descriptor)


def _acquired(
    path: Path, patience_s: float, sign_of_life: Callable[[], object], waiting: Callable[[], None]
) -> int | None:
    """The locked file's descriptor, or None where there is no locking or no end to the waiting."""
    if fcntl is None:
        return None
    seen: object = None
    deadline = 0.0
    while True:
        descriptor = _opened(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        except OSError:  # no locks on this file system
            os.close(descriptor)
            return None
        else:
            if _is_still(descriptor, path):
                if _excludes(path):
                    return descriptor
                with suppress(OSError):
                    path.unlink()
                os.close(descriptor)
                return None
            os.close(descriptor)
            continue
        if deadline == 0.0:
            waiting()
        if (now := sign_of_life()) != seen or deadline == 0.0:
            seen, deadline = now, time.monotonic() + patience_s
        elif time.monotonic() > deadline:
            return None
        time.sleep(_POLL_S)


def _opened(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise storage_error(path, error) from error


def _excludes(path: Path) -> bool:
    """Whether a lock that is held keeps a second one out: on some network file systems it does not."""
    assert fcntl is not None
    second = _opened(path)
    try:
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(second)


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether the locked file is the one that others will find: the process before may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
