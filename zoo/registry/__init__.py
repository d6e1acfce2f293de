"""registry.toml: which plugins, weights, presets and recipes a team chose.

The file holds choices, never code. Several are laid over each other, the later ones deciding: the one that ships with
zoo, the one in the user's configuration folder, ``./registry.toml``, and the one named by ``--registry`` or
``$ZOO_REGISTRY``. ``deny`` adds up over the files; of everything else a later file replaces whole keys: one preset, one
recipe, one pin, the list ``allow``. A file that merely lies in the working directory may not name code to import, and
it can narrow what the files before it allow, never widen it.
"""

import dataclasses
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from zoo.decoding import Misfit
from zoo.errors import OptionError, RegistryError, UnknownNameError, did_you_mean
from zoo.names import canonical
from zoo.recipes import Phase, Recipe
from zoo.registry.file import RegistryFile, read_registry_file
from zoo.registry.tables import FileTable, PluginPin, Preset, decode_phase, phase_table

__all__ = [
    "PluginPin",
    "Preset",
    "Registry",
    "load_registry",
    "phase_data",
    "registry_schema",
    "shipped_registry",
    "validate_phase",
]

_FILE_NAME = "registry.toml"


@dataclass(frozen=True)
class Registry:
    """All files laid over each other.

    Attributes:
        entry_points: False when only plugins named in ``[plugins]`` are used.
        allow: When not empty, only these plugins are ever imported.
        deny: Plugins that are never imported; wins over allow.
        presets: By name.
        recipes: By name.
        plugins: Pins by the plugin's name.
        files: The files that were read, the deciding one last.
        places: The file and line that decided a dotted key, for example ``"presets.resnet50"``.
    """

    entry_points: bool
    allow: tuple[str, ...]
    deny: frozenset[str]
    presets: Mapping[str, Preset]
    recipes: Mapping[str, Recipe]
    plugins: Mapping[str, PluginPin]
    files: tuple[Path, ...]
    places: Mapping[str, tuple[Path, str]]

    def origin(self, dotted_key: str) -> Path:
        """The file that decided a key.

        Args:
            dotted_key: ``presets.NAME``, ``recipes.NAME``, ``plugins.NAME``, ``discovery.allow``,
                ``discovery.entry_points`` or ``discovery.deny.NAME``.

        Raises:
            UnknownNameError: No file states the key.
        """
        return self._decided(dotted_key)[0]

    def place(self, dotted_key: str) -> str:
        """``file:line`` that decided a key, as :meth:`origin` takes it; the file alone where no line is found.

        Raises:
            UnknownNameError: No file states the key.
        """
        return self._decided(dotted_key)[1]

    def recipe(self, name: str) -> Recipe:
        """The recipe of that name; one that ships with zoo is not strict.

        Raises:
            UnknownNameError: There is none; close matches are offered.
        """
        if name in self.recipes:
            own = self.origin(f"recipes.{name}") != shipped_registry()
            return dataclasses.replace(self.recipes[name], strict=own)
        known = ", ".join(sorted(self.recipes))
        raise UnknownNameError(f"no recipe is called {name!r}; there are {known}.{did_you_mean(name, self.recipes)}")

    def allows(self, plugin: str) -> bool:
        """Whether the allow-list and the deny-list let this plugin be imported; ``-``, ``_`` and case do not matter."""
        asked = canonical(plugin)
        if asked in {canonical(name) for name in self.deny}:
            return False
        return not self.allow or asked in {canonical(name) for name in self.allow}

    def explain(self) -> dict[str, Any]:
        """Everything that was decided and where, as data for ``zoo registry show``."""
        discovery = {"entry_points": self.entry_points, "allow": list(self.allow), "deny": sorted(self.deny)}
        return {
            "files": [str(path) for path in self.files],
            "discovery": {
                name: {"value": value, "origin": self.places[f"discovery.{name}"][1]}
                for name, value in discovery.items()
                if f"discovery.{name}" in self.places
            },
            "presets": {name: dataclasses.asdict(preset) for name, preset in sorted(self.presets.items())},
            "plugins": {
                name: {**dataclasses.asdict(pin), "origin": self.place(f"plugins.{name}")}
                for name, pin in sorted(self.plugins.items())
            },
            "recipes": {
                name: {
                    "phases": [phase_data(phase) for phase in recipe.phases],
                    "origin": self.place(f"recipes.{name}"),
                }
                for name, recipe in sorted(self.recipes.items())
            },
        }

    def _decided(self, dotted_key: str) -> tuple[Path, str]:
        if dotted_key in self.places:
            return self.places[dotted_key]
        raise UnknownNameError(f"no registry file states {dotted_key!r}.{did_you_mean(dotted_key, self.places)}")


def load_registry(explicit: Path | None = None, *, working_folder: Path | None = None) -> Registry:
    """Read all files and lay them over each other.

    Args:
        explicit: The file of ``--registry``; None means the one that ``$ZOO_REGISTRY`` names, if any.
        working_folder: Where ``registry.toml`` is looked for; None means the current folder.

    Raises:
        RegistryError: A file cannot be read or something in it is not allowed, or the explicit file does not exist.
    """
    if explicit is None and os.environ.get("ZOO_REGISTRY"):
        explicit = Path(os.environ["ZOO_REGISTRY"]).expanduser()
    shipped, user = shipped_registry(), _user_file()
    layers = _Layers()
    layers.add(read_registry_file(shipped, modules_allowed=True))
    if user is not None and os.path.lexists(user):
        layers.add(read_registry_file(user, modules_allowed=True))
    with suppress(FileNotFoundError):  # the current folder was deleted
        found = (working_folder or Path.cwd()).absolute() / _FILE_NAME
        trusted = [path for path in (shipped, user, explicit) if path is not None]
        if os.path.lexists(found) and not any(_same_file(found, path) for path in trusted):
            layers.add(read_registry_file(found, modules_allowed=False), narrows=True)
    if explicit is not None:
        layers.add(read_registry_file(explicit.absolute(), modules_allowed=True))
    return layers.registry()


