"""Reading images in threads ahead of the model, and keeping the prepared pixels in memory."""

import os
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zoo.architecture import Preprocessing
from zoo.data.augment import random_crop, smallest_crop
from zoo.data.decode import decode, read_image_file
from zoo.data.decoded import DecodedImages
from zoo.data.transforms import Transform
from zoo.errors import DataError, ImageError
from zoo.faults import fault
from zoo.progress import Progress, Silent

_MOST_SHOWN = 10
# Longest that one image may take to read; a network drive that is gone never answers.
_PATIENCE_S = 300.0
_MOST_LEFT_OUT = 0.2
# Images that a thread reads before it asks for more: one at a time is a sixth slower.
_TOGETHER = 4


_T = TypeVar("_T")


class _Part(Generic[_T]):
    """Some images that one thread reads one after the other.

    Attributes:
        paths: Their files.
        reading: The one at hand, for a message where it never ends.
    """

    def __init__(
        self, rows: Sequence[int], paths: Sequence[Path], read: Callable[[int], _T], pool: ThreadPoolExecutor
    ) -> None:
        self.paths = paths
        self.reading = paths[0]
        self._future = pool.submit(self._all, rows, read)

    def _all(self, rows: Sequence[int], read: Callable[[int], _T]) -> list[_T]:
        found: list[_T] = []
        for row, path in zip(rows, self.paths, strict=True):
            self.reading = path
            found.append(read(row))
        return found

    def result(self) -> list[_T]:
        """What reading each of them gave, once it is there."""
        try:
            return self._future.result(timeout=_PATIENCE_S)
        except TimeoutError:
            raise DataError(
                f"{self.reading} was not read within {_PATIENCE_S:g} s: its disk or network drive does not answer."
            ) from None


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be read, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Scan:
    """What one look at every image gave.

    Attributes:
        digests: SHA-256 of the content of each readable image.
        bad: The others, in the order of the paths.
    """

    digests: Mapping[Path, str]
    bad: tuple[BadImage, ...]


@dataclass(frozen=True)
class Request:
    """Images to read together.

    Attributes:
        positions: Positions in the reader's paths.
        crops: float32 ``(N, 10)`` or wider from :func:`~zoo.data.augment.uniforms` to cut a random box from each image;
            None for the centre.
    """

    positions: Sequence[int]
    crops: NDArray[np.float32] | None = None


class ImageReader:
    """Decodes images in threads; Pillow works outside of Python's lock.

    Centre crops are kept in memory as uint8 pixels once they have been decoded, for the first images of ``paths`` up
    to the memory limit; the others are decoded each time.

    Args:
        paths: The images; positions count in this order.
        preprocessing: What to prepare them for.
        workers: Threads, at least 1; None takes one for each processor that this process may use.
        memory_limit_bytes: Most memory for kept pixels.
        cache_images_bytes: Most memory for whole decoded images, which random boxes are cut of; 0 keeps none.
        on_bad: What :meth:`scan` does about images that cannot be read: ``"error"`` or ``"skip"``.
        progress: Who is told.

    Attributes:
        decoded: The whole images that are kept, or None.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        preprocessing: Preprocessing,
        *,
        workers: int | None = None,
        memory_limit_bytes: int = 1 << 30,
        cache_images_bytes: int = 0,
        on_bad: Literal["error", "skip"] = "error",
        progress: Progress | None = None,
    ):
        if workers is not None and workers < 1:
            raise ValueError(f"workers is at least 1, not {workers}")
        self.paths = tuple(paths)
        self.preprocessing = preprocessing
        self.workers = workers or available_processors()
        self._transform = Transform(preprocessing)
        self._shape = (self._transform.height, self._transform.width, self._transform.channels)
        self.decoded = DecodedImages(self._transform, limit_bytes=cache_images_bytes) if cache_images_bytes else None
        self._on_bad = on_bad
        self._progress = progress or Silent()
        self._position = {path: position for position, path in reversed(list(enumerate(self.paths)))}
        rows = min(len(self.paths), max(0, memory_limit_bytes) // int(np.prod(self._shape)))
        self._kept = np.empty((rows, *self._shape), dtype=np.uint8)
        self._is_kept = np.zeros(rows, dtype=np.bool_)

    def positions(self, paths: Iterable[Path]) -> list[int]:
        """Where these images are among the reader's.

        Raises:
            KeyError: One of them is not there.
        """
        return [self._position[path] for path in paths]

    def scan(self, known: Container[str] = ()) -> Scan:
        """Hash every file, decode its image once and keep the pixels.

        Args:
            known: SHA-256 of contents that can be decoded; they are not, until their pixels are needed.

        Raises:
            DataError: Images cannot be read and ``on_bad`` is ``"error"``, or more than 20 % of them; the first ten are
                named with their reasons.
        """
        digests: dict[Path, str] = {}
        bad: list[BadImage] = []
        with self._progress.task("reading images", len(self.paths), unit="images") as advance:
            for part in self._look_at_all(known):
                for path, looked in zip(part.paths, part.result(), strict=True):
                    if isinstance(looked, BadImage):
                        bad.append(looked)
                    else:
                        digests[path] = looked
                advance(len(part.paths))
        if bad and self._on_bad == "error":
            raise DataError(
                f"{len(bad)} of {len(self.paths)} images cannot be read:{_listed(bad)}\n"
                "Replace or remove them, or leave them out with --on-bad-image skip."
            )
        share = len(bad) / max(1, len(self.paths))
        if share > _MOST_LEFT_OUT:
            # So many are no accident: what is left may not be what the data set was.
            raise DataError(
                f"{len(bad)} of {len(self.paths)} images ({share:.0%}) cannot be read, and --on-bad-image skip leaves "
                f"out {_MOST_LEFT_OUT:.0%} at most:{_listed(bad)}\n"
                "Were they copied whole, and is this the right folder? Replace or remove them."
            )
        if bad:
            self._progress.warn(f"left out {len(bad)} of {len(self.paths)} images that cannot be read:{_listed(bad)}")
        return Scan(digests, tuple(bad))

    def read(self, positions: Sequence[int], *, crops: NDArray[np.float32] | None = None) -> Tensor:
        """Read some images.

        Args:
            positions: Positions in :attr:`paths`.
            crops: As in :class:`Request`.

        Returns:
            uint8 ``(N, C, H, W)``.

        Raises:
            DataError: An image cannot be read.
        """
        return next(self.ahead([Request(positions, crops)]))

    def ahead(self, requests: Iterable[Request]) -> Iterator[Tensor]:
        """Read images in threads while the caller works on those it has.

        Enough is read ahead to keep every thread busy and the next batch whole, and no more, so memory stays flat.
        Where the process works on a CUDA GPU, batches lie in page-locked memory, so that nobody waits for a copy there.

        Args:
            requests: What to read, in order; taken as needed.

        Yields:
            uint8 ``(N, C, H, W)`` for each request.

        Raises:
            DataError: An image cannot be read.
        """
        pending: deque[tuple[Tensor, list[_Part[None]]]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="zoo-reader")
        try:
            for request in requests:
                pending.append(self._submit(pool, request))
                while sum(len(batch) for batch, _ in pending) - len(pending[0][0]) >= 2 * self.workers:
                    yield _finished(*pending.popleft())
            while pending:
                yield _finished(*pending.popleft())
        finally:
            # Also on Ctrl-C, and when the caller stops early: what has not begun is dropped.
            pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, request: Request) -> tuple[Tensor, list[_Part[None]]]:
        chosen = np.asarray(request.positions, dtype=np.int64)
        shape = (len(chosen), *self._shape)
        batch = torch.empty(shape, dtype=torch.uint8, device="cpu", pin_memory=_gpu_at_work())
        pixels: NDArray[np.uint8] = batch.numpy()
        crops = request.crops
        rows = list(range(len(chosen))) if crops is not None else self._copy_kept(chosen, pixels)

        def load(row: int) -> None:
            self._load(int(chosen[row]), pixels[row], None if crops is None else crops[row])

        # A small request is shared out too.
        together = min(_TOGETHER, ceil(len(rows) / self.workers))
        return batch.permute(0, 3, 1, 2), [
            _Part(some, [self.paths[chosen[row]] for row in some], load, pool) for some in _parts(rows, together)
        ]

    def _copy_kept(self, chosen: NDArray[np.int64], pixels: NDArray[np.uint8]) -> list[int]:
        """Copy what is in memory; the rows that are not."""
        kept = chosen < len(self._is_kept)
        kept[kept] = self._is_kept[chosen[kept]]
        pixels[kept] = self._kept[chosen[kept]]
        return np.flatnonzero(~kept).tolist()

    def _look(self, position: int, known: Container[str]) -> str | BadImage:
        path = self.paths[position]
        fault("read")
        try:
            content = read_image_file(path)
            digest = sha256(content).hexdigest()
            if digest not in known:
                self._keep(position, self._transform.read(content))
        except ImageError as error:
            return BadImage(path, str(error))
        return digest

    def _keep(self, position: int, pixels: NDArray[np.uint8]) -> None:
        if position < len(self._is_kept):
            self._kept[position] = pixels
            self._is_kept[position] = True

    def _load(self, position: int, pixels: NDArray[np.uint8], crop: NDArray[np.float32] | None) -> None:
        """Decode one image into ``pixels``, ``(H, W, C)``."""
        path, transform = self.paths[position], self._transform
        fault("read")
        try:
            if crop is None:
                pixels[:] = transform.read(path)
                self._keep(position, pixels)
            else:
                image = self._whole(position, crop)
                pixels[:] = transform.boxed(image, random_crop(image.size, crop))
        except ImageError as error:
            raise DataError(f"{path} {error}.") from error
        except Exception as error:
            error.add_note(f"while reading {path}")
            raise

    def _whole(self, position: int, crop: NDArray[np.float32]) -> Image.Image:
        """A decoded image with pixels enough for a random box."""
        path, transform = self.paths[position], self._transform
        if self.decoded is not None:
            return self.decoded.image(position, path)
        target = ceil(max(transform.height, transform.width) / smallest_crop(crop))
        return decode(path, channels=transform.channels, target=target)

    def _look_at_all(self, known: Container[str]) -> Iterator[_Part[str | BadImage]]:
        def look(position: int) -> str | BadImage:
            return self._look(position, known)

        under_way: deque[_Part[str | BadImage]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="zoo-reader")
        try:
            for some in _parts(range(len(self.paths)), _TOGETHER):
                paths = [self.paths[position] for position in some]
                under_way.append(_Part(some, paths, look, pool))
                if len(under_way) >= 4 * self.workers:
                    yield under_way.popleft()
            yield from under_way
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _parts(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (rows[start : start + size] for start in range(0, len(rows), max(1, size)))


def _finished(batch: Tensor, loads: Iterable[_Part[None]]) -> Tensor:
    for load in loads:
        load.result()
    return batch


def _gpu_at_work() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def available_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _listed(bad: Sequence[BadImage]) -> str:
    shown = "".join(f"\n  {image.path} {image.reason}" for image in bad[:_MOST_SHOWN])
    return shown if len(bad) <= _MOST_SHOWN else f"{shown}\n  and {len(bad) - _MOST_SHOWN} more"
