"""Published weights: fetched once, checked, and kept in zoo's cache as safetensors.

The cache needs no locks: every file is written under a private name and renamed, and equal content gives equal files,
so of two processes the last one wins and nothing is lost.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from zoo.architecture import Architecture, Weights
from zoo.errors import DownloadError, WeightsError
from zoo.files import atomic_writer, cache_folder, storage_error, write_atomically
from zoo.progress import Progress, Silent
from zoo.safetensors_check import check_safetensors, open_regular, sha256_of
from zoo.transfer import Network, download

_CHUNK_BYTES = 1 << 20
_PREFIX = re.compile(r"[0-9a-f]{8,64}")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What the cache remembers about a file, in a small JSON file beside it.

    Attributes:
        url: Where it was published.
        sha256: Of the published file.
        size_bytes: Of the published file.
        stored_sha256: Of the safetensors file in the cache.
        stored_size_bytes: Of the safetensors file in the cache.
    """

    url: str
    sha256: str
    size_bytes: int
    stored_sha256: str
    stored_size_bytes: int


@dataclass(frozen=True)
class Fetched:
    """A published file in the cache, just verified.

    Attributes:
        path: The safetensors file.
        sha256: Of the file as it was published, 64 hex digits.
    """

    path: Path
    sha256: str


def fetch(
    architecture: Architecture,
    weights: Weights,
    *,
    offline: bool = False,
    progress: Progress = Silent(),
    network: Network = Network(),
) -> Fetched:
    """Get published weights: from the cache, from a file put there by hand, or from where they are published.

    Args:
        architecture: Whose weights they are.
        weights: Where they are published, and the leading digits of their hash.
        offline: Do not use the network.
        progress: Where the download is shown.
        network: How patient to be.

    Returns:
        A safetensors file in the cache whose content was verified against its record.

    Raises:
        DownloadError: They cannot be had, or what arrived is not what was published; the message names the URL and
            where to put the file by hand.
        WeightsError: The file has the right hash and cannot be used, or may not be used without a published hash.
        StorageError: The cache cannot be written.
    """
    what = f"{architecture.full_name} {weights.tag}"
    url = weights.url
    if url is None:
        raise DownloadError(f"{what} is not published for download; give a file: --weights FILE.")
    prefix = weights.sha256_prefix.lower()
    if prefix and not _PREFIX.fullmatch(prefix):
        raise DownloadError(f"the published hash of {what}, {weights.sha256_prefix!a}, is not 8 to 64 hex digits.")
    stored = stored_path(architecture, weights)
    if found := _cached(stored, prefix, progress):
        return found
    by_hand = incoming_path(architecture, weights)
    if by_hand.is_file():
        digest = sha256_of(by_hand)
        if digest.startswith(prefix):
            return _store(by_hand, digest, stored, weights)
        progress.warn(f"{by_hand} has SHA-256 {digest[:16]}… where {prefix}… is published; it is left out.")
    advice = f"With the file of {url} put at {by_hand}, no network is needed."
    if offline:
        raise DownloadError(f"{what} is not in the cache, and zoo is offline. {advice}")
    with _temporary(stored.parent) as temporary:
        try:
            digest = download(url, temporary, what, progress, network)
        except DownloadError as error:
            raise DownloadError(f"{error} {advice}") from error
        if not digest.startswith(prefix):
            raise DownloadError(
                f"{url} gave a file with SHA-256 {digest[:16]}… where {prefix}… is published. It was not kept: it was "
                f"changed where it lies or on its way. {advice}"
            )
        return _store(temporary, digest, stored, weights)


def stored_path(architecture: Architecture, weights: Weights) -> Path:
    """Where the cache keeps published weights."""
    return cache_folder() / "weights" / f"{_stem(architecture, weights)}.safetensors"


def incoming_path(architecture: Architecture, weights: Weights) -> Path:
    """Where a user can put a published file by hand.

    It has the published name where that name holds the hash, as torchvision's do. Others, such as
    ``model.safetensors``, are published for many models, so theirs starts with the architecture and the tag.
    """
    published = _safe((weights.url or "").partition("?")[0].rpartition("/")[2])
    if not weights.sha256_prefix or weights.sha256_prefix.lower() not in published.lower():
        published = f"{_stem(architecture, weights)}{Path(published).suffix}"
    return cache_folder() / "weights" / "incoming" / published


def _stem(architecture: Architecture, weights: Weights) -> str:
    identity = weights.sha256_prefix.lower()[:16] or hashlib.sha256((weights.url or "").encode()).hexdigest()[:8]
    return _safe(f"{architecture.full_name.replace('/', '-')}-{weights.tag}-{identity}")


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")[-150:] or "file"


def _cached(stored: Path, prefix: str, progress: Progress) -> Fetched | None:
    """The cached file, if it is whole. Its whole content is hashed at every use."""
    if not stored.is_file():
        return None
    try:
        record = msgspec.json.decode(_record_path(stored).read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None
    whole = (
        stored.stat().st_size == record.stored_size_bytes
        and record.sha256.startswith(prefix)
        and sha256_of(stored) == record.stored_sha256
    )
    if whole:
        return Fetched(stored, record.sha256)
    progress.warn(f"{stored} is not what was stored there; it will be replaced.")
    return None


def _store(source: Path, digest: str, stored: Path, weights: Weights) -> Fetched:
    """Turn a published file whose hash is known into the cache's safetensors file and its record."""
    # Imported here because it needs torch, which nobody should wait for before a download.
    from zoo.state_files import is_pickled, read_pickled, write_safetensors

    pickled = is_pickled(source)
    if pickled and not weights.sha256_prefix:
        raise WeightsError(
            f"{weights.url} is a pickled file and no hash is published for it; without one only safetensors files are "
            f"used. Convert it to safetensors and give that: --weights FILE."
        )
    try:
        if pickled:
            stored_digest = write_safetensors(stored, read_pickled(source))
        else:
            check_safetensors(source)
            stored_digest = _copy(source, stored)
    except WeightsError as error:
        reason = str(error).replace(str(source), "it")
        raise DownloadError(f"the file of {weights.url} is not usable as weights: {reason}") from error
    record = Record(
        url=weights.url or "",
        sha256=digest,
        size_bytes=source.stat().st_size,
        stored_sha256=stored_digest,
        stored_size_bytes=stored.stat().st_size,
    )
    write_atomically(_record_path(stored), msgspec.json.format(msgspec.json.encode(record)))
    return Fetched(stored, digest)


def _copy(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(source) as file, atomic_writer(target) as copy:
        while chunk := file.read(_CHUNK_BYTES):
            copy.write(chunk)
            digest.update(chunk)
    return digest.hexdigest()


def _record_path(stored: Path) -> Path:
    return stored.with_name(f"{stored.name}.json")


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A private file in a folder, removed in the end."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".download.", suffix=".tmp", dir=folder)
    except OSError as error:
        raise storage_error(folder, error) from error
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        with suppress(OSError):
            os.unlink(name)
