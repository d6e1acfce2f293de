"""Where the plugin to be checked comes from: an installed one by its name, or a package's folder."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from zoo.decoding import Misfit, shown, strict
from zoo.errors import UsageError
from zoo.names import is_name
from zoo.plugins import Plugins
from zoo.plugins.catalogue import open_plugins
from zoo.plugins.entry_points import ENTRY_POINT_GROUP
from zoo.registry import load_registry
from zoo.registry.toml_file import read_toml_file
from zoo.registry.toml_lines import Key


class _Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What zoo reads of the table ``project`` of a pyproject.toml."""

    name: str = ""
    version: str = "0"
    dependencies: list[str] = []
    entry_points: dict[str, dict[str, str]] = msgspec.field(default={}, name="entry-points")


def find_plugins(target: str, registry: Path | None = None) -> tuple[Plugins, tuple[str, ...]]:
    """The plugins to check: the installed one of that name, or those of a package's folder.

    Args:
        target: A plugin's name, or a path; what is both is the name, unless it is written as a path.
        registry: A registry.toml that goes before all others, for an installed plugin.

    Raises:
        UnknownNameError: There is no plugin of that name, and no such folder.
        UsageError: The folder holds no plugin package.
    """
    plugins = open_plugins(registry)
    looks_like_path = "/" in target or "\\" in target or target.startswith(".")
    known = {record.name for record in plugins.records()}
    if looks_like_path or (target not in known and Path(target).is_dir()):
        return plugins_in_folder(Path(target))
    plugins.record(target)
    return plugins, (target,)


def plugins_in_folder(folder: Path) -> tuple[Plugins, tuple[str, ...]]:
    """The plugins that a package's folder would provide once installed; nothing is imported yet.

    The folder, and its ``src`` where it has one, come first on ``sys.path`` for the rest of this process.

    Args:
        folder: Holds the package's pyproject.toml.

    Returns:
        Plugins that know no others, under no registry's rules; and their names.

    Raises:
        UsageError: There is no pyproject.toml, it cannot be used, or it has no entry point of the group
            ``zoo.plugins``.
    """
    pyproject = folder / "pyproject.toml"
    if not os.path.lexists(pyproject):
        raise UsageError(
            f"{folder} has no pyproject.toml, so it is no package to check; give the folder that has it, or the name "
            "of an installed plugin."
        )
    project = _read_project(pyproject)
    points = project.entry_points.get(ENTRY_POINT_GROUP)
    if not points:
        raise UsageError(
            f'{pyproject} registers no plugin; add [project.entry-points."{ENTRY_POINT_GROUP}"] with a line '
            'NAME = "PACKAGE".'
        )
    places = [str(place.resolve()) for place in (folder, folder / "src") if place.is_dir()]
    sys.path[:0] = [place for place in places if place not in sys.path]
    distribution = _NotInstalled(folder, project, points)
    registry = replace(
        load_registry(), entry_points=True, allow=(), deny=frozenset(), plugins={}, presets={}, files=(pyproject,)
    )
    found = distribution.entry_points.select(group=ENTRY_POINT_GROUP)
    return Plugins(registry, entry_points=found), tuple(sorted(points))


def _read_project(pyproject: Path) -> _Project:
    """Read what is needed of a package's description.

    Raises:
        UsageError: The file cannot be read, or something in it is of the wrong kind.
    """
    file = read_toml_file(pyproject, error=UsageError)
    table = file.content.get("project", {})
    if isinstance(table, Mapping):  # other keys are not zoo's business
        table = {key: table[key] for key in _Project.__struct_encode_fields__ if key in table}
    try:
        project = strict(table, _Project)
    except Misfit as misfit:
        raise UsageError(file.problem(("project", *misfit.path), misfit.text)) from None
    for key, flaw in _flaws(project):
        raise UsageError(file.problem(("project", *key), flaw))
    return project


def _flaws(project: _Project) -> Iterator[tuple[Key, str]]:
    """Text that could not stand in the files of an installed package."""
    texts: dict[Key, str] = {("name",): project.name, ("version",): project.version}
    texts |= {("dependencies", i): line for i, line in enumerate(project.dependencies)}
    for name, value in project.entry_points.get(ENTRY_POINT_GROUP, {}).items():
        place: Key = ("entry-points", ENTRY_POINT_GROUP, name)
        if not is_name(name):
            yield place, "a name is made of letters, digits, '_', '-' and '.', and starts with one of the first two"
        texts[place] = value
    for place, text in texts.items():
        if not text.isprintable():
            yield place, f"{shown(text)} has a line break or a control character"


class _NotInstalled(importlib.metadata.Distribution):
    """What the distribution of a folder would be, as far as its pyproject.toml says."""

    def __init__(self, folder: Path, project: _Project, points: Mapping[str, str]) -> None:
        self._folder = folder
        headers = ["Metadata-Version: 2.1", f"Name: {project.name or folder.resolve().name}"]
        headers.append(f"Version: {project.version}")
        headers += [f"Requires-Dist: {line}" for line in project.dependencies]
        self._files = {
            "METADATA": "\n".join(headers) + "\n",
            "entry_points.txt": "\n".join(
                [f"[{ENTRY_POINT_GROUP}]", *(f"{name} = {value}" for name, value in points.items())]
            ),
        }

    def read_text(self, filename: str) -> str | None:
        """One of the files that an installer would write."""
        return self._files.get(filename)

    def locate_file(self, path: Any) -> Any:
        """A file of the package."""
        return self._folder / path
