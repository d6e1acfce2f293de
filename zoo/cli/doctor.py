"""``zoo doctor``: what a person would be asked for when something does not work."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from zoo.cli.options import plain_options, print_json
from zoo.files import cache_folder
from zoo.plugins.catalogue import open_plugins

_PACKAGES = ("torch-zoo", "torch", "torchvision", "timm", "pluggy", "safetensors", "pillow", "numpy", "scikit-learn")
_EXTRAS = {"pillow-heif": "heic", "tensorboard": "tensorboard", "trackio": "track"}


@click.command("doctor")
@plain_options
def doctor_command(registry: Path | None, as_json: bool, traceback: bool) -> None:
    """Show the machine, versions, plugins and caches, and what is wrong with them."""
    from zoo.console import printable, table

    plugins = open_plugins(registry)
    plugins.listed()
    found: dict[str, Any] = {
        "machine": _machine(),
        "packages": {name: _version(name) for name in (*_PACKAGES, *_EXTRAS)},
        "plugins": [
            {
                "name": record.name,
                "state": str(record.state),
                "distribution": record.distribution,
                "version": record.version,
                "origin": str(record.origin),
                "error": record.error,
            }
            for record in plugins.records()
        ],
        "cache": {"folder": str(cache_folder()), "writable": _writable(cache_folder())},
    }
    if as_json:
        print_json(found)
        return
    for title in ("machine", "packages", "cache"):
        click.echo(title)
        for key, value in found[title].items():
            click.echo(f"  {key:<14} {printable(value)}")
    click.echo("plugins  (plugins are code: importing one runs it, and an allow-list is no sandbox)")
    table(
        [[p["name"], p["state"], f"{p['distribution']} {p['version']}", p["origin"]] for p in found["plugins"]],
        ["plugin", "state", "distribution", "origin"],
    )
    for plugin in found["plugins"]:
        if plugin["error"]:
            click.echo(f"  {plugin['name']}: {printable(plugin['error'])}")
    if not found["cache"]["writable"]:
        click.echo(f"the cache folder {cache_folder()} cannot be written to: set ZOO_CACHE to one that can.")


def _machine() -> dict[str, Any]:
    import torch

    flags = [
        name
        for name, there in (
            ("AVX512-bf16", torch.cpu._is_avx512_bf16_supported()),
            ("AMX", torch.cpu._is_amx_tile_supported()),
        )
        if there
    ]
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_version()} ({sys.executable})",
        "processors": f"{os.cpu_count()}, torch uses {torch.get_num_threads()} threads",
        "bfloat16": ", ".join(flags) or "not in hardware: float32 is used on the CPU",
        "GPUs": ", ".join(gpus) or "none",
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        extra = _EXTRAS.get(name)
        return f"not installed (pip install 'torch-zoo[{extra}]')" if extra else "not installed"


def _writable(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK)