def shipped_registry() -> Path:
    """The file that ships with zoo: beside this module in a wheel, at the repository's root in an editable install.

    Raises:
        RegistryError: It is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package, package.parent):
        if (folder / _FILE_NAME).is_file():
            return folder / _FILE_NAME
    raise RegistryError(
        f"{package / _FILE_NAME} is missing from this installation: pip install --force-reinstall torch-zoo."
    )


def validate_phase(phase: Phase, where: str, *, written: Collection[str] = ()) -> None:
    """Check a phase made in Python by the rules of the file.

    Args:
        phase: What to check.
        where: What the message names, for example ``"phase 1 of recipe 'mine'"``.
        written: Keys that the user wrote, besides those whose values are not the defaults.

    Raises:
        OptionError: A value has another type, lies outside its range, or would do nothing.
    """
    try:
        decode_phase(phase_data(phase), written=written)
    except Misfit as misfit:
        place = ": ".join([where, ".".join(map(str, misfit.path))] if misfit.path else [where])
        raise OptionError(f"{place}: {misfit.text.removesuffix('.')}.") from None


def phase_data(phase: Phase) -> dict[str, Any]:
    """A phase as it is written in TOML or JSON: ``"none"`` stands for None."""
    values = {field.name: getattr(phase, field.name) for field in dataclasses.fields(phase)}
    return {name: "none" if value is None else value for name, value in values.items()}


def registry_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of registry.toml, for editors."""
    (root, phase), definitions = msgspec.json.schema_components((FileTable, phase_table()))
    definitions["RecipeTable"]["properties"]["phases"]["items"] = phase
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": definitions}


class _Layers:
    """Files laid over each other, one by one."""

    def __init__(self) -> None:
        self.files: list[RegistryFile] = []
        self.entry_points = True
        self.allow: tuple[str, ...] = ()
        self.deny: set[str] = set()
        self.presets: dict[str, Preset] = {}
        self.recipes: dict[str, Recipe] = {}
        self.plugins: dict[str, PluginPin] = {}
        self.places: dict[str, tuple[Path, str]] = {}

    def add(self, file: RegistryFile, *, narrows: bool = False) -> None:
        """Lay one more file on top; one that ``narrows`` must not let more plugins be imported than before."""
        self.files.append(file)
        discovery = file.discovery
        if isinstance(discovery.entry_points, bool):
            if narrows and discovery.entry_points and not self.entry_points:
                raise self._widens(file, "entry_points")
            self.entry_points = discovery.entry_points
            self._decide(file, "discovery", "entry_points")
        if isinstance(discovery.allow, list):
            before = {canonical(name) for name in self.allow}
            after = {canonical(name) for name in discovery.allow}
            if narrows and before and not (after and after <= before):
                raise self._widens(file, "allow")
            self.allow = tuple(discovery.allow)
            self._decide(file, "discovery", "allow")
        if discovery.deny:
            self._decide(file, "discovery", "deny")
        for name in discovery.deny:
            self.deny.add(name)
            self.places.setdefault(f"discovery.deny.{name}", (file.source.path, file.place("discovery", "deny")))
        self.presets.update(file.presets)
        self.recipes.update(file.recipes)
        self.plugins.update(file.plugins)
        for kind, names in (("presets", file.presets), ("recipes", file.recipes), ("plugins", file.plugins)):
            for name in names:
                self._decide(file, kind, name)

    def registry(self) -> Registry:
        """All of them together.

        Raises:
            RegistryError: A preset names a recipe that no file defines.
        """
        for name, preset in self.presets.items():
            if preset.recipe and preset.recipe not in self.recipes:
                raise RegistryError(
                    f"{preset.origin}: presets.{name}.recipe: no recipe is called {preset.recipe!r}; there are "
                    f"{', '.join(sorted(self.recipes))}.{did_you_mean(preset.recipe, self.recipes)}"
                )
        return Registry(
            entry_points=self.entry_points,
            allow=self.allow,
            deny=frozenset(self.deny),
            presets=self.presets,
            recipes=self.recipes,
            plugins=self.plugins,
            files=tuple(file.source.path for file in self.files),
            places=self.places,
        )

    def _decide(self, file: RegistryFile, *key: str) -> None:
        self.places[".".join(key)] = (file.source.path, file.place(*key))

    def _widens(self, file: RegistryFile, key: str) -> RegistryError:
        return RegistryError(
            f"{file.place('discovery', key)}: discovery.{key}: a file found in the working directory may not let more "
            f"plugins be imported than {self.places[f'discovery.{key}'][1]} does; remove the line, or if you trust the "
            f"file pass it by name: --registry {file.source.path.name}."
        )


def _user_file() -> Path | None:
    try:
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    except RuntimeError:  # no home folder, as in some containers
        return None
    return folder / "zoo" / _FILE_NAME


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
