"""Find the plugins, decide which may be used, and ask the one that owns a name.

No plugin is imported here until its model is wanted: facts that are not kept on disk from an earlier time are asked for
in a process of their own. Each plugin fails alone: what is wrong with it is on its record, and raised when it is asked
for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from zoo.architecture import Architecture
from zoo.decoding import shown
from zoo.errors import (
    BrokenPluginError,
    IncompatiblePluginError,
    OptionError,
    PluginConflictError,
    PluginError,
    UnknownNameError,
    UsageError,
    ZooError,
    did_you_mean,
)
from zoo.names import canonical, is_name
from zoo.plugins.entry_points import (
    ENTRY_POINT_GROUP,
    OWN_DISTRIBUTION,
    EntryPoint,
    Installed,
    find_entry_points,
    from_metadata,
)
from zoo.plugins.facts import A, Facts, Listed, facts_key, listed, read_facts, write_facts
from zoo.plugins.places import check_place, installation_problem
from zoo.plugins.records import Plugin, PluginState, PluginTrace, plugin_records

if TYPE_CHECKING:
    import importlib.metadata

    from zoo.plugins.hooks import PluginHooks
    from zoo.registry import Preset, Registry

__all__ = ["Plugin", "PluginState", "Plugins", "Resolved"]

T = TypeVar("T")
_ERRORS: dict[PluginState, type[ZooError]] = {
    PluginState.disabled: UsageError,
    PluginState.conflict: PluginConflictError,
    PluginState.broken: BrokenPluginError,
    PluginState.incompatible: IncompatiblePluginError,
}


@dataclasses.dataclass(frozen=True)
class Resolved:
    """What a name stands for.

    Attributes:
        architecture: The architecture.
        preset: The preset of that name, when it was one.
    """

    architecture: Architecture
    preset: Preset | None = None


class Plugins:
    """All plugins that are installed or named by a registry; holds what was loaded, so make one and keep it."""

    def __init__(
        self, registry: Registry, *, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None
    ) -> None:
        """Look for plugins, importing none.

        Args:
            registry: What may be used.
            entry_points: Use these in place of the installed ones.
        """
        self.registry = registry
        installed = find_entry_points(ENTRY_POINT_GROUP)
        if entry_points is not None:
            installed = Installed(from_metadata(entry_points), installed.versions)
        self._installed = installed
        self._records = {record.name: record for record in plugin_records(registry, installed.entry_points)}
        self._errors: dict[str, ZooError] = {}
        self._facts: dict[str, tuple[Architecture, ...]] = {}
        self._hooks: dict[str, PluginHooks] = {}
        self._placed: set[str] = set()
        self._followers: set[str] = set()

    def records(self) -> tuple[Plugin, ...]:
        """What is known of every plugin so far, sorted by name; nothing is imported for it."""
        return tuple(self._records[name] for name in sorted(self._records))

    def record(self, plugin_name: str) -> Plugin:
        """What is known of one plugin so far.

        Raises:
            UnknownNameError: There is no plugin of that name.
        """
        if plugin_name in self._records:
            return self._records[plugin_name]
        pin = self.registry.plugins.get(plugin_name)
        if pin is not None and pin.distribution:
            advice = (
                f"{self.registry.place(f'plugins.{plugin_name}')} expects it from {pin.distribution}: "
                f"pip install {shown(pin.distribution + pin.version) if pin.version else pin.distribution}."
            )
        else:
            advice = f"'zoo plugins list' shows all.{did_you_mean(plugin_name, self._records)}"
        raise UnknownNameError(f"no plugin is called {shown(plugin_name)}; {advice}{self._installation_words()}")

    def architectures(self) -> tuple[Architecture, ...]:
        """The facts of all plugins that can be used, by plugin name and then in the plugin's own order.

        Plugins that fail are passed over; their records say why.
        """
        return self._from_all(self.architectures_of)

    def listed(self) -> tuple[Listed, ...]:
        """As :meth:`architectures`, but only what listings show of each, which is faster to read."""
        return self._from_all(self._listed_of)

    def architectures_of(self, plugin_name: str, *, again: bool = False) -> tuple[Architecture, ...]:
        """The facts of one plugin; it is asked where they are not known from an earlier time.

        Args:
            plugin_name: The plugin.
            again: Ask a plugin that failed at an earlier time once more, as whoever needs it wants.

        Raises:
            ZooError: It cannot be used; as for :meth:`hooks`.
        """
        if plugin_name in self._facts:
            return self._facts[plugin_name]
        record = self._sound(plugin_name)
        found = self._kept(record, Architecture)
        if found is None or (found.error and again):
            found = self._ask(record)
            point, key = self._facts_place(record)
            if key is not None:
                write_facts(point, key, self._installed.versions, found)
        self._facts[plugin_name] = self._believed(record, found)
        return self._facts[plugin_name]

    def has_callbacks(self, plugin_name: str) -> bool:
        """Whether a plugin can follow runs; it is asked where that is not known from an earlier time.

        Raises:
            ZooError: It cannot be used; as for :meth:`hooks`.
        """
        self.architectures_of(plugin_name)
        return plugin_name in self._followers

    def resolve(self, name: str) -> Resolved:
        """What a name stands for.

        Args:
            name: A full name ``plugin/architecture``, for which only that plugin is asked; a preset; or the bare name
                of an architecture, for which all plugins are.

        Raises:
            UnknownNameError: There is no such name; close matches are offered.
            UsageError: Several plugins have an architecture of that name, or its plugin is disabled.
            OptionError: The preset's options are none of the architecture's.
            PluginError: The plugin cannot be used.
        """
        parts = name.split("/")
        if len(parts) > 2 or not all(map(is_name, parts)):
            if Path(name).is_file():
                raise UnknownNameError(
                    f"{shown(name)} is a file, not the name of an architecture; to go on from its values, write "
                    f"--model ARCHITECTURE --weights {shown(name)}. 'zoo info' shows an artifact's architecture."
                )
            raise UnknownNameError(
                f"{shown(name)} cannot be the name of an architecture; write plugin/architecture, its bare name or a "
                f"preset, made of letters, digits, '_', '-' and '.'. 'zoo list' shows all names."
            )
        if len(parts) == 2:
            return Resolved(self._full(*parts))
        if preset := self.registry.presets.get(name):
            architecture = self._full(*preset.base.split("/"))
            try:
                architecture.parse_options(preset.options)
            except OptionError as error:
                raise OptionError(f"{preset.origin}: presets.{name}.options: {error}") from error
            return Resolved(architecture, preset)
        return Resolved(self._bare(name))

    def hooks(self, plugin_name: str) -> PluginHooks:
        """The hooks of one plugin; imports it, and no other, where that was not done before.

        Raises:
            UnknownNameError: There is no plugin of that name.
            UsageError: It is disabled.
            BrokenPluginError: It cannot be imported or does not keep the contract.
            IncompatiblePluginError: It was written for another hook API, or is not the pinned version.
            PluginConflictError: Two distributions claim the name.
        """
        record = self._sound(plugin_name)
        if plugin_name not in self._hooks:
            from zoo.plugins.hooks import load_plugin  # with pluggy and more, which listings do without

            try:
                hooks = load_plugin(record, versions=self._installed.versions)
            except PluginError as error:
                self._fail(record, error)
                raise
            self._hooks[plugin_name] = hooks
            self._records[plugin_name] = hooks.record
        return self._hooks[plugin_name]

    def installation_problem(self) -> str:
        """Why zoo's own plugins are not there and what to do; empty when they are."""
        return installation_problem(self._installed.entry_points)

    def _sound(self, plugin_name: str) -> Plugin:
        """The record of a plugin that may be used, and whose module is its distribution's own.

        Raises:
            ZooError: It may not; the class says why, as for :meth:`hooks`.
        """
        record = self.record(plugin_name)
        if plugin_name in self._errors:
            error = self._errors[plugin_name]
            raise type(error)(str(error)) from (error.__cause__ or error)
        if record.state in _ERRORS:
            raise _ERRORS[record.state](record.error)
        if plugin_name not in self._placed:
            try:
                check_place(record, self._installed.entry_points)
            except PluginError as error:
                self._fail(record, error)
                raise
            self._placed.add(plugin_name)
        return record

    def _from_all(self, ask: Callable[[str], tuple[T, ...]]) -> tuple[T, ...]:
        found: list[T] = []
        for record in self.records():
            if record.state not in _ERRORS:
                try:
                    found += ask(record.name)
                except PluginError:  # it is on the record
                    continue
        return tuple(found)

    def _full(self, plugin_name: str, architecture_name: str) -> Architecture:
        architectures = self.architectures_of(plugin_name, again=True)
        for architecture in architectures:
            if architecture.name == architecture_name:
                return architecture
        known = {architecture.name: architecture.full_name for architecture in architectures}
        close = did_you_mean(f"{plugin_name}/{architecture_name}", known.values())
        raise UnknownNameError(
            f"{self._records[plugin_name].label} has no architecture {architecture_name!r}."
            f"{close} 'zoo list {plugin_name}/*' shows those it has."
        )

    def _bare(self, name: str) -> Architecture:
        everything = self.architectures()
        found = [architecture for architecture in everything if architecture.name == name]
        if len(found) == 1:
            return found[0]
        if found:
            listed = " and ".join(repr(architecture.full_name) for architecture in found)
            raise UsageError(f"{name!r} could be {listed}; write one of these full names.")
        names = [
            *self.registry.presets,
            *(architecture.name for architecture in everything),
            *(architecture.full_name for architecture in everything),
        ]
        silent = [record.name for record in self.records() if record.state in _ERRORS and record.name not in names]
        skipped = f" Plugins that could not be asked: {', '.join(silent)} ('zoo plugins list')." if silent else ""
        raise UnknownNameError(
            f"no plugin provides {name!r}.{did_you_mean(name, names)} 'zoo list' shows all names."
            f"{skipped}{self._installation_words()}"
        )

    def _listed_of(self, plugin_name: str) -> tuple[Listed, ...]:
        if plugin_name not in self._facts:
            record = self._sound(plugin_name)
            kept = self._kept(record, Listed)
            if kept is not None:
                return self._believed(record, kept)
        return listed(self.architectures_of(plugin_name))

    def _facts_place(self, record: Plugin) -> tuple[EntryPoint, dict[str, str] | None]:
        point = EntryPoint(
            record.name, record.module, record.distribution, record.version, record.origin, record.requires
        )
        return point, facts_key(point, self._installed.versions)

    def _kept(self, record: Plugin, kind: type[A]) -> Facts[A] | None:
        if record.name in self._hooks:
            return None
        point, key = self._facts_place(record)
        return read_facts(point, key, self._installed.versions, kind) if key is not None else None

    def _ask(self, record: Plugin) -> Facts[Architecture]:
        """Ask a plugin of which nothing is known: zoo's own here, all others where they can do no harm."""
        if canonical(record.distribution) != OWN_DISTRIBUTION and record.name not in self._hooks:
            from zoo.plugins.asking import ask  # it starts processes, which listings of known facts need not wait for

            return ask(record, self._installed.versions)
        hooks = self.hooks(record.name)
        try:
            return Facts(hooks.architectures(), callbacks=hooks.has_callbacks, notes=hooks.import_notes)
        except PluginError as error:
            self._fail(record, error)
            raise

    def _believed(self, record: Plugin, facts: Facts[A]) -> tuple[A, ...]:
        """Put what a plugin answered on its record.

        Raises:
            PluginError: It answered with what is wrong with it.
        """
        if facts.error:
            error = (IncompatiblePluginError if facts.incompatible else BrokenPluginError)(facts.error)
            error.__cause__ = PluginTrace(facts.trace) if facts.trace else None
            self._fail(record, error)
            raise error
        record = self._records[record.name]  # loaded by now, where it was asked in this process
        if facts.callbacks:
            self._followers.add(record.name)
        notes = tuple(dict.fromkeys((*record.notes, *facts.notes)))
        self._records[record.name] = dataclasses.replace(record, notes=notes)
        return facts.architectures

    def _fail(self, record: Plugin, error: PluginError) -> None:
        self._hooks.pop(record.name, None)
        self._errors[record.name] = error
        self._records[record.name] = dataclasses.replace(
            record,
            state=next((state for state, kind in _ERRORS.items() if isinstance(error, kind)), PluginState.broken),
            error=str(error),
            cause=error.__cause__,
        )

    def _installation_words(self) -> str:
        problem = self.installation_problem()
        return f" {problem[0].upper()}{problem[1:]}." if problem else ""
