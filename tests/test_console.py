import io
import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from zoo.cli.options import print_json
from zoo.console import ConsoleProgress, display_width, duration, printable, size, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")


def test_importing_the_console_does_not_import_rich() -> None:
    program = "import sys, zoo.console; sys.exit('rich' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [bold]é漢🦆[/]", "plain [bold]é漢🦆[/]"),
        ("\x1b[2Jcat", r"\x1b[2Jcat"),
        ("a\rb\nc\td", r"a\rb\nc\td"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egnp.exe\u2028", r"\u202egnp.exe\u2028"),
        ("\udcff", r"\udcff"),
        (7, "7"),
    ],
)
def test_control_characters_become_escapes_and_all_else_stays(text: object, shown: str) -> None:
    assert printable(text) == shown


def test_newlines_stay_where_they_are_wanted() -> None:
    assert printable("a\n\x07b", keep_newlines=True) == "a\n\\x07b"


def test_width_counts_columns_of_a_terminal() -> None:
    assert display_width("a漢e\u0301") == 4


def test_a_long_task_writes_its_start_a_few_lines_at_growing_gaps_and_its_end() -> None:
    out, clock = io.StringIO(), Clock()
    with ConsoleProgress(stream=out, clock=clock).task("reading", 300, unit="images") as advance:
        for _ in range(300):
            clock.now += 1
            advance(1)
    assert out.getvalue().splitlines() == [
        "reading: 300 images",
        "reading: 5 of 300 images, 5.0 s",
        "reading: 15 of 300 images, 15 s",
        "reading: 35 of 300 images, 35 s",
        "reading: 75 of 300 images, 1 min 15 s",
        "reading: 135 of 300 images, 2 min 15 s",
        "reading: 195 of 300 images, 3 min 15 s",
        "reading: 255 of 300 images, 4 min 15 s",
        "reading: 300 images in 5 min 00 s",
    ]


def test_short_tasks_inside_another_write_nothing() -> None:
    out, clock = io.StringIO(), Clock()
    progress = ConsoleProgress(stream=out, clock=clock)
    with progress.task("training", 2, unit="epochs") as outer:
        for _ in range(2):
            with progress.task("epoch", 10) as inner:
                inner(10)
            outer(1)
    assert out.getvalue() == "training: 2 epochs\n"


def test_a_task_that_fails_does_not_say_that_it_ended() -> None:
    out, clock = io.StringIO(), Clock()

    def fail() -> None:
        with ConsoleProgress(stream=out, clock=clock).task("reading"):
            clock.now += 60
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()
    assert out.getvalue() == "reading\n"


def test_bytes_are_shown_as_sizes() -> None:
    out, clock = io.StringIO(), Clock()
    with ConsoleProgress(stream=out, clock=clock).task("downloading", 44_700_000, unit="bytes") as advance:
        clock.now += 6
        advance(1_500_000)
    assert "downloading: 1.5 MB of 44.7 MB, 6.0 s\n" in out.getvalue()


def test_quiet_hides_all_but_warnings() -> None:
    for out in (io.StringIO(), Terminal()):
        progress = ConsoleProgress(quiet=True, stream=out)
        progress.note("a note")
        with progress.task("work", 3) as advance:
            advance(3)
        assert out.getvalue() == ""
        progress.warn("look")
        assert "warning: look" in out.getvalue()


def test_warnings_are_yellow_on_a_terminal_and_plain_elsewhere() -> None:
    plain, terminal = io.StringIO(), Terminal()
    ConsoleProgress(stream=plain).warn("look")
    ConsoleProgress(stream=terminal).warn("look")
    assert plain.getvalue() == "warning: look\n"
    assert terminal.getvalue() == "\x1b[33mwarning: look\x1b[0m\n"


@pytest.mark.parametrize("make", [io.StringIO, Terminal])
def test_text_from_users_disturbs_neither_terminal_nor_markup(make: Callable[[], io.StringIO]) -> None:
    out = make()
    progress = ConsoleProgress(stream=out)
    progress.note("[red]one[/red] \x1b[31m")
    with progress.task("[blink]task \x1b[5m", 2) as advance:
        progress.note("[/] two")
        progress.warn("[link=x]three \x07")
        advance(2)
    shown = out.getvalue()
    for words in (r"[red]one[/red] \x1b[31m", r"[blink]task \x1b[5m", "[/] two", r"[link=x]three \x07"):
        assert words in shown
    assert "\x1b[31m" not in shown
    assert "\x1b[5m" not in shown
    assert "\x07" not in shown


def test_bars_on_a_terminal_nest_and_leave_the_cursor_visible() -> None:
    out = Terminal()
    progress = ConsoleProgress(stream=out)
    with progress.task("training", 2, unit="epochs") as outer, progress.task("epoch 1", 4, unit="images") as inner:
        inner(4)
        outer(1)
    with progress.task("again"):
        pass
    assert "training" in out.getvalue()
    assert out.getvalue().rfind("\x1b[?25h") > out.getvalue().rfind("\x1b[?25l")


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    progress = ConsoleProgress(stream=out)
    progress.warn("look")
    with progress.task("work", 3) as advance:
        advance(3)
    assert out.getvalue() == "warning: look\nwork: 3\n"


def test_the_default_streams_are_those_of_the_moment(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleProgress().note("hello")
    table([["a"]], ["name"])
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("name\na\n", "hello\n")


def test_a_table_is_aligned_plain_text_away_from_a_terminal() -> None:
    out = io.StringIO()
    table([["resnet18", 11.7, "3 MB"], ["漢字", None, "12 MB"]], ["name", "size", "file"], right=["file"], stream=out)
    assert out.getvalue() == "name      size   file\nresnet18  11.7   3 MB\n漢字      -     12 MB\n"
    out = io.StringIO()
    table([["a", 5], ["b", 10]], ["name", "n"], title="Two rows", stream=out)
    assert out.getvalue() == "Two rows\nname   n\na      5\nb     10\n"


def test_a_table_escapes_its_cells_everywhere() -> None:
    for out in (io.StringIO(), Terminal()):
        table([["[red]x[/red]", "\x1b[2J"]], ["one", "two"], stream=out)
        assert "[red]x[/red]" in out.getvalue()
        assert r"\x1b[2J" in out.getvalue()
        assert "\x1b[2J" not in out.getvalue()


def test_a_table_on_a_narrow_terminal_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    out = Terminal()
    table([["abcdefghijklmnopqrstuvwxyz"]], ["name"], stream=out)
    assert "…" not in out.getvalue()
    assert "z" in out.getvalue()


def test_a_stream_that_cannot_write_a_character_gets_an_escape() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    ConsoleProgress(stream=out).note("müde")
    assert raw.getvalue() == b"m\\xfcde\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (3900, "1 h 05 min")],
)
def test_durations_read_as_a_person_says_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(812, "812 B"), (4100, "4.1 kB"), (999_990, "1.0 MB"), (98e6, "98.0 MB"), (5e15, "5000.0 TB")]
)
def test_sizes_read_as_a_person_says_them(count: float, words: str) -> None:
    assert size(count) == words


def test_json_holds_names_that_are_no_unicode(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"label": "\udcff Käfer"})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"label": "\udcff Käfer"}
    assert "Käfer" in printed
