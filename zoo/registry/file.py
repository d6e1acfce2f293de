"""One registry.toml: read it safely and decode it strictly.

Every error names the file, the line where a text scan finds it, the dotted key and what would be allowed.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from zoo.architecture import OptionValue
from zoo.decoding import Misfit, T, shown, strict
from zoo.errors import RegistryError
from zoo.names import is_name
from zoo.recipes import Recipe, never_reached
from zoo.registry.tables import (
    Discovery,
    FileTable,
    PluginPin,
    PluginTable,
    Preset,
    PresetTable,
    RecipeTable,
    decode_phase,
)
from zoo.registry.toml_file import TomlFile, read_toml_file
from zoo.registry.toml_lines import Key

SCHEMA = 1
_TABLES = ("discovery", "presets", "plugins", "recipes")
_WEIGHT_FILE = re.compile(r"[/\\]|\.(safetensors|pth|pt|bin)$", re.IGNORECASE)


@dataclass(frozen=True)
class RegistryFile:
    """The decoded content of one file.

    Attributes:
        source: The file itself, and where its keys stand.
        discovery: The table of that name.
        presets: By name.
        plugins: By name.
        recipes: By name.
    """

    source: TomlFile
    discovery: Discovery
    presets: Mapping[str, Preset]
    plugins: Mapping[str, PluginPin]
    recipes: Mapping[str, Recipe]

    def place(self, *key: str | int) -> str:
        """``file:line`` of a key, or the file alone when the line is not found."""
        return self.source.place(key)


def read_registry_file(path: Path, *, modules_allowed: bool) -> RegistryFile:
    """Read and decode one file.

    Args:
        path: A regular file of at most 1 MiB of UTF-8.
        modules_allowed: False for a file that merely lies in the working directory: it may not name a module to import.

    Raises:
        RegistryError: The file cannot be read, is not TOML, or something in it is unknown or not allowed.
    """
    source = read_toml_file(path, error=RegistryError)
    return _Decoder(source).decode(source.content, modules_allowed=modules_allowed)


class _Decoder:
    """Decodes table after table, so that an error has its whole key."""

    def __init__(self, source: TomlFile) -> None:
        self.source = source

    def decode(self, content: dict[str, Any], *, modules_allowed: bool) -> RegistryFile:
        schema = content.get("schema", SCHEMA)
        if type(schema) is not int or schema != SCHEMA:
            newer = isinstance(schema, int) and schema > SCHEMA
            advice = "; a newer zoo wrote it: pip install -U torch-zoo" if newer else ""
            raise self.error(("schema",), f"{shown(schema)} is not {SCHEMA}, the one this zoo reads{advice}")
        whole = {key: {} if key in _TABLES else value for key, value in content.items()}
        self._strict(whole, FileTable, ())
        presets, plugins, recipes = (self._named_tables(content, name) for name in ("presets", "plugins", "recipes"))
        return RegistryFile(
            source=self.source,
            discovery=self._strict(content.get("discovery", {}), Discovery, ("discovery",)),
            presets={name: self._preset(name, table) for name, table in presets.items()},
            plugins={name: self._pin(name, table, modules_allowed) for name, table in plugins.items()},
            recipes={name: self._recipe(name, table) for name, table in recipes.items()},
        )

    def error(self, key: Key, text: str) -> RegistryError:
        return RegistryError(self.source.problem(key, text))

    def _strict(self, table: object, kind: type[T], key: Key) -> T:
        try:
            return strict(table, kind)
        except Misfit as misfit:
            raise self.error((*key, *misfit.path), misfit.text) from None

    def _named_tables(self, content: Mapping[str, Any], kind: str) -> dict[str, Any]:
        tables = content.get(kind, {})
        if not isinstance(tables, dict):
            raise self.error((kind,), f"{shown(tables)} is not a table; write [{kind}.NAME]")
        for name in tables:
            if not is_name(name):
                raise self.error(
                    (kind, name),
                    "a name is made of letters, digits, '_', '-' and '.', and starts with one of the first two",
                )
        return tables

    def _preset(self, name: str, table: object) -> Preset:
        key = ("presets", name)
        options: dict[str, OptionValue] = {}
        if isinstance(table, dict) and isinstance(table.get("options"), dict):
            options = {k: self._option(v, (*key, "options", k)) for k, v in table["options"].items()}
        preset = self._strict(table, PresetTable, key)
        if preset.sha256 is not None and preset.weights is None:
            raise self.error((*key, "sha256"), "a hash needs the weights it belongs to; add weights = …")
        return Preset(
            name=name,
            base=preset.base,
            num_classes=preset.num_classes,
            weights=None if preset.weights is None else self._weights(preset.weights, (*key, "weights")),
            sha256=(preset.sha256 or "").lower(),
            recipe=preset.recipe or "",
            options=options,
            origin=self.source.place(key),
        )

    def _option(self, value: object, key: Key) -> OptionValue:
        if isinstance(value, list) and all(type(number) is int for number in value):
            return tuple(value)
        if not isinstance(value, bool | int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
            raise self.error(
                key, f"{shown(value)} is not a value of an option: true, false, a finite number, text or whole numbers"
            )
        return value

    def _weights(self, weights: str, key: Key) -> str:
        """A tag as it is; a file as an absolute path that stays in this file's folder."""
        if not _WEIGHT_FILE.search(weights):
            if not is_name(weights):
                raise self.error(key, f"{shown(weights)} is neither a tag nor a file's path")
            return weights
        folder = self.source.path.resolve().parent
        advice = f"give a path inside {folder}, with / between folders"
        outside = PurePosixPath(weights).is_absolute() or PureWindowsPath(weights).drive or "\\" in weights
        if outside or not weights.isprintable() or ".." in PurePosixPath(weights).parts:
            raise self.error(key, f"{shown(weights)} may leave this file's folder: {advice}")
        try:
            path = (folder / weights).resolve()
        except (OSError, RuntimeError) as error:
            raise self.error(key, f"{shown(weights)} cannot be followed ({error}): {advice}") from error
        if not path.is_relative_to(folder):
            raise self.error(key, f"{shown(weights)} leads to {path}, out of this file's folder: {advice}")
        if path.exists() and not path.is_file():
            raise self.error(key, f"{shown(weights)} is not a file")
        return str(path)

    def _pin(self, name: str, table: object, modules_allowed: bool) -> PluginPin:
        key = ("plugins", name)
        pin = self._strict(table, PluginTable, key)
        if pin.module and not modules_allowed:
            raise self.error(
                (*key, "module"),
                "a file found in the working directory may not name code to import; "
                f"if you trust it, pass it by name: --registry {self.source.path.name}",
            )
        if pin.version:
            from packaging.specifiers import InvalidSpecifier, SpecifierSet

            try:
                SpecifierSet(pin.version)
            except InvalidSpecifier as error:
                raise self.error(
                    (*key, "version"), f'{shown(pin.version)} is not a range of versions such as ">=0.1,<1"'
                ) from error
        return PluginPin(name, distribution=pin.distribution, version=pin.version, module=pin.module)

    def _recipe(self, name: str, table: object) -> Recipe:
        key = ("recipes", name)
        recipe = self._strict(table, RecipeTable, key)
        phases = []
        for position, phase in enumerate(recipe.phases):
            try:
                decoded = decode_phase(phase, written=phase)
                if idle := never_reached(decoded):
                    raise Misfit((), idle)
                phases.append(decoded)
            except Misfit as misfit:
                raise self.error((*key, "phases", position, *misfit.path), misfit.text) from None
        return Recipe(name=name, phases=tuple(phases))
