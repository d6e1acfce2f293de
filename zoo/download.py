"""Published weights: fetched once, checked, and kept in zoo's cache as safetensors.

The cache needs no locks: every file is written under a private name and renamed, and equal content gives equal files,
so of two processes the last one wins and nothing is lost.
"""

import hashlib
import http.client
import os
import re
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from zoo.architecture import Architecture, Weights
from zoo.errors import DownloadError, WeightsError
from zoo.files import atomic_writer, cache_folder, storage_error, write_atomically
from zoo.progress import Progress, Silent
from zoo.safetensors_check import check_safetensors, open_regular, other_content, sha256_of

_CHUNK_BYTES = 1 << 20
_PREFIX = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class Network:
    """How patient a download is.

    Attributes:
        timeout_s: For connecting, and for each wait for more bytes.
        waits_s: Pauses before each further try after a broken connection or a server's error.
    """

    timeout_s: float = 30.0
    waits_s: tuple[float, ...] = (0.5, 2.0)


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


class _Broken(Exception):  # noqa: N818  # never leaves this module
    """A try that failed in a way that another one may not."""


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
            return _store(by_hand, digest, stored, weights, private=False)
        progress.warn(f"{by_hand} has SHA-256 {digest[:16]}… where {prefix}… is published; it is left out.")
    advice = f"With the file of {url} put at {by_hand}, no network is needed."
    if offline:
        raise DownloadError(f"{what} is not in the cache, and zoo is offline. {advice}")
    with _temporary(stored.parent) as temporary:
        try:
            digest = _download(url, temporary, what, progress, network)
        except DownloadError as error:
            raise DownloadError(f"{error} {advice}") from error
        if not digest.startswith(prefix):
            raise DownloadError(
                f"{url} gave a file with SHA-256 {digest[:16]}… where {prefix}… is published. It was not kept: it was "
                f"changed where it lies or on its way. {advice}"
            )
        return _store(temporary, digest, stored, weights, private=True)


def stored_path(architecture: Architecture, weights: Weights) -> Path:
    """Where the cache keeps published weights."""
    return cache_folder() / "weights" / f"{_stem(architecture, weights)}.safetensors"


def incoming_path(architecture: Architecture, weights: Weights) -> Path:
    """Where a user can put a published file by hand.

    It has the published name where that name holds the hash, as torchvision's do. Others, such as
    ``model.safetensors``, are published for many models, so theirs starts with the architecture and the tag.
    """
    published = _safe(unquote(urlsplit(weights.url or "").path).rpartition("/")[2])
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


def _store(source: Path, digest: str, stored: Path, weights: Weights, *, private: bool) -> Fetched:
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
            stored_digest = write_safetensors(stored, read_pickled(source, mapped=private))
        else:
            check_safetensors(source)
            stored_digest = _copy(source, stored)
    except WeightsError as error:
        raise DownloadError(f"{weights.url} is not usable as weights: {error}") from error
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


def _download(url: str, target: Path, what: str, progress: Progress, network: Network) -> str:
    """Fetch a URL into a file, trying again where that may help; its SHA-256."""
    for wait_s in network.waits_s:
        try:
            return _try(url, target, what, progress, network.timeout_s)
        except _Broken as error:
            progress.note(f"{url}: {error}; trying again.")
            time.sleep(wait_s)
    try:
        return _try(url, target, what, progress, network.timeout_s)
    except _Broken as error:
        raise DownloadError(f"{url} cannot be fetched: {error}, {len(network.waits_s) + 1} times.") from error


def _try(url: str, target: Path, what: str, progress: Progress, timeout_s: float) -> str:
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "torch-zoo", "Accept-Encoding": "identity"})
        with _opener().open(request, timeout=timeout_s) as response:
            if "text/html" in response.headers.get("Content-Type", "").lower():
                raise DownloadError(f"{url} gave a web page, for example a login or error page, not the file.")
            return _receive(response, target, what, progress)
    except urllib.error.HTTPError as error:
        with error:
            reason = f"the server answered {error.code} {' '.join(str(error.reason).split())[:200]}"
        if error.code >= 500 or error.code in (408, 429):
            raise _Broken(reason) from error
        raise DownloadError(f"{url} cannot be fetched: {reason}.") from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: not a URL
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        if isinstance(cause, TimeoutError | ConnectionResetError | ConnectionAbortedError | http.client.HTTPException):
            raise _Broken(f"the connection broke ({reason})") from error
        raise DownloadError(f"{url} cannot be fetched: {reason}.") from error


def _receive(response: Any, target: Path, what: str, progress: Progress) -> str:
    """Write the body of a response to a file; its SHA-256."""
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    digest = hashlib.sha256()
    received = 0
    with _writer(target) as write, progress.task(f"downloading {what}", total, unit="B") as advance:
        while chunk := response.read1(_CHUNK_BYTES):
            if not received and (other := other_content(chunk[:512])):
                raise DownloadError(f"{response.url} gave no weights: it {other}.")
            write(chunk)
            digest.update(chunk)
            received += len(chunk)
            advance(len(chunk))
    if not received or (total is not None and received != total):
        raise _Broken(f"the connection ended after {received:,} of {total or 'some':,} bytes")
    return digest.hexdigest()


@contextmanager
def _writer(target: Path) -> Iterator[Callable[[bytes], None]]:
    """Open a file for writing such that a full disk is not taken for a broken connection."""

    def write(chunk: bytes) -> None:
        try:
            file.write(chunk)
        except OSError as error:
            raise storage_error(target, error) from error

    try:
        file = target.open("wb", buffering=0)
    except OSError as error:
        raise storage_error(target, error) from error
    with file:
        yield write


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


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, never from https to anything else."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.type == "https" and not newurl.lower().startswith("https:"):
            raise urllib.error.URLError(f"it leads from https to {newurl[:200]}, which is not protected")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """An opener for http and https, through the environment's proxies; urllib's own opens files and ftp too."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener
