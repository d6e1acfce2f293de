"""``zoo finetune``."""

import os
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
from zoo.errors import OptionError, UsageError


@click.command("finetune")
@click.argument("data", type=click.Path(path_type=Path), required=False)
@click.option("--model", help="Architecture, preset or alias, for example resnet50.")
@click.option("--weights", default="default", show_default=True, help="A published tag, a file, or none.")
@click.option(
    "--recipe",
    help="frozen, lp-ft, gradual, full, full-gentle, probe, or one of your registry.toml.  [default: frozen if "
    "pretrained, else full, unless the model names another]",
)
@click.option("--epochs", help="Epochs; with several phases one number each: 5,10.")
@click.option("--lr", help="Learning rate, or auto; with several phases one each: 1e-3,auto.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images a step.")
@click.option(
    "--augment", type=click.Choice(["none", "light", "standard", "strong"]), help="Random changes of training images."
)
@click.option(
    "--views", type=click.IntRange(min=0), help="Versions that --augment makes of each image once and for all."
)
@click.option(
    "--micro-batch", type=click.IntRange(min=1), help="Most images in memory at once; gradients of parts are added up."
)
@click.option(
    "--recompute", is_flag=True, default=None, help="Less memory: activations are computed again (checkpointing)."
)
@click.option("--compile", is_flag=True, default=None, help="Compile what trains; pays where there are many steps.")
@cache_option
@click.option(
    "--cache-images",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GB",
    help="Memory for decoded images, so that random crops of every epoch need no decoding.",
)
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Option of the architecture; repeatable.")
@click.option("--image-size", type=click.IntRange(min=1), help="Height and width of the input in pixels.")
@click.option(
    "--in-channels",
    type=click.Choice(["1", "3", "4"]),
    default="3",
    show_default=True,
    help="Grey, colour, or colour with alpha.",
)
@click.option(
    "--on-bad-image",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="Stop at unreadable images, or leave them out, up to 20 % of all.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides everything random.")
@click.option("--split-seed", type=click.IntRange(min=0), help="Decides the split.  [default: the seed]")
@click.option("--group-by", metavar="COLUMN", help="Manifest column whose equal values stay in one split.")
@click.option("--output", type=click.Path(path_type=Path), help="Run folder.  [default: runs/DATA-MODEL-N]")
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Go on with a run that was stopped or killed; takes no DATA and no other options.",
)
@click.option(
    "--checkpoint-every",
    metavar="STEPS|TIME",
    default="60s",
    show_default=True,
    help="How often the run's state is saved: 500, 90s, 2m.",
)
@click.option(
    "--track", multiple=True, metavar="NAME", help="Plugin that follows the run: tensorboard or trackio; repeatable."
)
@click.option("--dry-run", is_flag=True, help="Check everything, say what would run, and stop.")
@machine_options
@weights_options
@registry_option
@output_options
def finetune_command(
    data: Path | None,
    resume: Path | None,
    epochs: str | None,
    lr: str | None,
    options: tuple[str, ...],
    in_channels: str,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    traceback: bool,
    **settings: Any,
) -> None:
    """Train a classifier on DATA and prove it.

    DATA is a folder with one folder of photos per class, a folder with train/ val/ test/, or a CSV manifest
    path,label[,split]. With path,labels[,split] an image has any number of labels, a|b, or none. Also tar shards and
    Parquet files, or folders of them, torchvision:NAME[:FOLDER] and hf:NAME[:CONFIG], which are copied to the cache.
    """
    from zoo.console import ConsoleProgress
    from zoo.jobs.finetuning import finetune

    if resume is not None:
        _refuse_other_options(click.get_current_context())
        _print_run(finetune(resume=resume, progress=ConsoleProgress(quiet=quiet)), as_json=as_json)
        return
    if data is None or settings["model"] is None:
        raise UsageError("give DATA and --model NAME, or --resume RUN to go on with a run; 'zoo list' shows the names.")
    settings |= {
        "epochs": _numbers("--epochs", epochs, int),
        "lr": _numbers("--lr", lr, float),
        "options": parse_options(options),
        "in_channels": int(in_channels),
        "progress": ConsoleProgress(quiet=quiet),
    }
    if dry_run:
        planned = finetune(data, dry_run=True, **settings)
        print_json(planned.summary()) if as_json else click.echo(planned.text())
        return
    _print_run(finetune(data, **settings), as_json=as_json)


def _print_run(run: Any, *, as_json: bool) -> None:
    if os.environ.get("RANK", "0") != "0":  # one of several processes prints
        return
    if as_json:
        print_json(run.summary())
        return
    print_figures(run.metrics)
    click.echo(f"artifact  {run.artifact}")
    click.echo(f"report    {run.report}")
    click.echo(f"next      zoo predict {run.artifact} PHOTO.jpg")


def _refuse_other_options(context: click.Context) -> None:
    """Refuse what a resumed run would ignore."""
    allowed = {"resume", "as_json", "quiet", "traceback"}
    given = [
        parameter.human_readable_name if isinstance(parameter, click.Argument) else parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in allowed
        and context.get_parameter_source(str(parameter.name)) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise UsageError(
            f"--resume takes everything from the run's config.toml: leave out {', '.join(given)}, or train anew."
        )


def print_figures(metrics: Any) -> None:
    """One table: a row a split."""
    from zoo.console import table

    if not metrics:
        return
    with_top5 = all("top5" in report for report in metrics.values())
    multi_label = any("map" in report for report in metrics.values())
    middle = ["map", "micro_f1"] if multi_label else ["top5"] if with_top5 else []
    names = ["accuracy", *middle, "precision", "recall", "f1", "loss"]
    table(
        [
            [
                split,
                report["count"],
                *(_figure(name, report[name]) for name in names),
            ]
            for split, report in metrics.items()
        ],
        ["split", "images", *(_HEADINGS.get(name, name) if multi_label else name for name in names)],
    )


_HEADINGS = {"accuracy": "all labels right", "map": "mAP", "micro_f1": "micro f1", "f1": "macro f1"}


def _figure(name: str, value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:.2%}" if name in ("accuracy", "top5") else f"{value:.4f}"


def _numbers(option: str, text: str | None, kind: type[int] | type[float]) -> Any:
    if text is None:
        return None
    try:
        numbers = [part if part == "auto" and kind is float else kind(part) for part in text.split(",")]
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise OptionError(f"{option} {text} is not {wanted}, or several with commas between.") from None
    return numbers if len(numbers) > 1 else numbers[0]
