"""Where the plugin to be checked comes from: an installed one by its name, or a package's folder."""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo.errors import UsageError
from zoo.plugins import Plugins
from zoo.plugins.catalogue import open_plugins
from zoo.plugins.entry_points import ENTRY_POINT_GROUP
from zoo.registry import load_registry


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
        UsageError: There is no pyproject.toml, or it has no entry point of the group ``zoo.plugins``.
    """
    pyproject = folder / "pyproject.toml"
    try:
        project = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("project", {})
    except FileNotFoundError:
        raise UsageError(
            f"{folder} has no pyproject.toml, so it is no package to check; give the folder that has it, or the name "
            "of an installed plugin."
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{pyproject} cannot be read: {error}.") from error
    points = project.get("entry-points", {}).get(ENTRY_POINT_GROUP, {})
    if not isinstance(points, Mapping) or not points:
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


class _NotInstalled(importlib.metadata.Distribution):
    """What the distribution of a folder would be, as far as its pyproject.toml says."""

    def __init__(self, folder: Path, project: Mapping[str, Any], points: Mapping[str, str]) -> None:
        self._folder = folder
        headers = ["Metadata-Version: 2.1", f"Name: {project.get('name', folder.name)}"]
        headers.append(f"Version: {project.get('version', '0')}")
        headers += [f"Requires-Dist: {line}" for line in project.get("dependencies", [])]
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
