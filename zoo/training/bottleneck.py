"""What the time of an epoch's steps goes into: waiting for decoded images, copying them to the device, computing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Literal, TypeVar

T = TypeVar("T")
Part = Literal["decode", "copy", "compute"]

# Below this many seconds an epoch has no bottleneck worth naming.
_SHORTEST_S = 1.0


class Bottleneck:
    """Adds up how long each part keeps the training loop waiting.

    Work that goes on beside the loop counts only as far as the loop waits for it: images are decoded ahead in threads,
    and a GPU copies and computes while the loop goes on. What the loop waits for is what would have to be faster.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._seconds: dict[Part, float] = {"decode": 0.0, "copy": 0.0, "compute": 0.0}
        self._part: Part | None = None
        self._since = 0.0

    @contextmanager
    def measuring(self, part: Part) -> Iterator[None]:
        """Count the time of the block for a part, and for no other that it lies within."""
        outer = self._part
        self._enter(part)
        try:
            yield
        finally:
            self._enter(outer)

    def timed(self, items: Iterator[T]) -> Iterator[T]:
        """The same items, the time until each is there counted as decoding."""
        while True:
            with self.measuring("decode"):
                item = next(items, None)
            if item is None:
                return
            yield item

    def words(self) -> str:
        """For a progress line, for example ``"bottleneck: decode (61%)"``; empty for an epoch of less than a second."""
        total = sum(self._seconds.values())
        if total < _SHORTEST_S:
            return ""
        part = max(self._seconds, key=lambda name: self._seconds[name])
        return f"bottleneck: {part} ({self._seconds[part] / total:.0%})"

    def _enter(self, part: Part | None) -> None:
        now = self._clock()
        if self._part is not None:
            self._seconds[self._part] += now - self._since
        self._part, self._since = part, now
