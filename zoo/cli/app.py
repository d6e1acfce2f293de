"""The command group: commands are imported when they run, and every error leaves with its exit code."""

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import click

from zoo.errors import PluginError, ZooError, did_you_mean

# Name of the command -> the module that holds it, and its line in `zoo --help`, which is printed without the module.
_COMMANDS = {
    "list": ("listing:list_command", "List the architectures there are."),
    "info": ("listing:info_command", "Show one architecture, or what an artifact holds."),
    "finetune": ("finetune:finetune_command", "Train a classifier on a folder of photos."),
    "launch": ("launch:launch_command", "Train in several processes, on one machine or more."),
    "lr-find": ("lr_find:lr_find_command", "Measure a learning rate for photos and a model."),
    "evaluate": ("evaluate:evaluate_command", "Measure an artifact on labelled photos."),
    "embed": ("embed:embed_command", "Write a backbone's features of photos, for other tools."),
    "compare": ("compare:compare_command", "Rank models by what a linear head learns on your photos."),
    "predict": ("predict:predict_command", "Classify photos."),
    "verify": ("verify:verify_command", "Check that an artifact is what it claims to be."),
    "demo": ("demo:demo_command", "Run the whole job on real digits, offline, in under a minute."),
    "plugins": ("plugins:plugins_group", "List, check, explain and begin plugins."),
    "registry": ("registry:registry_group", "Show and check registry.toml."),
    "doctor": ("doctor:doctor_command", "Show the machine, versions, plugins and caches."),
    "cache": ("cache:cache_group", "List or clean zoo's caches."),
}
# The \b line tells click to leave the lines below it as they are.
_HELP = """A model zoo and transfer-learning toolkit for images.

\b
zoo demo                                  the whole job on real digits, offline
zoo finetune PHOTOS --model simple_cnn    a folder of photos, one folder per class
zoo predict model.safetensors photo.jpg   needs nothing else
"""
# Collections of the middle generation before one of all objects; 10 unless told otherwise.
_FULL_COLLECTIONS = 1000
_INTERRUPTED = 130
_TERMINATED = 143
# How long threads that still read images may take to end.
_LAST_READS_S = 5.0


@contextmanager
def _nobody_reads() -> Iterator[None]:
    """Leave with success where the reader of a pipe, ``head`` for one, has seen enough; click would leave with 1."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(0) from None


class LazyGroup(click.Group):
    """A group that knows its commands' names and imports only the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All command names, in the order of a first day with zoo."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"zoo.cli.{module}"), attribute)
        return command

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:
        """Read the command line; ``--help`` and ``--version`` print here."""
        with _nobody_reads():
            return super().make_context(*arguments, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _nobody_reads():
            return super().invoke(ctx)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command, or say which one was probably meant."""
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}.{did_you_mean(args[0], _COMMANDS)} 'zoo --help' lists them.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands' lines without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"zoo {version('torch-zoo')}")
        ctx.exit()


@click.group(
    cls=LazyGroup, help=_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def cli() -> None:
    """The group that every command belongs to."""


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    # While a million lasting objects are imported, Python looks through all of them for cycles again and again: a fifth
    # of the 2.8 s that torch and torchvision take. Young objects are looked through as often as ever.
    gc.set_threshold(*gc.get_threshold()[:2], _FULL_COLLECTIONS)
    try:
        # Out of standalone mode click returns the code of an Exit, and else what the command returns: nothing.
        code = cli.main(prog_name="zoo", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        click.echo(" ".join(["interrupted", *map(str, (error.__cause__ or error).args)]) + ".", err=True)
        code = _INTERRUPTED
    except ZooError as error:
        code = _report(error)
    except SystemExit as error:
        code = _report_exit(error)
    except Exception as error:
        code = _report_bug(error)
    gc.freeze()  # Python looks for cycles once more at its end, which is a fifth of a short command
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the exit code stands, and torchrun sends this to all that are left
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End the process with its exit code, whatever threads do.

    A thread that hangs in a read that is never answered would be waited for. And in one of several processes, libraries
    that end while Python does (gloo, torch 2.14) now and then abort, which torchrun takes for a lost process.
    """
    readers = [thread for thread in threading.enumerate() if thread.name.startswith("zoo-reader")]
    for thread in readers:
        thread.join(timeout=_LAST_READS_S)
    # Where nothing was computed there is nothing to end either: Python would take its modules apart one by one.
    idle = "torch" not in sys.modules and threading.active_count() == 1
    if idle or any(thread.is_alive() for thread in readers) or "TORCHELASTIC_RUN_ID" in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _terminate(*_: object) -> NoReturn:
    from zoo.training.signals import Terminated

    click.echo("terminated.", err=True)
    raise Terminated


def _report(error: ZooError) -> int:
    from zoo.console import printable

    if _wants_traceback():
        import traceback

        traceback.print_exception(error)
    rank = os.environ.get("RANK", "0")
    who = f"process {rank}: " if rank != "0" else ""
    click.echo(who + click.style("error: ", fg="red", bold=True) + printable(str(error), keep_newlines=True), err=True)
    return error.exit_code


def _report_exit(error: SystemExit) -> int:
    """Leave as SIGTERM asks. What else ends the process is a plugin's code, which does not decide on the exit code."""
    from zoo.training.signals import Terminated

    if isinstance(error, Terminated):
        return _TERMINATED
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_filename}, line {place.tb_lineno}" if place else "a plugin"
    return _report(
        PluginError(
            f"{where} ended the process with sys.exit({error.code!r}) in the middle of the work. A model or a plugin "
            "must raise an error instead; what was under way is lost, and no artifact was written."
        )
    )


def _report_bug(error: Exception) -> int:
    if _wants_traceback():
        import traceback

        traceback.print_exception(error)
    else:
        click.echo(
            f"zoo failed in a way it should not: {type(error).__name__}: {error}\n"
            "This is a bug in zoo or in a library below it. The same command with --traceback shows where.",
            err=True,
        )
    return 1


def _wants_traceback() -> bool:
    return "--traceback" in sys.argv
