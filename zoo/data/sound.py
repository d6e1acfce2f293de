"""Which images were decoded before without an error, so that none is decoded again only to see whether it can be."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import PIL

from zoo.files import cache_folder

# Counts up when decoding becomes stricter.
_VERSION = 1
_DIGEST_BYTES = 32


class SoundImages:
    """The contents of image files that were decoded whole, in the user's cache.

    Several processes may read and add at once. What a crash or a full disk leaves half-written matches no content, so
    those images are decoded again.

    Args:
        channels: What they were decoded to; another number takes another way through the decoder.
        folder: Where the record is; None takes the user's cache.
    """

    def __init__(self, channels: int, *, folder: Path | None = None) -> None:
        folder = folder or cache_folder() / "decoded"
        self._path = folder / f"sound-{_VERSION}-pillow-{PIL.__version__}-{channels}.bin"
        content = b""
        with suppress(OSError):
            content = self._path.read_bytes()
        self._digests = {content[i : i + _DIGEST_BYTES] for i in range(0, len(content), _DIGEST_BYTES)}

    def __contains__(self, digest: object) -> bool:
        """Whether the content with this SHA-256, 64 hex digits, was decoded before."""
        return isinstance(digest, str) and bytes.fromhex(digest) in self._digests

    def add(self, digests: Iterable[str]) -> None:
        """Note what was decoded now. Where the cache cannot be written it is decoded again next time."""
        new = {bytes.fromhex(digest) for digest in digests} - self._digests
        if not new:
            return
        self._digests |= new
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
            try:
                # Behind what is cut short, digests would start at the wrong place.
                os.write(descriptor, bytes(-os.fstat(descriptor).st_size % _DIGEST_BYTES) + b"".join(sorted(new)))
            finally:
                os.close(descriptor)
