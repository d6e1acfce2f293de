"""Fetching one URL over http or https, with patience and with suspicion.

A broken download is taken up where it ended, but only where the whole file's hash is known: then the hash, taken over
every byte at the end, proves that the parts belong together.
"""

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import DownloadError
from zoo.files import storage_error
from zoo.progress import Progress
from zoo.safetensors_check import other_content
from zoo.weights.mirrors import mirrored

_CHUNK_BYTES = 1 << 20
# Fewer bytes than this in one timeout count as a stall: a server that sends a byte now and then is no better.
_LEAST_BYTES = 1 << 10
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')


@dataclass(frozen=True)
class Network:
    """How patient a download is.

    Attributes:
        timeout_s: For connecting, and for each wait for more bytes.
        waits_s: Pauses before each further try after a broken connection or a server's error.
        limit_bytes: The largest file that is fetched.
    """

    timeout_s: float = 30.0
    waits_s: tuple[float, ...] = (0.5, 2.0)
    limit_bytes: int = 64 << 30


class _Broken(Exception):  # noqa: N818  # never leaves this module
    """A try that failed in a way that another one may not."""


class _Mixed(Exception):  # noqa: N818  # never leaves this module
    """Parts that do not belong together."""


def download(url: str, part: Path, what: str, progress: Progress, network: Network, *, sha256: str = "") -> str:
    """Fetch a URL into a file, trying again where that may help.

    Args:
        url: With http or https. A mirror may stand in for it.
        part: The file to write, with what an earlier try left in it. A failure leaves in it what could be a beginning.
        what: Its name for the progress bar.
        progress: Where the download is shown.
        network: How patient to be.
        sha256: Leading hex digits of its hash; empty when nobody published one.

    Returns:
        SHA-256 of what arrived, as 64 hex digits, which begins with ``sha256``.

    Raises:
        DownloadError: Nothing whole arrived, or another file; the message names the URL and the reason.
        StorageError: The file cannot be written.
    """
    source = mirrored(url)
    if source != url:
        progress.note(f"{url}: from the mirror {source}")
        if source.startswith("http://") and not (sha256 or url.startswith("http://")):
            raise DownloadError(f"{source} is not protected on its way, and no hash is published that would prove it.")
    with _Part(part) as file:
        transfer = _Transfer(source, file, what, progress, network, sha256)
        waits_s = list(network.waits_s)
        while True:
            try:
                return transfer.run()
            except _Mixed:
                progress.note(f"{source}: its parts do not belong together; once more from the start.")
                transfer.may_continue = False
            except _Broken as error:
                if not waits_s:
                    times = f", {transfer.tries} times" if transfer.tries > 1 else ""
                    raise DownloadError(f"{source} cannot be fetched: {error}{times}.") from error
                progress.note(f"{source}: {error}; trying again.")
                time.sleep(waits_s.pop(0))


