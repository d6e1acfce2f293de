"""``zoo compare``."""

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.options import (
    cache_option,
    given_words,
    machine_options,
    output_options,
    print_json,
    registry_option,
    weights_options,
)
from zoo.errors import RunExistsError
from zoo.files import write_atomically

if TYPE_CHECKING:
    from zoo.jobs.comparison import Candidate

# What is this command's own, or finetune names otherwise.
_OWN = frozenset({"data", "models", "weights", "output", "as_json", "quiet", "traceback"})


@click.command("compare")
@click.argument("data", type=str)
@click.option(
    "--models",
    required=True,
    help="Architectures, presets, artifacts or patterns, with commas: resnet18,vgg*,m.safetensors",
)
@click.option("--weights", default="default", show_default=True, help="A tag that all of them have, or none.")
@click.option("--image-size", type=click.IntRange(min=1), help="Height and width of the input in pixels, for all.")
@click.option("--on-bad-image", type=click.Choice(["error", "skip"]), default="error", show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides everything random.")
@click.option("--split-seed", type=click.IntRange(min=0), help="Decides the split.  [default: the seed]")
@click.option("--group-by", metavar="COLUMN", help="Manifest column whose equal values stay in one split.")
@click.option("--output", type=click.Path(path_type=Path), help="An SVG picture to write.")
@cache_option
@machine_options
@weights_options
@registry_option
@output_options
def compare_command(
    data: str,
    models: str,
    weights: str,
    output: Path | None,
    as_json: bool,
    quiet: bool,
    traceback: bool,
    **settings: Any,
) -> None:
    """Rank models by what a linear head learns on their features of the photos in DATA.

    Heads are fitted to convergence on a training split, chosen on a validation split and measured on a test split.
    What was computed is kept: an interrupted comparison goes on where it stopped.
    """
    from zoo.console import ConsoleProgress, printable, size, table
    from zoo.jobs.comparison import compare
    from zoo.report.scatter import draw_comparison

    if output is not None and output.exists():
        raise RunExistsError(f"{output} exists already and is left as it is; name another file with --output.")
    found = compare(
        data,
        models=[name.strip() for name in models.split(",") if name.strip()],
        weights=None if weights == "none" else weights,
        progress=ConsoleProgress(quiet=quiet),
        **settings,
    )
    with_figures = [candidate for candidate in found.candidates if not candidate.error]
    if output is not None:
        rows = [row for row in found.summary()["models"] if not row["error"]]
        metric = "accuracy" if found.metric == "accuracy" else "mean average precision"
        write_atomically(output, draw_comparison(rows, metric=metric))
    if as_json:
        print_json({**found.summary(), "picture": output})
        return
    table(
        [
            [
                printable(c.model) + " *" * c.on_front,
                f"{c.accuracy:.2%}" + (f" ± {c.standard_error:.2%}" if c.standard_error is not None else ""),
                _rounded(c.images_per_s),
                f"{c.latency_ms:.1f}",
                f"{c.parameters / 1e6:.1f} M",
                size(c.size_bytes),
                size(c.memory_bytes),
                c.image_size,
            ]
            for c in with_figures
        ],
        ["model", found.metric, "features/s", "ms/image", "parameters", "size", "memory", "pixels"],
        right=[found.metric, "features/s", "ms/image", "parameters", "size", "memory"],
    )
    click.echo(f"on {found.images['test']} test images; * nothing else is both faster on one image and better")
    for candidate in found.candidates:
        if candidate.error:
            click.echo(f"left out: {printable(candidate.model)}: {printable(candidate.error)}")
    click.echo(f"next      {_next_command(data, with_figures[0])}")
    if output is not None:
        click.echo(f"picture   {output}")


def _next_command(data: str, best: "Candidate") -> str:
    """``zoo finetune`` of the best model with what was given here."""
    weights = click.get_current_context().params["weights"]
    start = ["--model", best.model] + ["--weights", weights] * (weights != "default")
    given = given_words(_OWN)
    if Path(best.model).is_file():
        start = ["--model", best.architecture, "--weights", best.model]
        start += [word for option in best.options.items() for word in ("--option", "=".join(option))]
        start += ["--image-size", str(best.image_size)] * ("--image-size" not in given)
    return shlex.join(["zoo", "finetune", data, *start, *given])


def _rounded(rate: float) -> str:
    return "-" if math.isnan(rate) else f"{rate:.3g}" if rate < 100 else f"{rate:.0f}"
