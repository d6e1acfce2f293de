"""``zoo cache``: what zoo keeps for itself, and how to be rid of it."""

import shutil
from pathlib import Path

import click

from zoo.cli.options import json_option, print_json
from zoo.files import cache_folder


@click.group("cache")
def cache_group() -> None:
    """List or clean what zoo keeps: downloaded weights, plugin facts, computed features."""


@cache_group.command("list")
@json_option
def list_cache(as_json: bool) -> None:
    """Show the cache's folders with their sizes."""
    from zoo.console import size, table

    root = cache_folder()
    rows = (
        [(folder.name, *_contents(folder)) for folder in sorted(root.iterdir()) if folder.is_dir()]
        if root.is_dir()
        else []
    )
    if as_json:
        print_json(
            {"folder": str(root), "kinds": [dict(zip(("kind", "files", "bytes"), row, strict=True)) for row in rows]}
        )
        return
    table([[kind, files, size(count)] for kind, files, count in rows], ["kind", "files", "size"])
    click.echo(f"in {root}", err=True)


@cache_group.command("clean")
@click.argument("kind", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
def clean_cache(kind: str | None, yes: bool) -> None:
    """Remove the cache's folder KIND, or all of them. Everything in it can be downloaded or computed again."""
    root = cache_folder()
    chosen = [
        folder
        for folder in (root.iterdir() if root.is_dir() else ())
        if folder.is_dir() and kind in (None, folder.name)
    ]
    if not chosen:
        click.echo(f"nothing to remove in {root}.", err=True)
        return
    if not yes:
        click.confirm(f"Remove {', '.join(sorted(folder.name for folder in chosen))} in {root}?", abort=True, err=True)
    for folder in chosen:
        shutil.rmtree(folder)
    click.echo(f"removed {len(chosen)} folder(s) in {root}.", err=True)


def _contents(folder: Path) -> tuple[int, int]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_size for path in files)
