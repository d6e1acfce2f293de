"""What the cache remembers about each of its files, so that a file is hashed once and not at every use.

A file whose size, times and inode are those that were recorded counts as the file that was hashed. Whoever changes it
and then restores all of these is not noticed, and neither is a disk that returns other bytes than it was given;
anything else (written to, replaced, copied from another machine) is hashed again. Removing the records, which are
the ``.json`` files beside the weights, has every file fetched or read again.
"""

import time
from contextlib import suppress
from pathlib import Path

import msgspec

from zoo.errors import StorageError
from zoo.files import write_atomically
from zoo.progress import Progress
from zoo.safetensors_check import sha256_of

# File systems keep times in ticks of up to 10 ms, so a file this young could change once more within its tick.
_TICK_NS = 20_000_000


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """What changes when a file does, short of its content.

    Attributes:
        size_bytes: Its size.
        mtime_ns: When its content changed.
        ctime_ns: When anything about it changed, which no program can set; on Windows when it was made.
        inode: Its number in the file system.
    """

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What the cache remembers about a file, in a small JSON file beside it.

    Attributes:
        url: Where it was published; empty for a copy of a local file.
        sha256: Of the published or local file.
        size_bytes: Of the published or local file.
        stored_sha256: Of the safetensors file in the cache.
        stored_size_bytes: Of the safetensors file in the cache.
        finite: Whether all of its values were found to be finite.
        stamp: Of the file in the cache when it was last hashed; None when it was too young to tell.
    """

    url: str
    sha256: str
    size_bytes: int
    stored_sha256: str
    stored_size_bytes: int
    finite: bool = False
    stamp: Stamp | None = None


def stamp_of(path: Path) -> Stamp:
    """The stamp of a file as it is.

    Raises:
        OSError: There is no such file.
    """
    status = path.stat()
    return Stamp(
        size_bytes=status.st_size, mtime_ns=status.st_mtime_ns, ctime_ns=status.st_ctime_ns, inode=status.st_ino
    )


def settled(stamp: Stamp) -> Stamp | None:
    """A stamp that later changes cannot equal; None while the file is too young."""
    return stamp if time.time_ns() - stamp.mtime_ns > _TICK_NS else None


def record_path(stored: Path) -> Path:
    """Where the record of a file of the cache lies."""
    return stored.with_name(f"{stored.name}.json")


def intact(stored: Path, progress: Progress) -> Record | None:
    """The record of a file of the cache, if that is what was stored; else None, and a word where that is odd."""
    try:
        record = msgspec.json.decode(record_path(stored).read_bytes(), type=Record)
        stamp = stamp_of(stored)
    except (OSError, msgspec.DecodeError):
        return None
    if stamp == record.stamp:
        return record
    if stamp.size_bytes == record.stored_size_bytes and sha256_of(stored) == record.stored_sha256:
        record = msgspec.structs.replace(record, stamp=settled(stamp))
        with suppress(StorageError):  # a cache that is only read is hashed at every use
            write_record(stored, record)
        return record
    progress.warn(f"{stored} is not what was stored there; it will be replaced.")
    return None


def write_record(stored: Path, record: Record) -> None:
    """Write a record beside its file.

    Raises:
        StorageError: It cannot be written.
    """
    write_atomically(record_path(stored), msgspec.json.format(msgspec.json.encode(record)))


def new_record(stored: Path, *, url: str, sha256: str, size_bytes: int, stored_sha256: str, finite: bool) -> Record:
    """Write the record of a file that was just stored.

    Raises:
        StorageError: It cannot be written.
    """
    stamp = stamp_of(stored)
    record = Record(
        url=url,
        sha256=sha256,
        size_bytes=size_bytes,
        stored_sha256=stored_sha256,
        stored_size_bytes=stamp.size_bytes,
        finite=finite,
        stamp=settled(stamp),
    )
    write_record(stored, record)
    return record
