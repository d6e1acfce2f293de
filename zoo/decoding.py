"""Strict decoding of tables, with errors that say what would be allowed.

msgspec does the typing; this module turns its one-line complaints into a path and a sentence for a person.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from zoo.errors import did_you_mean

T = TypeVar("T", bound=msgspec.Struct)
# The very end of a text, in a regular expression that Python and JSON Schema read alike.
END = r"$(?!\n)"
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}


class Misfit(Exception):  # noqa: N818  # never leaves zoo: callers turn it into an error with a file or a place
    """A value does not fit; raised here, given its place by the caller.

    Attributes:
        path: Keys and list positions from the table to the value.
        text: What is wrong and what is allowed, without a full stop.
    """

    def __init__(self, path: tuple[str | int, ...], text: str) -> None:
        super().__init__(text)
        self.path = path
        self.text = text


def strict(table: object, kind: type[T]) -> T:
    """Convert a table to a structure: no unknown keys, no guessed types, finite numbers only.

    Raises:
        Misfit: Something does not fit.
    """
    known = kind.__struct_encode_fields__
    if not isinstance(table, Mapping):
        raise Misfit((), f"{shown(table)} is not a table with the keys {', '.join(known)}")
    for key, value in table.items():
        if key not in known:
            raise Misfit((str(key),), f"unknown key; there are {', '.join(known)}.{did_you_mean(str(key), known)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise Misfit((key,), f"{value} is not a finite number")
    try:
        return msgspec.convert(dict(table), kind, strict=True)
    except msgspec.ValidationError as error:
        text, path = _split(str(error))
        found: Any = table
        for part in path:
            found = found[part]
        if not path:
            raise Misfit((), _in_words(text)) from None
        field_type = next(f.type for f in msgspec.structs.fields(kind) if f.encode_name == path[0])
        raise Misfit(path, _explained(text, found, field_type)) from None


def shown(value: object) -> str:
    """A value as it may stand in a message: on one line and not long."""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else ascii_safe(repr(value))
    return text if len(text) <= 80 else text[:77] + "..."


def ascii_safe(text: str) -> str:
    """The text with control characters escaped, so that it cannot act on a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _split(message: str) -> tuple[str, tuple[str | int, ...]]:
    text, _, place = message.partition(" - at `$")
    place = place.partition("[...]")[0]  # inside a table of any keys msgspec does not name them
    path = [name or int(index) for name, index in re.findall(r"\.([^.\[`]+)|\[(\d+)\]", place)]
    return text, tuple(path)


def _explained(text: str, value: object, kind: object) -> str:
    choices = _choices(kind)
    if choices and (isinstance(value, str) or text.startswith("Invalid enum")):
        listed = ", ".join(shown(choice) for choice in choices)
        return f"{shown(value)} is not one of {listed}.{did_you_mean(str(value), choices)}"
    return f"{shown(value)} is not allowed: {_in_words(text)}"


def _in_words(text: str) -> str:
    text = re.sub(r"`([^`]*)`", lambda m: " or ".join(_WORDS.get(w, w) for w in m[1].split(" | ")), text)
    return text[:1].lower() + text[1:]


def _choices(kind: object) -> tuple[str, ...]:
    if get_origin(kind) is Literal:
        return tuple(str(choice) for choice in get_args(kind))
    return tuple(choice for part in get_args(kind) for choice in _choices(part))
