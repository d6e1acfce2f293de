"""What a plugin's place in this environment says against it, and what to do about that."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from zoo.decoding import shown
from zoo.errors import BrokenPluginError, PluginConflictError
from zoo.names import canonical
from zoo.plugins.belonging import belongs, module_folders
from zoo.plugins.entry_points import ENTRY_POINT_GROUP, OWN_DISTRIBUTION, EntryPoint
from zoo.plugins.records import Plugin


def check_place(plugin: Plugin, points: Iterable[EntryPoint]) -> None:
    """See that a plugin's module is there, and that its distribution put it there, and no other one too.

    Raises:
        BrokenPluginError: The module is not there, or is another distribution's.
        PluginConflictError: Another distribution wrote it too.
    """
    folders = module_folders(plugin.module)
    if not folders:
        raise BrokenPluginError(_absent(plugin))
    if not belongs(Path(plugin.origin), plugin.module, folders):
        raise BrokenPluginError(
            f"{plugin.label}: its module {plugin.module} is not its own: Python finds it in {folders[0]}, where "
            f"another package put it. Rename the module, or uninstall one of the two."
        )
    module, name = plugin.module.partition(":")[0], canonical(plugin.distribution)
    for other in points:
        if not name or canonical(other.distribution) == name or other.value.partition(":")[0] != module:
            continue
        if belongs(Path(other.origin), other.value, folders):
            raise PluginConflictError(
                f"{plugin.label} and plugin {shown(other.name)} of {other.distribution} {other.version} are one "
                f"module, {module}: one distribution has overwritten the other's files. Uninstall one, and reinstall "
                f"the other with pip install --force-reinstall."
            )


def installation_problem(points: Sequence[EntryPoint]) -> str:
    """Why zoo's own plugins are not among the installed ones and what to do; empty when they are."""
    found = {point.name for point in points if canonical(point.distribution) == OWN_DISTRIBUTION}
    root = Path(__file__).resolve().parents[2]
    declared = _declared_plugins(root / "pyproject.toml")
    if not found and declared:
        return f"zoo runs from {root}, which is not installed, so its own plugins are unknown: pip install -e {root}"
    if not found:
        return f"zoo's own plugins are not registered: pip install --force-reinstall {OWN_DISTRIBUTION}"
    if missing := sorted(declared - found):
        listed = ", ".join(missing)
        return f"{root} was installed before it had the plugins {listed}: pip install -e {root}"
    return ""


def _absent(plugin: Plugin) -> str:
    said = f"{plugin.label}: there is no module {shown(plugin.module.partition(':')[0])} on the import path"
    if not plugin.distribution:
        return f"{said}; {plugin.origin} names it."
    return (
        f"{said}, and its entry point names it: pip install --force-reinstall {plugin.distribution}, or, in a package "
        f"of your own, correct the entry point {plugin.name} = {shown(plugin.module)} in its pyproject.toml and "
        f"install it again."
    )


def _declared_plugins(pyproject: Path) -> set[str]:
    """Names of the plugins in a checkout's own pyproject.toml; empty where there is no checkout."""
    try:
        project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
        return set(project["entry-points"][ENTRY_POINT_GROUP]) if project["name"] == OWN_DISTRIBUTION else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()
