"""The tables of registry.toml: what each may hold, as types that decoding and the JSON Schema are made from."""

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from zoo.architecture import OptionValue
from zoo.decoding import END, Misfit, strict
from zoo.names import NAME_PATTERN
from zoo.recipes import Phase, without_effect

_Name = Annotated[str, Meta(pattern=f"^{NAME_PATTERN}{END}")]


@dataclass(frozen=True)
class Preset:
    """A name for an architecture with some things decided; with only a base it is an alias.

    Attributes:
        name: What the user writes.
        base: Full name of the architecture.
        num_classes: Classes of the weights' head; None when not stated.
        weights: A tag of the architecture, or the absolute path of a file in the registry file's folder; None when not
            stated.
        sha256: The weight file's hash, 64 lower-case hex digits; empty when not stated.
        recipe: Name of the recipe to train with; empty when not stated.
        options: Options of the architecture, not yet checked against it.
        origin: The file and line that state it.
    """

    name: str
    base: str
    num_classes: int | None = None
    weights: str | None = None
    sha256: str = ""
    recipe: str = ""
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    origin: str = ""


@dataclass(frozen=True)
class PluginPin:
    """Which distribution may claim a plugin's name, and in which versions. An empty text means that it is not stated.

    Attributes:
        name: The plugin.
        distribution: The one distribution that may provide it.
        version: The versions that may be loaded, as PEP 440 specifiers, for example ``">=0.1,<1"``.
        module: The module to import for a plugin that has no entry point.
    """

    name: str
    distribution: str = ""
    version: str = ""
    module: str = ""


class _Strict(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    pass


class Discovery(_Strict, frozen=True):
    """Which installed plugins may be imported. Deny wins over allow."""

    entry_points: Annotated[
        bool | msgspec.UnsetType, Meta(description="false: only plugins named in [plugins] are used")
    ] = msgspec.UNSET
    allow: Annotated[
        list[_Name] | msgspec.UnsetType, Meta(description="when not empty, only these plugins are ever imported")
    ] = msgspec.UNSET
    deny: Annotated[list[_Name], Meta(description="never imported; adds up over the files")] = []


class PresetTable(_Strict, frozen=True):
    """A name for an architecture with some things decided."""

    base: Annotated[
        str,
        Meta(pattern=f"^{NAME_PATTERN}/{NAME_PATTERN}{END}", description="an architecture's full name, plugin/name"),
    ]
    num_classes: Annotated[int, Meta(ge=1)] | None = None
    weights: Annotated[
        str | None, Meta(description="a tag, or a file in this file's folder, as a relative path with /")
    ] = None
    sha256: (
        Annotated[str, Meta(pattern=f"^[0-9a-fA-F]{{64}}{END}", description="SHA-256 of the weight file")] | None
    ) = None
    recipe: _Name | None = None
    options: dict[str, bool | int | float | str | list[int]] = {}


class PluginTable(_Strict, frozen=True):
    """Pins a plugin to a distribution, its versions or a module."""

    distribution: Annotated[str, Meta(pattern=f"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?{END}")] = ""
    version: Annotated[str, Meta(description='PEP 440 specifiers, for example ">=0.1,<1"')] = ""
    module: Annotated[
        str, Meta(pattern=rf"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*{END}", description="refused in a working-directory file")
    ] = ""


class RecipeTable(_Strict, frozen=True):
    """Training phases, run one after the other."""

    phases: Annotated[list[dict[str, Any]], Meta(min_length=1)]


class FileTable(_Strict, frozen=True):
    """zoo's choices: which plugins, weights, presets and recipes are used."""

    schema: Annotated[Literal[1], Meta(description="version of this file's format")] = 1
    discovery: Discovery = Discovery()
    presets: dict[str, PresetTable] = {}
    plugins: dict[str, PluginTable] = {}
    recipes: dict[str, RecipeTable] = {}


@cache
def phase_table() -> type[msgspec.Struct]:
    """The structure that phases are decoded by, made from :class:`zoo.recipes.Phase`; ``"none"`` stands for None."""
    fields: list[Any] = []
    for phase_field in dataclasses.fields(Phase):
        kind: Any = phase_field.type
        if type(None) in get_args(kind):
            kind = get_args(kind)[0] | Literal["none"]
        if phase_field.default is dataclasses.MISSING:
            fields.append((phase_field.name, kind))
        else:
            default = "none" if phase_field.default is None else phase_field.default
            fields.append((phase_field.name, kind, default))
    return msgspec.defstruct("Phase", fields, forbid_unknown_fields=True, frozen=True, kw_only=True)


def decode_phase(table: object, *, written: Collection[str] = ()) -> Phase:
    """One phase from data, as it stands in TOML.

    Args:
        table: Keys and values.
        written: Keys that the user wrote: none of them may be without effect, even if its value is the default.

    Raises:
        Misfit: A key is unknown or missing, a value is out of its range, or one would have no effect.
    """
    decoded = msgspec.structs.asdict(strict(table, phase_table()))
    optional = {f.name for f in dataclasses.fields(Phase) if type(None) in get_args(f.type)}
    values: dict[str, Any] = {
        name: None if name in optional and value == "none" else value for name, value in decoded.items()
    }
    phase = Phase(**values)
    if idle := without_effect(phase, written):
        raise Misfit((), idle)
    return phase
