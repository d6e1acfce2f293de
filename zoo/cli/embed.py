"""``zoo embed``."""

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


@click.command("embed")
@click.argument("data", type=str)
@click.option("--model", required=True, help="Architecture, preset or artifact.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A .safetensors or .npy file to write.")
@click.option("--stage", help="The stage whose output to take.  [default: the last before the head]")
@click.option("--weights", default="default", show_default=True, help="For an architecture: a tag or a file.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="For an architecture: an option.")
@click.option("--image-size", type=click.IntRange(min=1), help="For an architecture: pixels of the input.")
@click.option("--on-bad-image", type=click.Choice(["error", "skip"]), default="error", show_default=True)
@cache_option
@machine_options
@weights_options
@registry_option
@output_options
def embed_command(
    data: str, options: tuple[str, ...], as_json: bool, quiet: bool, traceback: bool, **settings: Any
) -> None:
    """Write the features that a model's backbone gives for the images in DATA.

    DATA is a folder of images, with or without one folder a class, one image, or a CSV manifest.
    """
    from zoo.console import ConsoleProgress
    from zoo.jobs.embedding import embed

    found = embed(data, options=parse_options(options), progress=ConsoleProgress(quiet=quiet), **settings)
    shape = list(found.features.shape)
    if as_json:
        print_json({**found.facts, "output": str(settings["output"]), "shape": shape, "classes": list(found.classes)})
        return
    click.echo(f"{settings['output']}  {' × '.join(map(str, shape))} float32")
