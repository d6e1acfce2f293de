"""Published weights: fetched once, checked, and kept in zoo's cache as safetensors.

The cache needs no locks: every file is written under a private name and renamed, and equal content gives equal files,
so of two processes the last one wins and nothing is lost. Where locks work, they save bandwidth: processes that want
one file fetch it once, and what a broken download left is taken up by the next, as far as a published hash proves it.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from zoo.architecture import Architecture, Weights
from zoo.errors import DownloadError, WeightsError
from zoo.files import cache_folder, storage_error
from zoo.progress import Progress, Silent
from zoo.safetensors_check import sha256_of
from zoo.turns import turn
from zoo.weights.cache_records import Record, intact
from zoo.weights.hub import found_elsewhere
from zoo.weights.transfer import Network, download

_PREFIX = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class Fetched:
    """A published file in the cache.

    Attributes:
        path: The safetensors file.
        sha256: Of the file as it was published, 64 hex digits.
        size_bytes: Of the file as it was published.
        finite: Whether all of its values were found to be finite.
    """

    path: Path
    sha256: str
    size_bytes: int
    finite: bool


def fetch(
    architecture: Architecture,
    weights: Weights,
    *,
    sha256: str = "",
    offline: bool = False,
    progress: Progress = Silent(),
    network: Network = Network(),
) -> Fetched:
    """Get published weights: from the cache, from a file that is here already, or from where they are published.

    Files that are here already are one put there by hand, and those of Hugging Face's and torch's own caches.

    Args:
        architecture: Whose weights they are.
        weights: Where they are published, and the leading digits of their hash.
        sha256: Their whole hash, where a lock states it.
        offline: Do not use the network.
        progress: Where the download is shown.
        network: How patient to be.

    Returns:
        A safetensors file in the cache that is what was stored there, see :mod:`zoo.weights.cache_records`.

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
    if sha256:
        weights, prefix = replace(weights, sha256_prefix=sha256), sha256
    if found := _cached(stored, prefix, progress):
        return found
    by_hand = incoming_path(architecture, weights)
    if by_hand.is_file():
        digest = sha256_of(by_hand)
        if digest.startswith(prefix):
            return _store(by_hand, digest, stored, weights)
        progress.warn(f"{by_hand} has SHA-256 {digest[:16]}… where {prefix[:16]}… is published; it is left out.")
    if found := _from_elsewhere(weights, prefix, stored, progress):
        return found
    advice = f"With the file of {url} put at {by_hand}, no network is needed."
    if offline:
        raise DownloadError(f"{what} is not in the cache, and zoo is offline. {advice}")
    parts = _Parts(stored)
    with turn(
        parts.lock,
        patience_s=2 * network.timeout_s,
        sign_of_life=parts.sizes,
        waiting=lambda: progress.note(f"{what}: another process is fetching it; waiting for that."),
    ) as alone:
        if found := _cached(stored, prefix, progress):
            return found
        with parts.new(continued=alone and bool(prefix)) as part:
            try:
                digest = download(url, part, what, progress, network, sha256=prefix)
            except DownloadError as error:
                raise DownloadError(f"{error} {advice}") from error
            try:
                return _store(part, digest, stored, weights)
            except WeightsError:
                part.unlink()  # it is whole, and no use
                raise


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
    """The cached file, if it is what was stored there and what is published."""
    record = intact(stored, progress)
    if record is None:
        return None
    if not record.sha256.startswith(prefix):
        progress.warn(f"{stored} was made from a file with SHA-256 {record.sha256[:16]}…, not {prefix[:16]}….")
        return None
    return _fetched(stored, record)


def _from_elsewhere(weights: Weights, prefix: str, stored: Path, progress: Progress) -> Fetched | None:
    """The file from another tool's cache, where it has it whole."""
    for found in found_elsewhere(weights.url or "", is_hashed=bool(prefix)):
        digest = sha256_of(found.path)
        if digest.startswith(prefix or found.sha256):
            progress.note(f"{weights.tag}: from {found.path}")
            return _store(found.path, digest, stored, weights)
        progress.warn(f"{found.path} has SHA-256 {digest[:16]}…, not {(prefix or found.sha256)[:16]}…; it is left out.")
    return None


def _store(source: Path, digest: str, stored: Path, weights: Weights) -> Fetched:
    """Turn a published file whose hash is known into the cache's safetensors file and its record."""
    # Imported here because they need torch, which nobody should wait for before a download.
    from zoo.state_files import StateFile, is_pickled, read_pickled, read_safetensors
    from zoo.weights.cache_entries import keep

    pickled = is_pickled(source)
    if pickled and not weights.sha256_prefix:
        raise WeightsError(
            f"{weights.url} is a pickled file and no hash is published for it; without one only safetensors files are "
            f"used. Convert it to safetensors and give that: --weights FILE."
        )
    try:
        content = StateFile(read_pickled(source), {}, digest) if pickled else read_safetensors(source)
        if content.sha256 != digest:
            raise WeightsError("it changed while it was read")
        record = keep(stored, content, url=weights.url or "", size_bytes=source.stat().st_size)
    except WeightsError as error:
        reason = str(error).replace(str(source), "it")
        raise DownloadError(f"the file of {weights.url} is not usable as weights: {reason}") from error
    return _fetched(stored, record)


def _fetched(stored: Path, record: Record) -> Fetched:
    return Fetched(stored, record.sha256, record.size_bytes, record.finite)


class _Parts:
    """Downloads under way, and what broken ones left: files that only the process that made them writes to."""

    def __init__(self, stored: Path) -> None:
        self._folder = stored.parent / "partial"
        self._stem = stored.name.removesuffix(".safetensors")
        self.lock = self._folder / f"{self._stem}.lock"

    def sizes(self) -> int:
        """Bytes of all parts together, which grow while any process fetches the file."""
        total = 0
        for part in self._left():
            with suppress(OSError):
                total += part.stat().st_size
        return total

    @contextmanager
    def new(self, *, continued: bool) -> Iterator[Path]:
        """A file to download to, removed in the end, or kept for the next process if the block raises.

        Args:
            continued: Begin with what broken downloads left, and leave what this one has if it breaks too. Only for a
                process that is alone, and where a hash proves that the parts belong together.
        """
        part: Path | None = None
        keep = False
        try:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                descriptor, name = tempfile.mkstemp(prefix=f"{self._stem}.", suffix=".part", dir=self._folder)
                part = Path(name)
                with os.fdopen(descriptor, "wb") as file:
                    if continued:
                        self._take_over(part, file)
            except OSError as error:
                raise storage_error(self._folder, error) from error
            try:
                yield part
            except (DownloadError, KeyboardInterrupt, SystemExit):
                keep = continued and part.is_file() and part.stat().st_size > 0
                raise
        finally:
            if part is not None and not keep:
                with suppress(OSError):
                    part.unlink()

    def _take_over(self, part: Path, file: IO[bytes]) -> None:
        """Copy the longest part that was left, and remove all of them."""
        left = sorted((path for path in self._left() if path != part), key=lambda path: path.stat().st_size)
        if left:
            with left[-1].open("rb") as longest:
                shutil.copyfileobj(longest, file, 1 << 20)
        for path in left:
            path.unlink(missing_ok=True)

    def _left(self) -> list[Path]:
        return [path for path in self._folder.glob("*.part") if path.name.startswith(f"{self._stem}.")]
