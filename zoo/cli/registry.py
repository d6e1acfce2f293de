"""``zoo registry``: what the registry.toml files decide, whether a file is right, and the schema for editors."""

from pathlib import Path
from typing import Any

import click

from zoo.cli.lock import lock_command
from zoo.cli.options import plain_options, print_json
from zoo.errors import PluginError, RegistryError, ZooError
from zoo.registry import Registry, load_registry, registry_schema


@click.group("registry")
def registry_group() -> None:
    """Show and check registry.toml: presets, recipes, pins, allowed and denied plugins."""


@registry_group.command("show")
@plain_options
def show_command(registry: Path | None, as_json: bool, traceback: bool) -> None:
    """Show every decision, and the file and line that made it; later files decide over earlier ones."""
    from zoo.console import printable, table

    found = load_registry(registry).explain()
    if as_json:
        print_json(found)
        return
    click.echo("files, the deciding one last")
    for path in found["files"]:
        click.echo(f"  {printable(path)}")
    for title, rows, headers in (
        ("discovery", _discovery(found), ["key", "value", "decided by"]),
        ("plugins", _pins(found), ["plugin", "distribution", "version", "module", "decided by"]),
        ("presets", _presets(found), ["preset", "base", "decides too", "decided by"]),
        ("recipes", _recipes(found), ["recipe", "phases", "decided by"]),
    ):
        if rows:
            click.echo("")
            table(rows, headers, title=title)


@registry_group.command("validate")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.option("--traceback", is_flag=True, hidden=True)
def validate_command(file: Path | None, as_json: bool, traceback: bool) -> None:
    """Check FILE, or all files that apply here: keys, values, and that its presets lead to architectures.

    Leaves with exit code 2 when something is wrong. A plugin that fails is no fault of the file: it is only named.
    """
    from zoo.console import printable
    from zoo.plugins import Plugins

    found = load_registry(file, working_folder=file.absolute().parent) if file is not None else load_registry()
    plugins = Plugins(found)
    wrong, unknown = [], []
    for name in _stated(found, file):
        try:
            plugins.resolve(name)
        except PluginError as error:
            unknown.append(f"presets.{name} cannot be followed: {error}")
        except ZooError as error:
            wrong.append(f"{found.presets[name].origin}: presets.{name}: {error}")
    if as_json:
        print_json({"files": [str(path) for path in found.files], "errors": wrong, "warnings": unknown})
    for text in unknown:
        click.echo(f"warning: {printable(text)}", err=True)
    if wrong:
        raise RegistryError("\n".join(wrong))
    if not as_json:
        for path in [file] if file is not None else found.files:
            click.echo(f"{printable(path)}: right")


@registry_group.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of registry.toml, for editors that complete and check as you type."""
    print_json(registry_schema())


def _stated(registry: Registry, file: Path | None) -> list[str]:
    """Presets that a file states, or all of them."""
    if file is None:
        return sorted(registry.presets)
    return sorted(name for name in registry.presets if registry.origin(f"presets.{name}") == file.absolute())


def _discovery(found: dict[str, Any]) -> list[list[object]]:
    return [[key, _shown(row["value"]), row["origin"]] for key, row in found["discovery"].items()]


def _pins(found: dict[str, Any]) -> list[list[object]]:
    return [
        [name, pin["distribution"] or None, pin["version"] or None, pin["module"] or None, pin["origin"]]
        for name, pin in found["plugins"].items()
    ]


def _presets(found: dict[str, Any]) -> list[list[object]]:
    rows: list[list[object]] = []
    for name, preset in found["presets"].items():
        more = [f"{key}={preset[key]}" for key in ("num_classes", "weights", "recipe") if preset[key] not in (None, "")]
        more += [f"{key}={_shown(value)}" for key, value in preset["options"].items()]
        rows.append([name, preset["base"], ", ".join(more) or None, preset["origin"]])
    return rows


def _recipes(found: dict[str, Any]) -> list[list[object]]:
    return [
        [name, "; ".join(f"{phase['epochs']} × {phase['train']}" for phase in recipe["phases"]), recipe["origin"]]
        for name, recipe in found["recipes"].items()
    ]


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value).lower()


registry_group.add_command(lock_command)
