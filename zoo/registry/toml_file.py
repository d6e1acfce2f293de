"""Read a TOML file that somebody else may have written: whole, small, and never waited for."""

from __future__ import annotations

import os
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.decoding import shown
from zoo.errors import UsageError
from zoo.names import is_name
from zoo.registry.toml_lines import Key, TomlLines

_SIZE_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class TomlFile:
    """A file that was read, and words for what is wrong in it.

    Attributes:
        path: Where it is.
        content: What the parser made of it; its values are not checked.
        lines: Where its keys stand.
    """

    path: Path
    content: dict[str, Any]
    lines: TomlLines

    def place(self, key: Key) -> str:
        """``file:line`` of a key, or the file alone when the line is not found."""
        line = self.lines.find(key)
        return f"{self.path}:{line}" if line else str(self.path)

    def problem(self, key: Key, text: str) -> str:
        """A sentence that names the file, the line, the dotted key and what is wrong with it."""
        return f"{self.place(key)}: {_dotted(key)}: {text}{'' if text[-1] in '.?' else '.'}"


def read_toml_file(path: Path, *, error: type[UsageError]) -> TomlFile:
    """Read and parse one file.

    Args:
        path: A regular file of at most 1 MiB of UTF-8.
        error: What to raise.

    Raises:
        UsageError: Of the class ``error``: the file cannot be read, or is not TOML.
    """
    text = _read_text(path, error)
    try:
        return TomlFile(path, tomllib.loads(text), TomlLines(text))
    except (ValueError, RecursionError) as cause:  # tomllib's errors are ValueErrors
        raise error(f"{path} is not valid TOML: {cause or 'it is nested too deeply'}.") from cause


def _read_text(path: Path, error: type[UsageError]) -> str:
    try:
        # Not blocking, so that a FIFO is refused instead of waited for.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise error(f"{path} is not a regular file; zoo reads plain TOML files only.")
            content = file.read(_SIZE_LIMIT_BYTES + 1)
    except OSError as cause:
        raise error(f"cannot read {path}: {cause.strerror or cause}.") from cause
    except ValueError as cause:  # a NUL in the path
        raise error(f"cannot read {shown(str(path))}: {cause}.") from cause
    if len(content) > _SIZE_LIMIT_BYTES:
        raise error(f"{path} is larger than {_SIZE_LIMIT_BYTES >> 20} MiB, more than zoo reads of such a file.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        line = content[: cause.start].count(b"\n") + 1
        raise error(f"{path}:{line} is not UTF-8; save the file in that encoding.") from cause


def _dotted(key: Key) -> str:
    words = ""
    for part in key:
        if isinstance(part, int):
            words += f"[{part}]"
        else:
            words += ("." if words else "") + (part if is_name(part) and "." not in part else shown(part))
    return words
