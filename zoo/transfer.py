"""Fetching one URL over http or https, with patience and with suspicion."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import DownloadError
from zoo.files import storage_error
from zoo.progress import Progress
from zoo.safetensors_check import other_content

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Network:
    """How patient a download is.

    Attributes:
        timeout_s: For connecting, and for each wait for more bytes.
        waits_s: Pauses before each further try after a broken connection or a server's error.
    """

    timeout_s: float = 30.0
    waits_s: tuple[float, ...] = (0.5, 2.0)


class _Broken(Exception):  # noqa: N818  # never leaves this module
    """A try that failed in a way that another one may not."""


def download(url: str, target: Path, what: str, progress: Progress, network: Network) -> str:
    """Fetch a URL into a file, trying again where that may help.

    Args:
        url: With http or https.
        target: The file to write, over what is there. It may be left incomplete by a failure.
        what: Its name for the progress bar.
        progress: Where the download is shown.
        network: How patient to be.

    Returns:
        SHA-256 of what arrived, as 64 hex digits.

    Raises:
        DownloadError: Nothing whole arrived; the message names the URL and the reason.
        StorageError: The file cannot be written.
    """
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
    if not received:
        raise _Broken("the server sent nothing")
    if total is not None and received != total:
        raise _Broken(f"the connection ended after {received:,} of {total:,} bytes")
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
