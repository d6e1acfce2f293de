"""Tell Ctrl-C and SIGTERM from the same exceptions where a plugin raises them by itself."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def watched_signals() -> Iterator[Callable[[], bool]]:
    """Watch for SIGINT and SIGTERM while the block runs; afterwards they have the handlers that they had before.

    Yields:
        A function that says whether there was one. Always true outside the main thread, where that cannot be known.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: True
        return
    came = False

    def noting(handler: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], Any]:
        def handle(number: int, frame: FrameType | None) -> Any:
            nonlocal came
            came = True
            return handler(number, frame)

        return handle

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, noting(handler))
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
