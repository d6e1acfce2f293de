"""Why a name means what it means: the file, line, preset, plugin and distribution that decided."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec

from zoo.errors import UnknownNameError, ZooError
from zoo.plugins import Plugin, Plugins
from zoo.registry import Preset


@dataclass(frozen=True)
class Origin:
    """One thing that had a part in it.

    Attributes:
        what: What kind of thing, for example ``"preset"``.
        text: What it decided, and where it is written.
    """

    what: str
    text: str


def origins_of(plugins: Plugins, name: str) -> tuple[Origin, ...]:
    """What a name stands for and who decided that, in the order in which zoo looks.

    Args:
        plugins: What there is to choose from; only the plugins that the name leads to are asked.
        name: A preset, a full name ``plugin/architecture``, the bare name of an architecture, or a plugin.

    Raises:
        UnknownNameError: It is none of them.
    """
    known = {record.name for record in plugins.records()}
    preset = plugins.registry.presets.get(name)
    if preset is None and name in known:
        with suppress(ZooError):  # it is on the record
            plugins.architectures_of(name, again=True)
        return tuple(_of_plugin(plugins, name))
    found = list(_of_preset(preset)) if preset is not None else []
    try:
        architecture = plugins.resolve(name).architecture
    except ZooError as error:
        owner = (preset.base if preset is not None else name).partition("/")[0]
        if owner not in known or (preset is None and "/" not in name):
            if preset is None:
                raise
            return (*found, Origin("problem", str(error)))
        return (*found, Origin("problem", str(error)), *_of_plugin(plugins, owner))
    text = f"{architecture.full_name}, of the family {architecture.family}"
    if preset is None and "/" not in name:
        text += "; the only plugin with an architecture of that name"
    found.append(Origin("architecture", text))
    if preset is not None and name in known and architecture.plugin != name:
        found.append(Origin("not meant", f"the plugin of the same name: a preset goes before it ('zoo list {name}/*')"))
    return (*found, *_of_plugin(plugins, architecture.plugin))


def _of_preset(preset: Preset) -> Iterator[Origin]:
    more = [
        f"{key} = {value}"
        for key, value in (
            ("num_classes", preset.num_classes),
            ("weights", preset.weights),
            ("recipe", preset.recipe),
            *((f"options.{key}", value) for key, value in preset.options.items()),
        )
        if value
    ]
    yield Origin("preset", f"{preset.origin}: base = {', '.join([preset.base, *more])}")


def _of_plugin(plugins: Plugins, name: str) -> Iterator[Origin]:
    record, registry = plugins.record(name), plugins.registry
    yield Origin("plugin", f"{record.name}, {record.state}")
    if record.error:
        yield Origin("problem", record.error)
    yield Origin("distribution", " ".join(filter(None, (record.distribution, record.version))) or "none")
    yield Origin("registered in", record.origin)
    yield Origin("module", f"{record.module}{_file(record)}" if record.module else "not decided: several are claimed")
    for key, text in (
        (f"plugins.{name}", "pins it"),
        (f"discovery.deny.{name}", "denies it"),
        ("discovery.allow", "allows only " + ", ".join(registry.allow)),
        ("discovery.entry_points", "decides whether plugins without a [plugins.NAME] table are used"),
    ):
        try:
            if key != "discovery.allow" or registry.allow:
                yield Origin("registry", f"{registry.place(key)}: {key} {text}")
        except UnknownNameError:
            continue
    for note in record.notes:
        yield Origin("note", note)


def _file(record: Plugin) -> str:
    """Where the module's top package lies, found without importing it."""
    try:
        spec = find_spec(record.module.partition(":")[0].partition(".")[0])
    except (ImportError, ValueError):
        return ""
    return f" in {spec.origin}" if spec is not None and spec.origin else ", which is not on the import path"
