"""``zoo evaluate``."""

from pathlib import Path
from typing import Any

import click

from zoo.cli.options import (
    cache_option,
    machine_options,
    output_options,
    parse_options,
    print_json,
    registry_option,
    weights_options,
)


@click.command("evaluate")
@click.argument("target")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--weights", default="default", show_default=True, help="For an architecture: a tag or a file.")
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), help="Which part.  [default: test if there is one]"
)
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="For an architecture: an option.")
@click.option("--image-size", type=click.IntRange(min=1), help="For an architecture: pixels of the input.")
@click.option("--in-channels", type=click.Choice(["1", "3", "4"]), default="3", help="For an architecture.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images a batch.")
@click.option("--on-bad-image", type=click.Choice(["error", "skip"]), default="error", show_default=True)
@cache_option
@machine_options
@weights_options
@registry_option
@output_options
def evaluate_command(
    target: str,
    data: Path,
    options: tuple[str, ...],
    in_channels: str,
    as_json: bool,
    quiet: bool,
    traceback: bool,
    **settings: Any,
) -> None:
    """Measure TARGET, an artifact's file or an architecture with --weights, on the labelled images in DATA.

    DATA is what finetune takes. Classes are matched by name. An artifact is measured in the precision that its own
    figures were taken in.
    """
    from zoo.cli.finetune import print_figures
    from zoo.console import ConsoleProgress, printable, table
    from zoo.jobs.evaluation import evaluate

    found = evaluate(
        target,
        data,
        options=parse_options(options),
        in_channels=int(in_channels),
        progress=ConsoleProgress(quiet=quiet),
        **settings,
    )
    if as_json:
        print_json({**found.report, "split": found.split, "precision": found.precision, "notes": found.notes})
        return
    print_figures({found.split: found.report})
    rows = [row for row in found.report["per_class"] if row["support"]]
    multi_label = "map" in found.report
    names = ["precision", "recall", "f1", *(["average_precision", "auroc", "threshold"] if multi_label else [])]
    table(
        [
            [
                printable(row["class"]),
                row["support"],
                *(None if row[name] is None else f"{row[name]:.4f}" for name in names),
            ]
            for row in rows
        ],
        ["label" if multi_label else "class", "images", *(name.replace("_", " ") for name in names)],
    )
    right = round(found.report["accuracy"] * found.report["count"])
    what = "have every label right" if multi_label else "right"
    click.echo(f"{right} of {found.report['count']} {what}, computed in {found.precision}")
