"""What a person sees: progress on stderr, tables on stdout, and text that cannot disturb the terminal.

rich is imported inside functions only, so that commands that print a line or two start at once.
"""

import importlib.util
import os
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, TextIO

from zoo.progress import Advance

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_FIRST_GAP_S = 5.0
_LONGEST_GAP_S = 60.0


def printable(text: object, *, keep_newlines: bool = False) -> str:
    r"""Text from a file, a folder or a plugin, made safe to show.

    Control characters (the escape that starts ANSI sequences among them), bidirectional overrides, line separators
    and bytes of file names that are no UTF-8 become backslash escapes; all other characters stay.

    Args:
        text: Anything; ``str`` is applied to it.
        keep_newlines: Leave ``"\n"`` alone, for messages that are several lines by design.

    Returns:
        A string that every UTF-8 stream accepts, for example ``"\\x1b[31mcat"``.
    """
    text = str(text)
    if text.isprintable():  # none of the characters meant here is
        return text
    return "".join(character if character == "\n" and keep_newlines else _escaped(character) for character in text)


def display_width(text: str) -> int:
    """Columns that a text takes on a terminal: 2 for East Asian wide characters, 0 for combining marks."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


class ConsoleProgress:
    """Progress on stderr: bars on a terminal or in a notebook, a few plain lines elsewhere.

    Plain lines: an outermost task writes one when it starts; a task that lasts writes one after 5 s, then at growing
    gaps of at most a minute, and one at its end. Short tasks inside others write nothing.

    Args:
        quiet: Only warnings are written.
        stream: Where to write; None takes ``sys.stderr`` at each use.
        clock: Seconds that only grow, for tests.
    """

    def __init__(
        self, *, quiet: bool = False, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.quiet = quiet
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()
        self._depth = 0
        self._bars: RichProgress | None = None

    def note(self, text: str) -> None:
        """Write one line, unless quiet."""
        if not self.quiet:
            self._line(text)

    def warn(self, text: str) -> None:
        """Write one line that starts with ``warning:``, yellow on a terminal; quiet does not hide it."""
        self._line(f"warning: {text}", style="yellow")

    @contextmanager
    def task(self, label: str, total: int | None = None, *, unit: str = "") -> Iterator[Advance]:
        """Show a job while the block runs.

        Args:
            label: What is being done, for example ``"reading images"``.
            total: Units of work, None where that is not known.
            unit: What is counted, for example ``"images"``; ``"bytes"`` is shown as sizes.

        Yields:
            A function to call with each advance; any thread may call it.
        """
        if self.quiet:
            yield lambda advance: None
        elif _is_lively(self._out):
            with self._bar(label, total, unit) as advance:
                yield advance
        else:
            with self._lines(label, total, unit) as advance:
                yield advance

    @property
    def _out(self) -> TextIO:
        return self._stream if self._stream is not None else sys.stderr

    def _line(self, text: str, *, style: str = "") -> None:
        text = printable(text)
        if self._bars is None and not (style and _is_lively(self._out)):
            _write(text, self._out)
            return
        from rich.text import Text

        console = self._bars.console if self._bars is not None else _console(self._out)
        console.print(Text(text, style=style), soft_wrap=True)

    @contextmanager
    def _bar(self, label: str, total: int | None, unit: str) -> Iterator[Advance]:
        outermost = self._bars is None
        bars = self._bars = self._bars or _bars(_console(self._out))
        if outermost:
            bars.start()
        task = bars.add_task(printable(label), total=total, unit=printable(unit))
        try:
            yield lambda advance: bars.advance(task, advance)
        finally:
            bars.remove_task(task)
            if outermost:
                bars.stop()
                self._bars = None

    @contextmanager
    def _lines(self, label: str, total: int | None, unit: str) -> Iterator[Advance]:
        start = self._clock()
        done, gap, due = 0, _FIRST_GAP_S, start + _FIRST_GAP_S
        spoke = False

        def advance(step: int) -> None:
            nonlocal done, gap, due, spoke
            with self._lock:
                done += step
                now = self._clock()
                # The last unit is left to the line at the end.
                if now >= due and (total is None or done < total):
                    self._line(f"{label}: {_amount(done, total, unit)}, {duration(now - start)}")
                    gap = min(2 * gap, _LONGEST_GAP_S)
                    due, spoke = now + gap, True

        if self._depth == 0:
            self._line(label + (f": {_amount(total, None, unit)}" if total else ""))
        self._depth += 1
        try:
            yield advance
        finally:
            self._depth -= 1
        elapsed = self._clock() - start
        if spoke or elapsed >= _FIRST_GAP_S:
            self._line(f"{label}: {_amount(done, None, unit)} in {duration(elapsed)}")


def table(
    rows: Sequence[Sequence[object]],
    headers: Sequence[str],
    *,
    title: str = "",
    right: Collection[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Print a table on stdout: ruled on a terminal, aligned plain text elsewhere.

    Args:
        rows: Cells of each row, as many as headers; None is shown as ``-``.
        headers: One a column.
        title: A line above the table.
        right: Headers of columns to align to the right; columns that hold only numbers always are.
        stream: Where to print; None takes ``sys.stdout``.
    """
    out = stream if stream is not None else sys.stdout
    to_right = [
        header in right or (bool(rows) and all(isinstance(row[column], int | float) for row in rows))
        for column, header in enumerate(headers)
    ]
    cells = [["-" if cell is None else printable(cell) for cell in row] for row in rows]
    if out.isatty() and not _is_dumb():
        from rich import box
        from rich.table import Table
        from rich.text import Text

        drawn = Table(box=box.SIMPLE_HEAD, title=Text(title) if title else None, title_justify="left", pad_edge=False)
        for header, numeric in zip(headers, to_right, strict=True):
            drawn.add_column(Text(header), justify="right" if numeric else "left", overflow="fold")
        for row in cells:
            drawn.add_row(*(Text(cell) for cell in row))
        _console(out).print(drawn)
        return
    if title:
        _write(printable(title), out)
    columns = [
        _aligned([header, *(row[column] for row in cells)], numeric)
        for column, (header, numeric) in enumerate(zip(headers, to_right, strict=True))
    ]
    _write("\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True)), out)


def duration(seconds: float) -> str:
    """A time as a person says it: ``"3.2 s"``, ``"42 s"``, ``"3 min 20 s"``, ``"1 h 05 min"``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: float) -> str:
    """A number of bytes as a person says it: ``"812 B"``, ``"4.1 kB"``, ``"98.0 MB"`` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.95:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


@cache
def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 1 + (unicodedata.east_asian_width(character) in "WF")


def _escaped(character: str) -> str:
    if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _BIDI_CONTROLS:
        return character.encode("unicode_escape").decode("ascii")
    return character


def _aligned(cells: Sequence[str], to_right: bool) -> list[str]:
    widths = [display_width(cell) for cell in cells]
    widest = max(widths)
    gaps = [" " * (widest - width) for width in widths]
    return [gap + cell if to_right else cell + gap for gap, cell in zip(gaps, cells, strict=True)]


def _amount(done: int, total: int | None, unit: str) -> str:
    if unit == "bytes":
        return size(done) + (f" of {size(total)}" if total else "")
    share = f" of {total:,}" if total else ""
    return f"{done:,}{share}" + (f" {unit}" if unit else "")


def _is_dumb() -> bool:
    return os.environ.get("TERM") == "dumb"


def _is_lively(stream: TextIO) -> bool:
    return (stream.isatty() and not _is_dumb()) or _is_notebook()


def _is_notebook() -> bool:
    # Without ipywidgets rich has no bars in a notebook and warns instead.
    return "ipykernel" in sys.modules and importlib.util.find_spec("ipywidgets") is not None


def _write(text: str, stream: TextIO) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def _console(stream: TextIO) -> "Console":
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False, force_jupyter=_is_notebook() or None)


def _bars(console: "Console") -> "RichProgress":
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Amount(ProgressColumn):
        def render(self, task: Task) -> Text:
            total = None if task.total is None else int(task.total)
            return Text(_amount(int(task.completed), total, task.fields["unit"]), style="progress.download")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        Amount(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
