"""``zoo cache``: what zoo keeps for itself, and how to be rid of it."""

import shutil
from pathlib import Path

import click

from zoo.cli.options import json_option, print_json
from zoo.files import cache_folder, storage_error

# Folders of any other name are not zoo's, however they came to lie in $ZOO_CACHE, and are left alone.
_KINDS = ("weights", "facts", "features", "decoded", "own-data", "data", "torchvision")


@click.group("cache")
def cache_group() -> None:
    """List or clean what zoo keeps: downloaded weights, plugin facts, computed features."""


@cache_group.command("list")
@json_option
def list_cache(as_json: bool) -> None:
    """Show the cache's folders with their sizes."""
    from zoo.console import size, table

    root = cache_folder()
    rows = [(folder.name, *_contents(folder)) for folder in _folders(root)]
    if as_json:
        print_json(
            {"folder": str(root), "kinds": [dict(zip(("kind", "files", "bytes"), row, strict=True)) for row in rows]}
        )
        return
    table([[kind, files, size(count)] for kind, files, count in rows], ["kind", "files", "size"])
    click.echo(f"in {root}", err=True)


@cache_group.command("clean")
@click.argument("kind", required=False, type=click.Choice(_KINDS))
@click.option("--yes", is_flag=True, help="Do not ask.")
def clean_cache(kind: str | None, yes: bool) -> None:
    """Remove the cache's folder KIND, or all of them.

    Everything in it can be downloaded or computed again; files put into weights/incoming by hand go too.
    """
    root = cache_folder()
    chosen = [folder for folder in _folders(root) if kind in (None, folder.name)]
    if not chosen:
        click.echo(f"nothing to remove in {root}.", err=True)
        return
    if not yes:
        click.confirm(f"Remove {', '.join(sorted(folder.name for folder in chosen))} in {root}?", abort=True, err=True)
    for folder in chosen:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise storage_error(folder, error) from error
    click.echo(f"removed {len(chosen)} folder(s) in {root}.", err=True)


def _folders(root: Path) -> list[Path]:
    return [root / kind for kind in sorted(_KINDS) if (root / kind).is_dir() and not (root / kind).is_symlink()]


def _contents(folder: Path) -> tuple[int, int]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_size for path in files)
