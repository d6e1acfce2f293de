"""``zoo plugins``: what is installed, whether it keeps the contract, who decides a name, and how to begin one."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from zoo.cli.options import json_option, plain_options, print_json, registry_option
from zoo.decoding import shown
from zoo.errors import PluginError
from zoo.files import cache_folder
from zoo.plugins.catalogue import open_plugins

_SIGNAL_EXIT = 128


@click.group("plugins")
def plugins_group() -> None:
    """List, check, explain and begin plugins: the packages that provide architectures."""


@plugins_group.command("list")
@plain_options
def list_plugins(registry: Path | None, as_json: bool, traceback: bool) -> None:
    """Show every plugin: its state, where it comes from, and what is wrong with it."""
    from zoo.console import printable, table

    plugins = open_plugins(registry)
    counts = Counter(architecture.plugin for architecture in plugins.listed())
    records = plugins.records()
    if as_json:
        print_json([_row(record, counts[record.name]) for record in records])
        return
    table(
        [[r.name, r.state, r.distribution or None, r.version or None, counts[r.name], r.origin] for r in records],
        ["plugin", "state", "distribution", "version", "architectures", "origin"],
    )
    for record in records:
        if record.error:
            click.echo(f"{shown(record.name)} ({record.state}): {printable(record.error)}")
        for note in record.notes:
            click.echo(f"{printable(record.name)}: {printable(note)}", err=True)
    if problem := plugins.installation_problem():
        click.echo(f"{problem[0].upper()}{problem[1:]}", err=True)
    click.echo("Plugins are code: importing one runs it, and an allow-list is no sandbox.", err=True)


@plugins_group.command("check")
@click.argument("target", metavar="NAME|PATH")
@click.option("--architecture", "architectures", multiple=True, help="Check this one; repeatable.")
@click.option("--all", "everything", is_flag=True, help="Check every architecture, not only the smallest of each kind.")
@registry_option
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Print results and errors only.")
@click.option("--traceback", is_flag=True, help="Show where failures came from.")
@click.option("--in-process", "ended", type=click.Path(path_type=Path), hidden=True)
@click.pass_context
def check_command(
    context: click.Context,
    target: str,
    architectures: tuple[str, ...],
    everything: bool,
    registry: Path | None,
    as_json: bool,
    quiet: bool,
    traceback: bool,
    ended: Path | None,
) -> None:
    """Run the conformance kit on a plugin: an installed one by its NAME, or the package in the folder PATH.

    Leaves with exit code 4 when a check fails.
    """
    from zoo.console import ConsoleProgress, printable
    from zoo.testing.sources import find_plugins

    if ended is None:
        context.exit(_checked_apart(context, target))
    plugins, names = find_plugins(target, registry)
    from zoo.testing.kit import Kit  # it takes seconds, which a wrong name need not wait for

    wanted = "all" if everything else architectures or None
    reports = {
        name: Kit(plugins, name, architectures=wanted).report(progress=ConsoleProgress(quiet=quiet)) for name in names
    }
    if as_json:
        print_json({name: report.data() for name, report in reports.items()})
    else:
        for report in reports.values():
            click.echo(printable(report.text(), keep_newlines=True))
    for result in [result for report in reports.values() for result in report.failures()]:
        if traceback and result.cause is not None:
            import traceback as tracebacks

            tracebacks.print_exception(result.cause)
    ended.touch()
    failed = {name: len(report.failures()) for name, report in reports.items() if not report.passed}
    if failed:
        counted = ", ".join(f"{name} fails {count}" for name, count in failed.items())
        raise PluginError(f"{counted} of the kit's checks.")


def _checked_apart(context: click.Context, target: str) -> int:
    """Run the same command in a process of its own, which the plugin may end; its exit code.

    Raises:
        PluginError: The process ended before the checks did.
    """
    words = [word for option in _given(context) for word in option]
    with TemporaryDirectory(prefix="zoo-check-", ignore_cleanup_errors=True) as folder:
        ended = Path(folder, "ended")
        command = [sys.executable, "-m", "zoo", "plugins", "check", *words, "--in-process", str(ended), "--", target]
        code = subprocess.run(command).returncode
        if code == 0 and not ended.exists():
            raise PluginError(
                f"the process that checked {shown(target)} was ended before its checks were, by the plugin itself, for "
                "example with os._exit: it must raise errors instead."
            )
    return code if code >= 0 else _SIGNAL_EXIT - code


def _given(context: click.Context) -> Iterator[tuple[str, ...]]:
    """The options of a command as they were given."""
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if not isinstance(parameter, click.Option) or parameter.hidden or not value:
            continue
        if parameter.is_flag:
            yield (parameter.opts[0],)
        else:
            yield from ((parameter.opts[0], str(one)) for one in (value if parameter.multiple else [value]))


@plugins_group.command("why")
@click.argument("name")
@plain_options
def why_command(name: str, registry: Path | None, as_json: bool, traceback: bool) -> None:
    """Say what NAME stands for, and which file, line, preset, plugin and distribution decided it."""
    from zoo.console import printable
    from zoo.plugins.origins import origins_of

    found = origins_of(open_plugins(registry), name)
    if as_json:
        print_json({"name": name, "steps": [{"what": step.what, "text": step.text} for step in found]})
        return
    width = max(len(step.what) for step in found)
    for step in found:
        click.echo(f"{step.what:<{width}}  {printable(step.text)}")


@plugins_group.command("new")
@click.argument("name")
@click.option("--output", type=click.Path(path_type=Path), help="Folder to make.  [default: zoo-NAME]")
@json_option
@click.option("--traceback", is_flag=True, hidden=True)
def new_command(name: str, output: Path | None, as_json: bool, traceback: bool) -> None:
    """Begin a plugin package called NAME: facts, hooks, a network, a test that runs the kit, and a CI workflow."""
    from zoo.plugins.scaffold import new_plugin

    made = new_plugin(name, output)
    if as_json:
        print_json({"folder": str(made.folder), "files": [str(path) for path in made.files]})
        return
    for path in made.files:
        click.echo(f"  {made.folder / path}")
    click.echo(
        f"next  zoo plugins check {made.folder}\n"
        f"      pip install -e {made.folder}\n"
        f"      zoo finetune PHOTOS --model {made.architecture}"
    )


@plugins_group.command("refresh")
@plain_options
def refresh_command(registry: Path | None, as_json: bool, traceback: bool) -> None:
    """Forget the facts that zoo keeps of plugins, and ask each plugin again."""
    from zoo.console import printable, table

    shutil.rmtree(cache_folder() / "facts", ignore_errors=True)
    plugins = open_plugins(registry)
    counts = Counter(architecture.plugin for architecture in plugins.listed())
    if as_json:
        print_json([_row(record, counts[record.name]) for record in plugins.records()])
        return
    table([[r.name, r.state, counts[r.name]] for r in plugins.records()], ["plugin", "state", "architectures"])
    for record in plugins.records():
        if record.error:
            click.echo(f"{shown(record.name)} ({record.state}): {printable(record.error)}")


def _row(record: Any, architectures: int) -> dict[str, Any]:
    return {
        "name": record.name,
        "state": str(record.state),
        "distribution": record.distribution,
        "version": record.version,
        "module": record.module,
        "origin": record.origin,
        "architectures": architectures,
        "error": record.error,
        "notes": list(record.notes),
    }
