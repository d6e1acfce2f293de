"""Which plugin names there are, who answers to each, and whether it may be used: all decided before any import."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from enum import StrEnum

from zoo.decoding import shown
from zoo.names import canonical, is_name
from zoo.plugins.entry_points import EntryPoint
from zoo.registry import Registry


class PluginState(StrEnum):
    """What became of a plugin."""

    loaded = "loaded"
    not_loaded = "not loaded"
    disabled = "disabled"
    conflict = "conflict"
    broken = "broken"
    incompatible = "incompatible"


@dataclasses.dataclass(frozen=True)
class Plugin:
    """What is known of one plugin name.

    Attributes:
        name: The part of a full name before the slash.
        distribution: Who provides it; several, separated by commas, in a conflict; empty for a module that a registry
            names.
        version: Of the distribution; empty when there is none.
        module: What is imported: a module, or ``module:attribute``.
        origin: Folder of the distribution's metadata, or the registry's file and line.
        state: What became of it.
        error: Why it cannot be used; empty when it can.
        cause: The exception behind :attr:`error`, when there was one.
        notes: What was noticed about a usable one, for example a slow import.
        requires: What its distribution's metadata says that it needs.
    """

    name: str
    distribution: str
    version: str
    module: str
    origin: str
    state: PluginState = PluginState.not_loaded
    error: str = ""
    cause: BaseException | None = None
    notes: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The plugin with its distribution and version, as messages name it."""
        source = " ".join(part for part in (self.distribution, self.version) if part) or self.module
        return f"plugin {self.name!r} ({source})"


class PluginTrace(Exception):  # noqa: N818  # the cause of an error, never raised itself
    """Where a plugin failed in the process that asked it: the text is Python's traceback of there."""


def plugin_records(registry: Registry, points: Sequence[EntryPoint]) -> list[Plugin]:
    """Decide on every plugin name that a distribution or a registry file states; imports nothing.

    Args:
        registry: What may be used.
        points: The installed entry points.
    """
    claims: dict[str, list[EntryPoint]] = {}
    for point in points:
        others = claims.setdefault(point.name, [])
        if all((point.value, canonical(point.distribution)) != (p.value, canonical(p.distribution)) for p in others):
            others.append(point)
    for name, pin in registry.plugins.items():
        if pin.module:
            origin = registry.place(f"plugins.{name}")
            claims[name] = [EntryPoint(name, pin.module, "", "", origin)]
    return _told_apart(registry, [_record(registry, name, claimants) for name, claimants in claims.items()])


def _told_apart(registry: Registry, records: Sequence[Plugin]) -> list[Plugin]:
    """Refuse names that a person, a file system or a registry's deny takes for one: only a pinned one stays."""
    alike: dict[str, list[Plugin]] = {}
    for record in records:
        if record.state is not PluginState.disabled:
            alike.setdefault(canonical(record.name), []).append(record)
    told = []
    for record in records:
        group = sorted(alike.get(canonical(record.name), ()), key=lambda one: one.name)
        pinned = [one for one in group if one.name in registry.plugins]
        if len(group) > 1 and pinned != [record] and record.state in (PluginState.not_loaded, PluginState.conflict):
            listed = " and ".join(f"{shown(one.name)} of {one.distribution or one.origin}" for one in group)
            record = dataclasses.replace(
                record,
                state=PluginState.conflict,
                error=f"plugin names {listed} differ only in case or in '-', '_' and '.'; uninstall one of them, or "
                f'choose in registry.toml: [plugins.{group[0].name}] distribution = "{group[0].distribution}".',
            )
        told.append(record)
    return told


def _record(registry: Registry, name: str, claimants: Sequence[EntryPoint]) -> Plugin:
    """Decide on one name: who answers to it, and may it be used."""
    pin = registry.plugins.get(name)
    chosen = list(claimants)
    if pin and pin.distribution and not pin.module:
        chosen = [point for point in claimants if canonical(point.distribution) == canonical(pin.distribution)]
    state, error = _verdict(registry, name, claimants, chosen)
    passed_over = [point for point in claimants if chosen and point not in chosen]
    notes = [
        f"{_named([point])} claims the name too; {registry.place(f'plugins.{name}')} decides" for point in passed_over
    ]
    points = chosen or claimants
    one = points[0] if len(points) == 1 else None
    return Plugin(
        name=name,
        distribution=", ".join(dict.fromkeys(point.distribution for point in points)),
        version=one.version if one else "",
        module=one.value if one else "",
        origin=", ".join(dict.fromkeys(point.origin for point in points)),
        state=state,
        error=error,
        notes=tuple(notes),
        requires=one.requires if one else (),
    )


def _verdict(
    registry: Registry, name: str, claimants: Sequence[EntryPoint], chosen: Sequence[EntryPoint]
) -> tuple[PluginState, str]:
    pin = registry.plugins.get(name)
    if why := _disabled(registry, name):
        return PluginState.disabled, f"plugin {shown(name)} is disabled: {why}."
    if not is_name(name):
        return PluginState.broken, (
            f"{_named(claimants)} registers a plugin as {shown(name)}; a name is made of letters, digits, '_', '-' and "
            "'.', and starts with one of the first two."
        )
    if len({canonical(point.distribution) for point in chosen}) > 1:
        return PluginState.conflict, (
            f"plugin {name!r} is claimed by {_named(chosen)}; uninstall one of them, or choose in registry.toml: "
            f'[plugins.{name}] distribution = "{chosen[0].distribution}".'
        )
    if len(chosen) > 1:
        modules = " and ".join(point.value for point in chosen)
        return PluginState.broken, f"{chosen[0].distribution} registers plugin {name!r} twice, as {modules}."
    if pin is None or pin.module:
        return PluginState.not_loaded, ""
    change = f"or change {registry.place(f'plugins.{name}')}"
    if not chosen:
        return PluginState.incompatible, (
            f"plugin {name!r} is to come from {pin.distribution}, and is provided by {_named(claimants)}: "
            f"pip install {pin.distribution}, {change}."
        )
    if pin.version and not _version_allowed(chosen[0].version, pin.version):
        return PluginState.incompatible, (
            f"plugin {name!r} is to be of version {pin.version}, and {_named(chosen)} is installed: "
            f"pip install '{chosen[0].distribution}{pin.version}', {change}."
        )
    return PluginState.not_loaded, ""


def _disabled(registry: Registry, name: str) -> str:
    if any(canonical(denied) == canonical(name) for denied in registry.deny):
        denied = next(denied for denied in sorted(registry.deny) if canonical(denied) == canonical(name))
        return f"{registry.place(f'discovery.deny.{denied}')} denies it"
    if not registry.allows(name):
        return f"{registry.place('discovery.allow')} allows only {', '.join(registry.allow)}"
    if not registry.entry_points and name not in registry.plugins:
        return f"{registry.place('discovery.entry_points')} allows only plugins with a [plugins.NAME] table"
    return ""


def _named(points: Sequence[EntryPoint]) -> str:
    """The distributions, sorted, so that messages do not depend on the order of installation."""
    return " and ".join(sorted({" ".join(filter(None, (point.distribution, point.version))) for point in points}))


def _version_allowed(version: str, allowed: str) -> bool:
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(allowed).contains(version, prereleases=True)
    except InvalidVersion:
        return False
