"""Options that several commands share, each defined once."""

from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, TypeVar

import click

from zoo.errors import OptionError

Command = TypeVar("Command", bound=Callable[..., Any])


def _group(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


registry_option = click.option(
    "--registry", type=click.Path(path_type=Path), help="A registry.toml that goes before all others."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
cache_option = click.option(
    "--cache/--no-cache", default=True, help="Keep the features of frozen parts, or run those parts every time."
)
output_options = _group(
    json_option,
    click.option("--quiet", "-q", is_flag=True, help="Print results and errors only."),
    click.option("--traceback", is_flag=True, help="Show where an error came from."),
)
plain_options = _group(registry_option, json_option, click.option("--traceback", is_flag=True, hidden=True))
machine_options = _group(
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."),
    click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        default="auto",
        show_default=True,
        help="Number format of the computation.",
    ),
    click.option("--workers", type=click.IntRange(min=1), help="Threads that read images.  [default: one a core]"),
)
weights_options = _group(
    click.option("--offline", is_flag=True, help="Never download."),
    click.option("--allow-pth", is_flag=True, help="Read local .pth files, with pickle's code execution switched off."),
    click.option("--locked", is_flag=True, help="Refuse weights that registry.lock does not list; ZOO_LOCKED=1 too."),
)


def given_words(leave_out: Container[str]) -> list[str]:
    """The options of the present command that stood on its command line, as words for another one.

    Args:
        leave_out: Names of parameters that are this command's own.
    """
    context = click.get_current_context()
    words: list[str] = []
    for parameter in context.command.params:
        name = str(parameter.name)
        if name not in leave_out and context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            value = context.params[name]
            for each in value if isinstance(value, tuple) else [value]:
                if isinstance(each, bool):
                    words.append((parameter.opts if each else parameter.secondary_opts)[0])
                else:
                    words += [parameter.opts[0], str(each)]
    return words


def parse_options(pairs: tuple[str, ...]) -> dict[str, str]:
    """``("drop=0.2",)`` to ``{"drop": "0.2"}``.

    Raises:
        OptionError: A pair has no ``=``, or a key comes twice.
    """
    options: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise OptionError(f"--option {pair} is not KEY=VALUE, for example --option dropout=0.2.")
        if key in options:
            raise OptionError(f"--option {key} is given twice.")
        options[key] = value
    return options


def print_json(document: object) -> None:
    """Print one JSON document on stdout."""
    import json

    text = json.dumps(document, indent=2, ensure_ascii=False, default=str)
    # What is no Unicode, as bytes of a file name may be, becomes an escape that JSON reads as what it was.
    click.echo(text.encode("utf-8", "backslashreplace").decode())
