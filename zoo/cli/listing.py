"""``zoo list`` and ``zoo info``: facts only, without importing torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from zoo.architecture import Architecture
from zoo.cli.options import plain_options, print_json
from zoo.decoding import shown
from zoo.errors import ArtifactError
from zoo.plugins.catalogue import matching, open_plugins
from zoo.plugins.facts import Listed


@click.command("list")
@click.argument("pattern", default="")
@click.option("--family", default="", help="Only this family, for example resnet.")
@click.option("--pretrained", is_flag=True, help="Only those with published weights.")
@plain_options
def list_command(
    pattern: str, family: str, pretrained: bool, registry: Path | None, as_json: bool, traceback: bool
) -> None:
    """List architectures whose name contains PATTERN, or matches it as a glob such as '*resnet*'."""
    from zoo.console import printable, table

    plugins = open_plugins(registry)
    found = matching(plugins.listed(), pattern, family=family, pretrained=pretrained)
    if as_json:
        print_json([_row(architecture) for architecture in found])
        return
    if found:
        table(
            [[a.full_name, a.family, _size(a), len(a.weights) or None] for a in found],
            ["name", "family", "input", "weights"],
        )
    click.echo(f"{len(found)} architecture{'s' * (len(found) != 1)}; 'zoo info NAME' tells more.", err=True)
    for record in plugins.records():
        if record.error:
            click.echo(f"warning: plugin {shown(record.name)} ({record.state}): {printable(record.error)}", err=True)


@click.command("info")
@click.argument("name")
@plain_options
def info_command(name: str, registry: Path | None, as_json: bool, traceback: bool) -> None:
    """Show the architecture NAME, or the artifact in the file NAME."""
    if name.endswith(".safetensors") or Path(name).is_file():
        _show_artifact(Path(name), as_json)
    else:
        _show_architecture(open_plugins(registry).resolve(name).architecture, as_json)


def _show_architecture(architecture: Architecture, as_json: bool) -> None:
    from zoo.console import printable, table

    if as_json:
        print_json(msgspec.to_builtins(architecture) | {"full_name": architecture.full_name})
        return
    preparation = architecture.preprocessing
    click.echo(printable(f"{architecture.full_name}  (family {architecture.family})"))
    facts = [
        ("input", f"{_size(architecture)} pixels, {preparation.interpolation} resize to {preparation.resize}"),
        ("normalised", f"mean {_numbers(preparation.mean)}, std {_numbers(preparation.std)}"),
        ("smallest", f"{architecture.smallest_input} to evaluate, {architecture.smallest_training_input} to train"),
        ("source", architecture.source),
        ("note", architecture.note),
    ]
    for label, text in facts:
        if text:
            click.echo(f"  {label:<11} {printable(text)}")
    if architecture.options:
        click.echo("options")
        table(
            [[o.name, _shown(o.default), o.range, o.help] for o in architecture.options],
            ["option", "default", "allowed", "what it changes"],
        )
    if architecture.weights:
        click.echo("weights")
        table(
            [
                [
                    w.tag + (" (default)" if w.tag == architecture.default_weights else ""),
                    w.num_classes,
                    next((f"{v:.2f}" for k, v in w.metrics.items() if k.endswith("top1")), None),
                    w.licence or "not stated",
                    w.source,
                ]
                for w in architecture.weights
            ],
            ["tag", "classes", "top-1 %", "licence", "source"],
        )
    else:
        click.echo("no published weights: it trains from random values, or from a file given to --weights.")


def _show_artifact(path: Path, as_json: bool) -> None:
    from zoo.artifact import read_header
    from zoo.console import printable

    if not path.is_file():
        raise ArtifactError(f"there is no file {path}; 'zoo list' shows the architectures.")
    header = read_header(path)
    if as_json:
        print_json(msgspec.to_builtins(header))
        return
    rows: list[tuple[str, Any]] = [
        ("architecture", f"{header.architecture}, from {header.plugin.distribution} {header.plugin.version}"),
        ("options", ", ".join(f"{key}={_shown(value)}" for key, value in header.options.items())),
        ("classes", f"{len(header.classes)}: {', '.join(header.classes[:12])}{' …' * (len(header.classes) > 12)}"),
        ("task", header.task if header.task == "multi-label" else ""),
        ("input", " × ".join(map(str, header.preprocessing.input_size))),
        ("parent", f"{header.parent.kind} {header.parent.spec} {header.parent.sha256[:12]}".strip()),
        ("licence", header.parent.licence and f"{header.parent.licence}, of the parent"),
        ("recipe", f"{header.recipe.name}: {len(header.recipe.phases)} phase(s)"),
        ("precision", header.numerics.precision),
    ]
    rows += [
        (split, f"{_accuracy(report)}, F1 {report['f1']:.4f}, loss {report['loss']:.4f}")
        for split, report in header.metrics.items()
    ]
    rows += [
        (f"phase {proof.phase}", f"trained {proof.train}; frozen part {proof.after[:12]}, unchanged")
        for proof in header.freeze
        if proof.frozen_stages
    ]
    click.echo(f"{path}  ({path.stat().st_size / 1e6:.1f} MB)")
    for label, text in rows:
        if text:
            click.echo(f"  {label:<13} {printable(str(text))}")


def _accuracy(report: Mapping[str, Any]) -> str:
    """The share that is right, and of a multi-label model its mean average precision."""
    if "map" not in report:
        return f"accuracy {report['accuracy']:.2%}"
    found = "" if report["map"] is None else f", mAP {report['map']:.4f}"
    return f"every label right {report['accuracy']:.2%}{found}"


def _row(architecture: Listed) -> dict[str, object]:
    return {
        "name": architecture.full_name,
        "family": architecture.family,
        "plugin": architecture.plugin,
        "input_size": architecture.preprocessing.input_size,
        "weights": [weights.tag for weights in architecture.weights],
        "default_weights": architecture.default_weights,
    }


def _size(architecture: Architecture | Listed) -> str:
    return "×".join(map(str, architecture.preprocessing.input_size[1:]))


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
