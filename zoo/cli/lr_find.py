"""``zoo lr-find``."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from zoo.cli.options import (
    given_words,
    machine_options,
    output_options,
    parse_options,
    print_json,
    registry_option,
    weights_options,
)
from zoo.errors import RunExistsError
from zoo.files import write_atomically

# What is this command's own, or was said already.
_OWN = frozenset({"data", "phase", "steps", "output", "as_json", "quiet", "traceback"})


@click.command("lr-find")
@click.argument("data", type=str)
@click.option("--model", required=True, help="Architecture, preset or alias, for example resnet50.")
@click.option("--weights", default="default", show_default=True, help="A published tag, a file, or none.")
@click.option("--recipe", help="One of whose phases is measured.  [default: as for finetune]")
@click.option("--phase", type=click.IntRange(min=1), default=1, show_default=True, help="Which of them.")
@click.option("--train", help="What trains: head, all, last K or a stage's name.  [default: as the recipe says]")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images a step.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Option of the architecture; repeatable.")
@click.option("--image-size", type=click.IntRange(min=1), help="Height and width of the input in pixels.")
@click.option("--steps", type=click.IntRange(min=10), default=100, show_default=True, help="Steps to take.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides everything random.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("lr-find.svg"), show_default=True, help="The picture."
)
@machine_options
@weights_options
@registry_option
@output_options
def lr_find_command(
    data: str, options: tuple[str, ...], output: Path, as_json: bool, quiet: bool, traceback: bool, **settings: Any
) -> None:
    """Try growing learning rates on DATA for some steps, draw the loss, and suggest a rate.

    Nothing is trained in the end. 'zoo finetune --lr auto' does the same before each phase, on the model as it is then;
    here every phase is measured on the model as it is before the first.
    """
    from zoo.console import ConsoleProgress
    from zoo.jobs.lr_finding import lr_find
    from zoo.report.lr_curve import draw_lr_curve

    if output.exists():
        raise RunExistsError(f"{output} exists already and is left as it is; name another file with --output.")
    found = lr_find(data, options=parse_options(options), progress=ConsoleProgress(quiet=quiet), **settings)
    write_atomically(output, draw_lr_curve(found.curve))
    suggestion = found.lrs[settings["phase"] - 1]
    following = None if settings["train"] else _next_command(data, found.lrs)
    if as_json:
        curve = {"rates": found.curve.rates, "losses": found.curve.losses}
        print_json({"suggestion": suggestion, **curve, "picture": output, "next": following})
        return
    click.echo(f"learning rate  {suggestion:g}")
    click.echo(f"picture        {output}")
    if following:
        click.echo(f"next           {following}")


def _next_command(data: str, lrs: Sequence[float | str]) -> str:
    """``zoo finetune`` with what was given here."""
    found = ",".join(f"{lr:g}" if isinstance(lr, float) else lr for lr in lrs)
    return shlex.join(["zoo", "finetune", data, *given_words(_OWN), "--lr", found])
