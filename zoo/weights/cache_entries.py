"""Files of weights that enter zoo's cache: local ones at their first use, published ones when they arrive.

A local file is hashed and copied under its hash; a note under its path keeps its size and times. Later uses compare
those and map the copy. The user's own file is never mapped: one that is overwritten in place would change a live model.
"""

import hashlib
from pathlib import Path

import msgspec
from torch import Tensor

from zoo.artifact import is_artifact
from zoo.errors import ArtifactError, StorageError
from zoo.files import cache_folder, write_atomically
from zoo.progress import Progress, Silent
from zoo.state_files import (
    StateFile,
    all_finite,
    is_allowed_pickle,
    map_safetensors,
    read_state_file,
    without_prefixes,
    write_safetensors,
)
from zoo.weights.cache_records import Record, Stamp, intact, new_record, settled, stamp_of


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A local file as it was when it was hashed."""

    path: str
    stamp: Stamp
    sha256: str


def keep(stored: Path, content: StateFile, *, url: str, size_bytes: int) -> Record:
    """Write tensors into the cache, with their record.

    Args:
        stored: Where to.
        content: What a published or local file holds.
        url: Where it was published; empty for a local file.
        size_bytes: Of that file.

    Raises:
        ArtifactError: A tensor cannot be stored.
        StorageError: The cache cannot be written.
    """
    state = plain_state(content)
    stored_sha256 = write_safetensors(stored, state, content.metadata)
    return new_record(
        stored,
        url=url,
        sha256=content.sha256,
        size_bytes=size_bytes,
        stored_sha256=stored_sha256,
        finite=all_finite(state),
    )


def plain_state(content: StateFile) -> dict[str, Tensor]:
    """The tensors of a file under their plain names; an artifact's names are its plugin's and stay."""
    return content.state if is_artifact(content.metadata) else without_prefixes(content.state)


def open_local(path: Path, *, allow_pth: bool = False, progress: Progress = Silent()) -> StateFile:
    """The tensors of a local file under their plain names, from zoo's copy of it.

    Where the copy cannot be written, for want of room or of permission, the file is read into memory instead.

    Args:
        path: A ``.safetensors`` file, or a pickled one where that is allowed.
        allow_pth: Read pickled files too, with torch's restricted reader.
        progress: Told when there can be no copy.

    Raises:
        WeightsError: The file is missing, damaged, or pickled and not allowed.
    """
    is_allowed_pickle(path, allow_pth=allow_pth)
    try:
        return _from_copy(path, allow_pth, progress)
    except StorageError as error:
        progress.note(f"{path} is read without a copy in zoo's cache: {error}")
    content = read_state_file(path, allow_pth=allow_pth)
    return StateFile(plain_state(content), content.metadata, content.sha256)


def _from_copy(path: Path, allow_pth: bool, progress: Progress) -> StateFile:
    stamp = _stamp(path)
    note = _note_path(path)
    seen = _read_note(note)
    content = None
    if seen is not None and seen.stamp == stamp:
        digest = seen.sha256
    else:
        content = read_state_file(path, allow_pth=allow_pth)
        digest = content.sha256
    stored = _folder() / f"{digest}.safetensors"
    record = intact(stored, progress)
    if record is None:
        content = content or read_state_file(path, allow_pth=allow_pth)
        stored = _folder() / f"{content.sha256}.safetensors"
        record = keep(stored, content, url="", size_bytes=stamp.size_bytes)
    if (seen is None or seen.stamp != stamp) and settled(stamp) and _stamp(path) == stamp:
        seen = _Seen(path=str(path.resolve()), stamp=stamp, sha256=record.sha256)
        write_atomically(note, msgspec.json.format(msgspec.json.encode(seen)))
    return map_safetensors(stored, sha256=record.sha256, finite=record.finite)


def _stamp(path: Path) -> Stamp:
    try:
        return stamp_of(path)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}.") from error


def _folder() -> Path:
    return cache_folder() / "weights" / "local"


def _note_path(path: Path) -> Path:
    return (
        _folder()
        / f"path-{hashlib.sha256(str(path.resolve()).encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"
    )


def _read_note(path: Path) -> _Seen | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Seen)
    except (OSError, msgspec.DecodeError):
        return None
