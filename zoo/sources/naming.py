"""What the names of files and splits, and the values of labels, say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from zoo.data.images import SPLIT_NAMES
from zoo.errors import DataError


def splits_of(files: Sequence[Path], root: Path) -> list[str]:
    """The split that each file is of, by its name or its folder's; empty texts where no name says one.

    Args:
        files: For example ``train-0001.tar`` or ``val/0001.tar``.
        root: What was asked for, for messages.

    Raises:
        DataError: Some names say a split and some do not.
    """
    found = [_split_in(file.name) or SPLIT_NAMES.get(file.parent.name.lower(), "") for file in files]
    if any(found) and not all(found):
        named, unnamed = files[found.index(next(filter(None, found)))], files[found.index("")]
        raise DataError(
            f"{root}: the name of {named.name} says a split and that of {unnamed.name} none; give all of them a name "
            "with train, val or test in it, or none."
        )
    return found


def labels_in(value: object, names: Sequence[str], where: str) -> tuple[str, ...]:
    """Class names of a label: a name, a number, or a list of these.

    Args:
        value: As a source holds it.
        names: Names by number; empty where numbers are the names.
        where: For messages.

    Raises:
        DataError: The value is no label.
    """
    if isinstance(value, list | tuple):
        return tuple(name for each in value for name in labels_in(each, names, where))
    if isinstance(value, str) and value.strip():
        if not (names and value.strip().isdecimal()):
            return (value.strip(),)
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        if names and value >= len(names):
            raise DataError(f"{where}: label {value} is beyond the {len(names)} class names.")
        return (names[value] if names else str(value),)
    raise DataError(f"{where}: {value!r} is not a label: a name, a number from 0 on, or a list of these.")


def stamps(files: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Path, size and time of each file: what tells that one was changed.

    Raises:
        DataError: One is missing.
    """
    found = []
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise DataError(f"cannot read {file}: {error.strerror or error}.") from error
        found.append((str(file.resolve()), status.st_size, status.st_mtime_ns))
    return found


def _split_in(name: str) -> str:
    words = re.findall(r"[a-z]+", name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "")
