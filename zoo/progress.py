"""How long work says what it is doing, without knowing where the words go."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """What a long job tells the person who started it."""

    def note(self, text: str) -> None:
        """Say one line."""

    def warn(self, text: str) -> None:
        """Say one line that should not be missed."""

    def task(self, label: str, total: int | None = None, *, unit: str = "") -> AbstractContextManager[Advance]:
        """Show a job of ``total`` units while the block runs; call the value it gives with each advance."""


class Silent:
    """Says nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say nothing."""

    @contextmanager
    def task(self, label: str, total: int | None = None, *, unit: str = "") -> Iterator[Advance]:
        """Count for nobody."""
        yield lambda advance: None
