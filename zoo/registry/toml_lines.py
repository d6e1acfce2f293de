"""On which line of a TOML file a key stands.

The standard parser gives no positions, so a text scan looks for the key. It knows headers, dotted and quoted keys and
lists of one-line tables; where it is not sure it says nothing.
"""

import re
from functools import cached_property

Key = tuple[str | int, ...]
_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_KEYS = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_KEYS})\s*\]\]?\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(rf"\s*({_KEYS})\s*=")
_NO_CODE = re.compile(r""""(?:[^"\\\n]|\\.)*"|'[^'\n]*'|#.*""")


class TomlLines:
    """The lines of one file's keys."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()

    def find(self, key: Key) -> int | None:
        """The line, counted from 1, of a key or of the nearest table or list around it; None when nothing is found."""
        for length in range(len(key), 0, -1):
            line = self._places.get(key[:length])
            if line is None:
                continue
            if length < len(key) and isinstance(position := key[length], int):
                return _line_of_table(self._lines, line, position) or line
            return line
        # A table that only stands in longer keys, as `a` does in `[a.b]`.
        return next((line for place, line in self._places.items() if place[: len(key)] == key), None)

    @cached_property
    def _places(self) -> dict[Key, int]:
        return _places(self._lines)


def _places(lines: list[str]) -> dict[Key, int]:
    places: dict[Key, int] = {}
    lists: dict[Key, int] = {}
    table: Key = ()
    inside = ""
    for number, line in enumerate(lines, 1):
        if inside:
            inside = "" if inside in line else inside
            continue
        if header := _HEADER.match(line):
            table = _split(header[2])
            if header[1] == "[[":
                lists[table] = lists.get(table, -1) + 1
                places.setdefault(table, number)
                table = (*table, lists[table])
            places.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            places.setdefault((*table, *_split(assignment[1])), number)
        for quotes in ('""' + '"', "''" + "'"):
            if line.count(quotes) % 2:
                inside = quotes
    return places


def _line_of_table(lines: list[str], start: int, position: int) -> int | None:
    seen = -1
    for number in range(start, len(lines) + 1):
        line = _NO_CODE.sub("", lines[number - 1])
        if number > start and (_HEADER.match(line) or _ASSIGNMENT.match(line)):
            return None
        seen += line.count("{")
        if seen >= position:
            return number
    return None


def _split(keys: str) -> Key:
    return tuple(part.strip("\"'") for part in re.findall(_PART, keys))
