"""Files of fixed-size records, appended to by one process at a time and read by any number.

A record is a key of 32 bytes, a checksum of key and row, and the row. A record that was cut short by a crash, or that
was damaged later, fails its checksum and counts as absent; nothing else has to be kept in step with anything.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

KEY_BYTES = 32
# Rows start on a cache line.
_ALIGNMENT = 64
Records = NDArray[np.void]
"""A structured array of the type that :func:`record_type` gives."""


def record_type(row_bytes: int) -> "np.dtype[np.void]":
    """How a record lies in a file.

    Args:
        row_bytes: Bytes of one row.
    """
    names = ["key", "checksum", "row"]
    formats = [f"({KEY_BYTES},)u1", "<u4", f"({row_bytes},)u1"]
    size = _ALIGNMENT + -(-row_bytes // _ALIGNMENT) * _ALIGNMENT
    return np.dtype({"names": names, "formats": formats, "offsets": [0, KEY_BYTES, _ALIGNMENT], "itemsize": size})


def checksum(key: bytes, row: bytes | memoryview, *, salt: int) -> int:
    """CRC-32 of a record; the salt keeps records of one store from passing for another's."""
    return crc32(row, crc32(key, salt))


def map_records(path: Path, row_bytes: int) -> Records:
    """The whole records of a file, mapped into memory read-only; none where the file is missing."""
    kind, count = record_type(row_bytes), record_count(path, row_bytes)
    if not count:
        return np.empty(0, dtype=kind)
    return np.memmap(path, dtype=kind, mode="r", shape=(count,)).view(np.ndarray)


def record_count(path: Path, row_bytes: int) -> int:
    """Whole records in a file; 0 where it is missing."""
    try:
        return path.stat().st_size // record_type(row_bytes).itemsize
    except FileNotFoundError:
        return 0


def make_records(keys: Sequence[bytes], rows: NDArray[np.uint8], *, salt: int) -> Records:
    """Records in memory, ready to be written.

    Args:
        keys: One of 32 bytes a row.
        rows: uint8 ``(N, row_bytes)``.
        salt: As for :func:`checksum`.
    """
    records = np.zeros(len(keys), dtype=record_type(rows.shape[1]))
    records["key"] = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), KEY_BYTES)
    records["checksum"] = [checksum(key, row.data, salt=salt) for key, row in zip(keys, rows, strict=True)]
    records["row"] = rows
    return records


class SegmentWriter:
    """Appends records to the first file of a folder that no other process is appending to.

    Args:
        folder: Made where it is missing.
        row_bytes: Bytes of one row.

    Raises:
        OSError: No file can be opened.
    """

    def __init__(self, folder: Path, row_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._record_bytes = record_type(row_bytes).itemsize
        self.path, self.number, self._file = _open_free(folder)
        # What a killed process left half-written is cut off, so that the next record starts where one should.
        whole = os.fstat(self._file).st_size // self._record_bytes * self._record_bytes
        os.ftruncate(self._file, whole)

    def append(self, records: Records) -> None:
        """Write records at the end of the file.

        Raises:
            OSError: They cannot be written; the file ends as it did before.
        """
        content = records.view(np.uint8).reshape(-1).data
        start = os.fstat(self._file).st_size
        try:
            while content:
                content = content[os.write(self._file, content) :]
        except OSError:
            os.ftruncate(self._file, start)
            raise

    def close(self) -> None:
        """Let another process append."""
        # Not synced to the disk: rows that a power failure takes fail their checksums, and can be computed again.
        os.close(self._file)


def _open_free(folder: Path) -> tuple[Path, int, int]:
    locks = fcntl is not None
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
    number = 0
    while True:
        path = folder / f"rows-{number}.bin"
        try:
            # Where files cannot be locked, every writer makes a file of its own.
            descriptor = os.open(path, flags if locks else flags | os.O_EXCL, 0o666)
        except FileExistsError:
            number += 1
            continue
        if not locks:
            return path, number, descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return path, number, descriptor
        except BlockingIOError:
            number += 1
        except OSError:
            locks = False
        os.close(descriptor)
