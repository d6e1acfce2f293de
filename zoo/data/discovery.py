"""Finding images and their classes in folders, and images alone for a prediction."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zoo.data.images import SPLIT_NAMES, ImageData, Layout, build_image_data, class_name, listed
from zoo.data.manifest import read_manifest
from zoo.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".heic", ".heif"}
)
"""Endings, in lower case, of the files that are taken for images."""

_SYSTEM_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db", "$recycle.bin", "@eadir"})
_LAYOUTS = (
    "expected one folder per class, or train/ val/ test/ with one folder per class in each, or a CSV file "
    "with the columns path,label"
)


@dataclass
class _Found:
    """Images below a folder, as paths relative to the root in posix form, and what was passed over."""

    images: list[tuple[str, str]] = field(default_factory=list)  # (relative path, class)
    other: Counter[str] = field(default_factory=Counter)  # endings of files that are no images
    stray: list[str] = field(default_factory=list)  # images beside the class folders
    empty: list[str] = field(default_factory=list)  # class folders without images


def find_images(data: str | Path, *, group_by: str | None = None, min_classes: int = 2) -> ImageData:
    """Find the images and classes of a folder or a CSV manifest.

    A folder holds ``train/`` with ``val/`` (or ``valid/``, ``validation/``) or ``test/`` or both, each with one folder
    per class, or one folder per class directly. Images in folders below a class belong to it. Hidden and system files
    are passed over. For a manifest see :func:`~zoo.data.manifest.read_manifest`.

    Args:
        data: The folder, or the manifest.
        group_by: Column of the manifest that says what must stay on one side of a split.
        min_classes: Fewest classes that are enough; multi-label data may have a single one.

    Returns:
        The images, in an order that does not depend on the file system.

    Raises:
        DataError: There is no such folder, it holds no images or no classes, or the manifest is wrong.
    """
    root = Path(data)
    if not root.exists():
        raise DataError(f"there is no folder or file {str(root)!r}; {_LAYOUTS}.")
    if not root.is_dir():
        if root.suffix.lower() != ".csv":
            raise DataError(f"{root} is a file and not a folder; {_LAYOUTS}.")
        found = read_manifest(root, group_by=group_by)
    elif group_by is not None:
        raise DataError(f"{root} is a folder, so there is no column {group_by!r}; groups need a CSV manifest.")
    else:
        try:
            found = _read_folder(root)
        except OSError as error:
            raise DataError(f"cannot read {error.filename or root}: {error.strerror or error}.") from error
    if len(found.classes) < min_classes and not found.multi_label:
        raise DataError(
            f"{root} holds one class only ({found.classes[0]!r}); telling images apart takes at least {min_classes}: "
            "add a folder for each other class."
        )
    return found


def find_images_to_predict(sources: Sequence[str | Path]) -> list[Path]:
    """The image files that are meant by files and folders.

    Args:
        sources: Files, taken whatever they are called, and folders, searched to the bottom for images.

    Returns:
        Files in the order given; those of a folder in natural order, ``img2.jpg`` before ``img10.jpg``.

    Raises:
        DataError: A source does not exist, or a folder holds no images.
    """
    images: list[Path] = []
    for source in map(Path, sources):
        if not source.exists():
            raise DataError(f"there is no file or folder {str(source)!r}; give image files or folders of images.")
        if not source.is_dir():
            images.append(source)
            continue
        found = _Found()
        try:
            _search(source, "", "", found, set())
        except OSError as error:
            raise DataError(f"cannot read {error.filename or source}: {error.strerror or error}.") from error
        if not found.images:
            raise DataError(f"{source} holds no images{_other_files(found.other, ' (it has ', ')')}.")
        images.extend(
            source / relative for relative, _ in sorted(found.images, key=lambda image: natural_key(image[0]))
        )
    return images


def natural_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """Sorting key that counts runs of digits as numbers; ties are broken by the text itself."""
    parts = [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text) if part]
    return (*parts, (2, text))


def _read_folder(root: Path) -> ImageData:
    folders = [entry.name for entry in _entries(root) if entry.is_dir()]
    split_folders = _split_folders(root, folders)
    found: dict[str, _Found] = {}
    if split_folders:
        layout: Layout = "split folders"
        for split, folder in split_folders.items():
            found[split] = _read_classes(root, f"{folder}/")
    else:
        layout = "class folders"
        found["all"] = _read_classes(root, "")
    for split, part in found.items():
        where = root / split_folders[split] if split_folders else root
        if not part.images:
            raise _no_classes(where, part)
    rows = {
        split: [(relative, root / relative, (name,), "") for relative, name in part.images]
        for split, part in found.items()
    }
    left_out = [name for name in folders if split_folders and name not in split_folders.values()]
    return build_image_data(root, layout=layout, rows=rows, notes=_notes(found, left_out))


def _split_folders(root: Path, folders: Sequence[str]) -> dict[str, str]:
    """Split → folder, or nothing where the folders are classes."""
    named: dict[str, str] = {}
    for folder in folders:
        split = SPLIT_NAMES.get(folder.lower())
        if split is None:
            continue
        if split in named:
            raise DataError(
                f"{root} has both {named[split]!r} and {folder!r} for the {split} images; keep one of them."
            )
        named[split] = folder
    # A class may be called "train": then there are other classes beside it and neither val nor test.
    if len(named) < 2 and len(named) < len(folders):
        return {}
    return {split: named[split] for split in ("train", "val", "test") if split in named}


def _read_classes(root: Path, prefix: str) -> _Found:
    found = _Found()
    visited = {_identity(root), _identity(root / prefix)}
    for entry in _entries(root / prefix):
        relative = prefix + entry.name
        if not entry.is_dir():
            if _is_image(entry):
                found.stray.append(relative)
            else:
                found.other[Path(entry.name).suffix.lower()] += 1
            continue
        before = len(found.images)
        _search(root, f"{relative}/", class_name(entry.name, str(root)), found, set(visited))
        if len(found.images) == before:
            found.empty.append(relative)
    return found


def _search(root: Path, prefix: str, name: str, found: _Found, visited: set[tuple[int, int]]) -> None:
    """Collect the images below ``root/prefix``; folders in ``visited`` are not entered, so that loops of links end."""
    pending = [prefix]
    while pending:
        prefix = pending.pop()
        identity = _identity(root / prefix)
        if identity in visited:
            continue
        visited.add(identity)
        below = []
        for entry in _entries(root / prefix):
            if entry.is_dir():
                below.append(f"{prefix}{entry.name}/")
            elif _is_image(entry):
                found.images.append((prefix + entry.name, name))
            else:
                found.other[Path(entry.name).suffix.lower()] += 1
        pending.extend(reversed(below))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        kept = [entry for entry in entries if not _is_hidden(entry.name)]
    return sorted(kept, key=lambda entry: entry.name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def _is_image(entry: os.DirEntry[str]) -> bool:
    # A broken link is kept, so that it is reported with the unreadable images.
    return Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and (entry.is_file() or entry.is_symlink())


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _no_classes(folder: Path, found: _Found) -> DataError:
    if found.stray:
        count = len(found.stray)
        return DataError(
            f"{folder} holds {count} image{'s' * (count != 1)} but no class folders; put the images of each class into "
            "a folder named after it, or give a CSV file with the columns path,label."
        )
    return DataError(f"{folder} holds no images{_other_files(found.other, ' (it has ', ')')}; {_LAYOUTS}.")


def _notes(found: Mapping[str, _Found], left_out: Sequence[str]) -> list[str]:
    other = sum((part.other for part in found.values()), Counter[str]())
    stray = [relative for part in found.values() for relative in part.stray]
    empty = [relative for part in found.values() for relative in part.empty]
    notes = []
    if other:
        notes.append(f"passed over {_other_files(other, '', '')}")
    if stray:
        notes.append(f"passed over {len(stray)} image(s) that lie beside the class folders, {stray[0]!r} first")
    if empty:
        notes.append(f"passed over {len(empty)} folder(s) without images: {listed(empty)}")
    if left_out:
        notes.append(f"passed over the folder(s) beside the splits: {listed(left_out)}")
    return notes


def _other_files(other: Counter[str], before: str, after: str) -> str:
    if not other:
        return ""
    kinds = ", ".join(f"{count} {suffix or 'without an ending'}" for suffix, count in sorted(other.items()))
    total = other.total()
    return f"{before}{total} other file{'s' * (total != 1)}: {kinds}{after}"