class _Transfer:
    """The tries to fetch one URL."""

    def __init__(self, url: str, file: "_Part", what: str, progress: Progress, network: Network, sha256: str) -> None:
        self.tries = 0
        self.may_continue = True
        self._url = url
        self._file = file
        self._what = what
        self._progress = progress
        self._network = network
        self._sha256 = sha256
        self._validator = ""
        self._opener, self._redirects = _opener()

    def run(self) -> str:
        """One try; the hash of the whole file."""
        self.tries += 1
        if not (self._sha256 and self.may_continue):
            self._file.restart()
        # It is whole already when an earlier process ended between the last byte and the next step.
        if not (self._file.size and self._file.sha256.startswith(self._sha256)):
            self._request()
        digest = self._file.sha256
        if digest.startswith(self._sha256):
            return digest
        if self._file.was_continued:
            raise _Mixed
        self._file.restart()
        raise DownloadError(
            f"{self._url} gave a file with SHA-256 {digest[:16]}… where {self._sha256[:16]}… is published. It was not "
            f"kept: it was changed where it lies or on its way."
        )

    def _request(self) -> None:
        headers = {"User-Agent": "torch-zoo", "Accept-Encoding": "identity"}
        if self._file.size:
            headers["Range"] = f"bytes={self._file.size}-"
            if self._validator:
                headers["If-Range"] = self._validator
        try:
            request = urllib.request.Request(self._url, headers=headers)
            with self._opener.open(request, timeout=self._network.timeout_s) as response:
                self._receive(response)
        except urllib.error.HTTPError as error:
            with error:
                reason = f"the server answered {error.code} {' '.join(str(error.reason).split())[:200]}"
            if error.code == 416 and self._file.size:
                self._file.restart()
                raise _Broken(reason) from error
            if error.code >= 500 or error.code in (408, 429):
                raise _Broken(reason) from error
            raise DownloadError(f"{self._url} cannot be fetched: {reason}.") from error
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: not a URL
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
            if isinstance(
                cause, TimeoutError | ConnectionResetError | ConnectionAbortedError | http.client.HTTPException
            ):
                raise _Broken(f"the connection broke ({reason})") from error
            raise DownloadError(f"{self._url} cannot be fetched: {reason}.") from error

    def _receive(self, response: Any) -> None:
        """Write the body of a response to the file, behind what is there where it is the rest of that."""
        if "text/html" in response.headers.get("Content-Type", "").lower():
            raise DownloadError(f"{self._url} gave a web page, for example a login or error page, not the file.")
        # Hugging Face's hub states the hash of what it redirects to.
        self._sha256 = self._sha256 or self._redirects.stated_sha256
        length = response.headers.get("Content-Length", "")
        expected = int(length) if length.isdecimal() else None
        if response.status == 206 and not self._is_the_rest(response):
            self._file.restart()
            raise _Broken("the server sent another part than was asked for")
        if response.status == 206:
            self._file.was_continued = True
        else:
            self._file.restart()
        etag = response.headers.get("ETag", "")
        self._validator = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
        began_at = self._file.size
        total = None if expected is None else began_at + expected
        self._refuse_larger(total or 0)
        with self._progress.task(f"downloading {self._what}", total, unit="B") as advance:
            if began_at:
                advance(began_at)
            deadline, due = time.monotonic() + self._network.timeout_s, began_at + _LEAST_BYTES
            while chunk := response.read1(_CHUNK_BYTES):
                if not self._file.size and (other := other_content(chunk[:512])):
                    raise DownloadError(f"{response.url} gave no weights: it {other}.")
                self._file.write(chunk)
                advance(len(chunk))
                self._refuse_larger(self._file.size)
                if (now := time.monotonic()) > deadline:
                    if self._file.size < due:
                        raise _Broken("the connection stalled")
                    deadline, due = now + self._network.timeout_s, self._file.size + _LEAST_BYTES
        if not self._file.size:
            raise _Broken("the server sent nothing")
        if total is not None and self._file.size != total:
            raise _Broken(f"the connection ended after {self._file.size:,} of {total:,} bytes")

    def _is_the_rest(self, response: Any) -> bool:
        first = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        return first is not None and int(first[1]) == self._file.size > 0

    def _refuse_larger(self, size: int) -> None:
        if size > self._network.limit_bytes:
            self._file.restart()
            raise DownloadError(
                f"{self._url} gives more than {self._network.limit_bytes:,} bytes, which is no file of weights."
            )


class _Part:
    """The file that a download is written to, with the hash of what it holds.

    Its failures are told from those of the connection: a full disk does not get better by trying again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self.size = 0
        self.was_continued = False

    def __enter__(self) -> "_Part":
        try:
            self._file = self._path.open("r+b", buffering=0)
            while chunk := self._file.read(_CHUNK_BYTES):
                self._digest.update(chunk)
                self.size += len(chunk)
        except OSError as error:
            raise storage_error(self._path, error) from error
        self.was_continued = self.size > 0
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def sha256(self) -> str:
        """Of what the file holds, as 64 hex digits."""
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        try:
            rest = memoryview(chunk)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise storage_error(self._path, error) from error
        self._digest.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        """Forget what the file holds."""
        try:
            self._file.seek(0)
            self._file.truncate()
        except OSError as error:
            raise storage_error(self._path, error) from error
        self._digest = hashlib.sha256()
        self.size = 0
        self.was_continued = False


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, never from https to anything else."""

    stated_sha256 = ""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.type == "https" and not newurl.lower().startswith("https:"):
            fp.close()
            raise urllib.error.URLError(f"it leads from https to {newurl[:200]}, which is not protected")
        if stated := _SHA256.fullmatch(headers.get("X-Linked-Etag", "")):
            self.stated_sha256 = stated[1]
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> tuple[urllib.request.OpenerDirector, _Redirects]:
    """An opener for http and https, through the environment's proxies; urllib's own opens files and ftp too."""
    opener = urllib.request.OpenerDirector()
    redirects = _Redirects()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        redirects,
    ):
        opener.add_handler(handler)
    return opener, redirects
