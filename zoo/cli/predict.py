"""``zoo predict``."""

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.options import (
    machine_options,
    output_options,
    parse_options,
    print_json,
    registry_option,
    weights_options,
)
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.jobs.prediction import Prediction


@click.command("predict")
@click.argument("target")
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--top-k", type=click.IntRange(min=1), default=1, show_default=True, help="Classes to list for each image."
)
@click.option("--weights", default="default", show_default=True, help="For an architecture: a tag or a file.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="For an architecture: an option.")
@click.option("--image-size", type=click.IntRange(min=1), help="For an architecture: pixels of the input.")
@click.option("--cache/--no-cache", default=True, show_default=True, help="Find and keep features of many photos.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: image, rank, label, probability.")
@machine_options
@weights_options
@registry_option
@output_options
def predict_command(
    target: str,
    images: tuple[str, ...],
    top_k: int,
    options: tuple[str, ...],
    cache: bool,
    as_csv: bool,
    as_json: bool,
    quiet: bool,
    traceback: bool,
    device: str,
    precision: Any,
    workers: int | None,
    **model_settings: Any,
) -> None:
    """Classify IMAGES with TARGET, an artifact's file or an architecture with --weights.

    IMAGES are files, folders, or - for the bytes of one image on standard input. A multi-label model answers with the
    labels whose probabilities reach the thresholds in its file, whatever --top-k says; --json has both.
    """
    from zoo.console import ConsoleProgress, printable, table
    from zoo.data import find_images_to_predict
    from zoo.jobs.prediction import open_model, predict_images

    if as_csv and as_json:
        raise UsageError("--csv and --json contradict each other; give one of them.")
    progress = ConsoleProgress(quiet=quiet)
    photos: list[Any] = []
    names: list[str] = []
    for image in images:
        if image == "-":
            photos.append(sys.stdin.buffer.read())
            names.append("-")
        else:
            found = find_images_to_predict([image])
            photos += found
            names += map(str, found)
    model = open_model(target, options=parse_options(options), progress=progress, **model_settings)
    predictions = predict_images(
        model,
        photos,
        top_k=top_k,
        device=device,
        precision=precision,
        cache=cache,
        workers=workers,
        progress=progress,
    )
    if as_json:
        print_json([{**asdict(p), "source": name} for name, p in zip(names, predictions, strict=True)])
        return
    rows = [
        [name, rank, label, probability]
        for name, prediction in zip(names, predictions, strict=True)
        for rank, (label, probability) in enumerate(_shown(model.task.name, prediction), start=1)
    ]
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["image", "rank", "label", "probability"])
        writer.writerows([name, rank, label, f"{p:.6f}" if label else ""] for name, rank, label, p in rows)
        return
    table(
        [
            [printable(name) if rank == 1 else "", printable(label) or None, f"{p:.1%}" if label else None]
            for name, rank, label, p in rows
        ],
        ["image", "label", "probability"],
    )


def _shown(task: str, prediction: "Prediction") -> Sequence[tuple[str, float]]:
    """What to list for an image; an image with none of the labels is listed with an empty one."""
    return (prediction.labels or [("", 0.0)]) if task == "multi-label" else prediction.top
