"""Being asked to stop: finish the step, save, then go."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import Any, NoReturn

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
# torchrun passes a Ctrl-C on to processes that the terminal has told already.
_SAME_CTRL_C_S = 2.0


class StopRequest:
    """Whether this process was asked to stop by Ctrl-C or by SIGTERM.

    Attributes:
        signal: The number of the signal; 0 while there was none.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._at = 0.0
        self._patient = False
        self._say: Callable[[str], None] = lambda text: None

    def __bool__(self) -> bool:
        return self.signal != 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals while the block runs: outside :meth:`finishing` they stop it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def finishing(self, say: Callable[[str], None]) -> Iterator[None]:
        """While the block runs, a first signal is only taken note of; a second Ctrl-C stops at once.

        Args:
            say: Told what happens.
        """
        self._patient, self._say = True, say
        try:
            yield
        finally:
            self._patient = False

    def leave(self, text: str = "") -> NoReturn:
        """Raise what ends the process with the signal's exit code.

        Args:
            text: What it came to and what to do.
        """
        if self.signal == signal.SIGTERM:
            raise Terminated(text)
        raise KeyboardInterrupt(text)

    def _receive(self, number: int, _frame: FrameType | None) -> Any:
        now = monotonic()
        first, since = not self.signal, now - self._at
        if first:
            self.signal, self._at = number, now
        if not self._patient:
            self.leave()
        if first:
            self._say("stopping: the step is finished and saved first. Ctrl-C again stops at once.")
        elif number == signal.SIGINT and not ("TORCHELASTIC_RUN_ID" in os.environ and since < _SAME_CTRL_C_S):
            self.signal = number
            self.leave()


class Terminated(SystemExit):  # it is no error
    """SIGTERM came. Leaves the interpreter with exit code 143.

    Attributes:
        text: What it came to and what to do.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(TERMINATED)
        self.text = text
