"""Where images come from when not from a folder of them: published data sets, tar shards, Parquet files.

Each is written once into zoo's cache as image files with a manifest, and is read from there like any other: the images
need their space on the disk a second time, and every check, split and stored feature works as it does for photos.
"""

from __future__ import annotations

from glob import has_magic
from pathlib import Path

from zoo.errors import DataError
from zoo.files import cache_folder
from zoo.progress import Progress, Silent
from zoo.sources.parquet import PARQUET_SUFFIX, ParquetFiles
from zoo.sources.published import HubData, TorchvisionData
from zoo.sources.tar import TAR_SUFFIX, TarShards
from zoo.sources.writing import Source, write_once

__all__ = ["Source", "find_source", "is_published", "manifest_of", "write_once"]


def is_published(data: str | Path) -> bool:
    """Whether data is named and not a path: ``torchvision:NAME`` or ``hf:NAME``."""
    return str(data).startswith(("torchvision:", "hf:"))


def find_source(data: str | Path, *, offline: bool = False) -> Source | None:
    """What has to be written out before it can be read; None for a folder of images or a CSV manifest.

    Args:
        data: ``torchvision:NAME[:ROOT]``, ``hf:NAME[:CONFIG]``, a ``.tar`` or ``.parquet`` file, a folder with such
            files and nothing but them, or a pattern like ``shards/train-*.tar``.
        offline: Never download.

    Raises:
        DataError: The pattern matches nothing, or files of both kinds.
    """
    text = str(data)
    if text.startswith("torchvision:"):
        return TorchvisionData.parse(text, offline=offline)
    if text.startswith("hf:"):
        return HubData.parse(text, offline=offline)
    path = Path(data)
    if path.is_dir():
        files = [file for suffix in (TAR_SUFFIX, PARQUET_SUFFIX) for file in _below(path, suffix)]
    elif path.suffix.lower() in (TAR_SUFFIX, PARQUET_SUFFIX):
        files = _matching(path)
    else:
        return None
    suffixes = {file.suffix.lower() for file in files}
    if len(suffixes) > 1:
        raise DataError(f"{path} has both {TAR_SUFFIX} and {PARQUET_SUFFIX} files; name those that are meant.")
    if not files:
        return None
    return TarShards(path, files) if suffixes == {TAR_SUFFIX} else ParquetFiles(path, files)


def manifest_of(source: Source, *, progress: Progress = Silent()) -> Path:
    """The manifest of a source in zoo's cache, written there at its first use.

    Raises:
        DataError: The source cannot be read, or holds what zoo cannot use.
        MissingExtraError: Reading it takes a package that is not installed.
        StorageError: The cache cannot be written.
    """
    return write_once(source, cache_folder() / "data", progress=progress)


def _below(folder: Path, suffix: str) -> list[Path]:
    """Files of a kind in a folder, or one folder further down where they are sorted into train, val and test."""
    found = [file for file in folder.iterdir() if file.suffix.lower() == suffix and file.is_file()]
    if not found:
        found = [
            file
            for below in folder.iterdir()
            if below.is_dir()
            for file in below.iterdir()
            if file.suffix.lower() == suffix and file.is_file()
        ]
    return sorted(file for file in found if not file.name.startswith("."))


def _matching(path: Path) -> list[Path]:
    if path.exists() or not has_magic(str(path)):
        return [path]
    found = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor)))) if path.parts else []
    if not found:
        raise DataError(f"no file matches {str(path)!r}.")
    return found
