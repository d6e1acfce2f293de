"""``zoo registry lock``."""

from pathlib import Path
from typing import Any

import click

from zoo.cli.options import output_options, print_json, registry_option


@click.command("lock")
@click.argument("names", nargs=-1)
@click.option("--offline", is_flag=True, help="Never download.")
@click.option("--allow-pth", is_flag=True, help="Read local .pth files, with pickle's code execution switched off.")
@registry_option
@output_options
def lock_command(names: tuple[str, ...], as_json: bool, quiet: bool, traceback: bool, **settings: Any) -> None:
    """Write the full hashes of weights to registry.lock, which --locked goes by.

    NAMES are presets or architectures, with other weights than the default behind an @: resnet50@imagenet1k_v1. They
    are added. Without NAMES the file lists the weights of every preset of your own registry.toml. Weights that are not
    in the cache are downloaded.
    """
    from zoo.console import ConsoleProgress, printable, size, table
    from zoo.weights.locking import lock_weights

    registry: Path | None = settings.pop("registry")
    locked = lock_weights(names, registry=registry, progress=ConsoleProgress(quiet=quiet), **settings)
    if as_json:
        weights = {
            name: {"sha256": entry.sha256, "size_bytes": entry.size_bytes, "licence": entry.licence, "url": entry.url}
            for name, entry in sorted(locked.lock.weights.items())
        }
        changes = {"added": locked.added, "changed": locked.changed, "removed": locked.removed}
        print_json({"file": str(locked.lock.path), "weights": weights, **changes})
        return
    table(
        [
            [printable(name), entry.sha256[:16] + "…", size(entry.size_bytes), printable(entry.licence or "not stated")]
            for name, entry in sorted(locked.lock.weights.items())
        ],
        ["weights", "SHA-256", "size", "licence"],
    )
    for name in locked.changed:
        click.echo(f"warning: {printable(name)} has another hash than before", err=True)
    click.echo(
        f"{locked.lock.path}: {len(locked.lock.weights)} locked, of them {len(locked.added)} new and "
        f"{len(locked.changed)} changed; {len(locked.removed)} removed",
        err=True,
    )
