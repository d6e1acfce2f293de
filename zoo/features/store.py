"""Features on disk: rows that were computed once, found by what they were computed from."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.chain import Features
from zoo.errors import StorageError
from zoo.features.layout import Layout
from zoo.features.segments import KEY_BYTES, Records, SegmentWriter, checksum, make_records, map_records, record_count
from zoo.files import cache_folder, write_atomically

_DESCRIPTION = "store.json"
_ROW_BITS = 40
_MISSING = -1


def features_folder() -> Path:
    """Where all stores are."""
    return cache_folder() / "features"


def row_key(digest: str, view: str = "") -> bytes:
    """The key of an image's row.

    Args:
        digest: SHA-256 of the image file's content.
        view: What was done to the image before the frozen part; empty for nothing.
    """
    return hashlib.sha256(f"{digest}\0{view}".encode()).digest()


class FeatureStore:
    """The rows that one frozen part gives under one set of numerics.

    A store is a folder with a description and files of records (:mod:`zoo.features.segments`). Several processes may
    read and add rows at once. Rows that fail their checksum are absent; a description that cannot be read, or that
    describes another layout, takes the store with it, and it is filled again.

    Args:
        facts: Everything that the rows depend on but the image and its view; plain values.
        folder: Where the stores are; None takes the user's cache.
    """

    def __init__(self, facts: Mapping[str, object], *, folder: Path | None = None) -> None:
        self.facts = dict(facts)
        canonical = json.dumps(self.facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        self.key = hashlib.sha256(canonical.encode()).hexdigest()
        self.folder = (folder or features_folder()) / self.key[:32]
        self.damaged = 0
        self._salt = int(self.key[:8], 16)
        self.layout: Layout | None
        self.notes: dict[str, object]
        self._forget()
        self._read_description()
        self.refresh()

    @property
    def row_bytes(self) -> int:
        """Bytes of one row; 0 before the first is known."""
        return self.layout.row_bytes if self.layout is not None else 0

    def __len__(self) -> int:
        """Rows that are there, damaged ones included."""
        return len(self._places)

    def __contains__(self, key: bytes) -> bool:
        """Whether a sound row of that key is there."""
        return bool(self._sound(key) != _MISSING)

    def refresh(self) -> None:
        """See the rows that were added since, by whatever process."""
        if self.layout is None:
            return
        for path in self.folder.glob("rows-*.bin"):
            try:
                file = (path.name, path.stat().st_ino)
            except FileNotFoundError:  # the size limit took it
                continue
            number = self._numbers.setdefault(file, len(self._numbers))
            if number == len(self._segments):
                self._segments.append(map_records(path, self.layout.row_bytes))
                self._checked.append(np.zeros(0, dtype=np.bool_))
            elif record_count(path, self.layout.row_bytes) > len(self._segments[number]):
                self._segments[number] = map_records(path, self.layout.row_bytes)
            self._index(number)

    def find(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """Where rows are, for :meth:`take`; -1 where there is none or it is damaged.

        Each row's checksum is compared when it is first found.
        """
        places = np.fromiter((self._sound(key) for key in keys), dtype=np.int64, count=len(keys))
        self.damaged += sum(keys[i] in self._places for i in np.flatnonzero(places == _MISSING).tolist())
        return places

    def take(self, places: NDArray[np.int64]) -> Features:
        """The features of some rows, copied.

        Args:
            places: From :meth:`find`, none of them -1.
        """
        assert self.layout is not None
        rows = np.empty((len(places), self.layout.row_bytes), dtype=np.uint8)
        segments = places >> _ROW_BITS
        for number in np.unique(segments).tolist():
            chosen = segments == number
            rows[chosen] = self._segments[number]["row"][places[chosen] & ((1 << _ROW_BITS) - 1)]
        return self.layout.unpack(rows)

    def describe(self, layout: Layout, notes: Mapping[str, object]) -> None:
        """Say what the rows look like, before the first is added.

        Args:
            layout: Of every row. Rows of another layout that are there are removed.
            notes: Plain values about how the rows are computed, for later readers.
        """
        if self.layout is not None and self.layout != layout:
            self._discard()
        self.layout = layout
        self.notes = dict(notes)
        description = {"facts": self.facts, "layout": layout.as_data(), "notes": self.notes}
        with suppress(OSError, StorageError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / _DESCRIPTION, json.dumps(description, indent=1, ensure_ascii=False))
        self.refresh()

    def mark_used(self) -> None:
        """Move the store to the end of the queue for removal."""
        with suppress(OSError):
            os.utime(self.folder / _DESCRIPTION)

    def writer(self) -> "RowWriter":
        """Begin to add rows.

        Raises:
            OSError: The store cannot be written.
        """
        assert self.layout is not None
        return RowWriter(self, SegmentWriter(self.folder, self.layout.row_bytes))

    def keep_in_memory(self, keys: Sequence[bytes], features: Features) -> None:
        """Add rows for this process alone, where the disk does not take them."""
        assert self.layout is not None
        records = self._records(keys, features)
        number = self._numbers.setdefault(("", len(self._numbers)), len(self._numbers))
        self._segments.append(records)
        self._checked.append(np.zeros(0, dtype=np.bool_))
        self._index(number)

    def _records(self, keys: Sequence[bytes], features: Features) -> Records:
        assert self.layout is not None
        return make_records(keys, self.layout.pack(features), salt=self._salt)

    def _index(self, number: int) -> None:
        """Note where the new rows of a segment are."""
        records, start = self._segments[number], len(self._checked[number])
        count = len(records) - start
        if not count:
            return
        self._checked[number] = np.concatenate((self._checked[number], np.zeros(count, dtype=np.bool_)))
        keys = np.ascontiguousarray(records["key"][start:]).tobytes()
        for row in range(count):
            key = keys[row * KEY_BYTES : (row + 1) * KEY_BYTES]
            place = number << _ROW_BITS | start + row
            if self._places.setdefault(key, place) != place:
                self._twins.setdefault(key, []).append(place)

    def _sound(self, key: bytes) -> int:
        """The place of a row that passes its checksum."""
        place = self._places.get(key, _MISSING)
        if place == _MISSING or self._passes(key, place):
            return place
        for twin in self._twins.get(key, ()):
            if self._passes(key, twin):
                self._places[key] = twin
                return twin
        return _MISSING

    def _passes(self, key: bytes, place: int) -> bool:
        number, row = place >> _ROW_BITS, place & ((1 << _ROW_BITS) - 1)
        if not self._checked[number][row]:
            record = self._segments[number][row]
            if checksum(key, record["row"].data, salt=self._salt) != int(record["checksum"]):
                return False
            self._checked[number][row] = True
        return True

    def _read_description(self) -> None:
        path = self.folder / _DESCRIPTION
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
            if description["facts"] != json.loads(json.dumps(self.facts)):
                raise ValueError("another store's description")
            self.layout = Layout.from_data(description["layout"])
            self.notes = dict(description["notes"])
            self.mark_used()
        except FileNotFoundError:
            if any(self.folder.glob("rows-*.bin")):
                self._discard()
        except OSError:
            pass
        except (ValueError, KeyError, TypeError):
            self._discard()

    def _discard(self) -> None:
        # Processes that have the files mapped keep what they see.
        self.damaged += len(list(self.folder.glob("rows-*.bin")))
        shutil.rmtree(self.folder, ignore_errors=True)
        self._forget()

    def _forget(self) -> None:
        self.layout = None
        self.notes = {}
        self._numbers: dict[tuple[str, int], int] = {}
        self._segments: list[Records] = []
        self._checked: list[NDArray[np.bool_]] = []
        self._places: dict[bytes, int] = {}
        self._twins: dict[bytes, list[int]] = {}


class RowWriter:
    """Adds rows to a store; other processes see them as they come.

    Args:
        store: Where they go.
        segment: The file they are appended to.
    """

    def __init__(self, store: FeatureStore, segment: SegmentWriter) -> None:
        self._store = store
        self._segment = segment
        self.number = segment.number

    def close(self) -> None:
        """Let another process append to the file."""
        self._segment.close()

    def append(self, keys: Sequence[bytes], features: Features) -> None:
        """Add the rows of a batch.

        Raises:
            OSError: They cannot be written.
        """
        self._segment.append(self._store._records(keys, features))
        self._store.mark_used()
