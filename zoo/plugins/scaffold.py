"""The files of a new plugin package, from ``zoo/plugins/template``."""

import keyword
import re
import sys
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path

from zoo.errors import RunExistsError, UsageError
from zoo.files import write_atomically

_SUFFIX = ".template"


@dataclass(frozen=True)
class NewPlugin:
    """A package that was written.

    Attributes:
        folder: Where.
        files: Its files, relative to the folder.
        architecture: Full name of the architecture that it has to begin with.
    """

    folder: Path
    files: tuple[Path, ...]
    architecture: str


def new_plugin(name: str, folder: Path | None = None) -> NewPlugin:
    """Write a complete plugin package that passes the kit as it is.

    Args:
        name: The plugin's name: lower-case letters, digits, ``-`` and ``_``, beginning with a letter.
        folder: Where to write it; None means ``zoo-NAME`` in the current folder.

    Raises:
        UsageError: The name cannot be one of a Python package, or is taken by one that is installed.
        RunExistsError: The folder exists.
    """
    words = re.sub("[-_]+", "_", name)
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name) or keyword.iskeyword(words):
        raise UsageError(
            f"{name!r} cannot name a plugin package; use lower-case letters, digits and '-', beginning with a letter, "
            "for example 'lab'."
        )
    if find_spec(f"zoo_{words}") is not None:
        raise UsageError(
            f"the module zoo_{words} is installed already, so a package called {name!r} would take its place; choose "
            "another name. 'zoo plugins list' shows those there are."
        )
    dashed = words.replace("_", "-")
    folder = folder if folder is not None else Path(f"zoo-{dashed}")
    if folder.exists():
        raise RunExistsError(f"{folder} exists already; give another place with --output, or another name.")
    values = {
        "@PLUGIN@": words,
        "@DISTRIBUTION@": f"zoo-{dashed}",
        "@PACKAGE@": f"zoo_{words}",
        "@CLASS@": "".join(part.capitalize() for part in words.split("_")) + "Net",
        "@ARCHITECTURE@": f"{words}_net",
        "@PYTHON@": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
    written = []
    for path, template in _templates(files("zoo") / "plugins" / "template"):
        # Hidden folders are left out by some tools that pack files.
        target = Path(_filled(path, values).removesuffix(_SUFFIX).replace("github/", ".github/"))
        write_atomically(folder / target, _filled(template.read_text(encoding="utf-8"), values))
        written.append(target)
    return NewPlugin(folder, tuple(sorted(written)), f"{values['@PLUGIN@']}/{values['@ARCHITECTURE@']}")


def _templates(folder: Traversable, above: str = "") -> list[tuple[str, Traversable]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _templates(entry, f"{above}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            found.append((f"{above}{entry.name}", entry))
    return found


def _filled(text: str, values: dict[str, str]) -> str:
    for sign, value in values.items():
        text = text.replace(sign, value)
    return text
