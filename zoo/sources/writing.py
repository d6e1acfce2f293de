"""Writing the images of a source once, as files with a manifest."""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Protocol

from PIL import Image

from zoo.data.manifest import LABEL_SEPARATOR
from zoo.errors import DataError
from zoo.files import storage_error
from zoo.progress import Progress, Silent

# Counts up when the same source would be written otherwise.
_VERSION = 1
_FILES_A_FOLDER = 1000


@dataclass(frozen=True)
class Sample:
    """One labelled image of a source.

    Attributes:
        content: The bytes of its file, a Pillow image, which is written as PNG, or a file that stays where it is.
        labels: Names of its classes; one, unless the source is multi-label.
        split: ``"train"``, ``"val"``, ``"test"``, or empty.
        name: What the source calls it, for messages.
        suffix: Ending of its file.
        extra: Values of the source's :attr:`Source.columns`.
    """

    content: bytes | Path | Image.Image
    labels: tuple[str, ...]
    split: str = ""
    name: str = ""
    suffix: str = ".png"
    extra: tuple[str, ...] = ()


class Source(Protocol):
    """Images that are not files in folders."""

    @property
    def name(self) -> str:
        """For run folders and reports."""

    @property
    def facts(self) -> Sequence[object]:
        """Plain values that change with the source's content."""

    @property
    def multi_label(self) -> bool:
        """Whether an image may have any number of labels."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of further columns of the manifest, for ``--group-by``."""

    def samples(self) -> Iterable[Sample]:
        """The images, in an order that is always the same."""


def write_once(source: Source, parent: Path, *, progress: Progress = Silent()) -> Path:
    """The manifest of a source, found below ``parent`` or written there whole.

    Args:
        source: What to write.
        parent: Folder of all that was written so.
        progress: Told of each image.

    Raises:
        DataError: The source cannot be read.
        StorageError: The files cannot be written.
    """
    key = sha256(repr((_VERSION, source.name, *source.facts)).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    name = re.sub(r"[^\w.-]+", "-", source.name).strip("-.") or "images"
    folder = parent / f"{name}-{key}"
    manifest = folder / f"{name}.csv"
    if manifest.is_file():
        return manifest
    temporary: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(mkdtemp(prefix=f".{name}-", dir=parent))
        with progress.task(f"writing {name} to the cache", unit="images") as advance:
            for _ in write_samples(source, temporary / manifest.name):
                advance(1)
        try:
            os.replace(temporary, folder)
        except OSError:
            if not manifest.is_file():  # else another process was faster
                raise
    except OSError as error:
        raise storage_error(folder, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def write_samples(source: Source, manifest: Path) -> Iterable[Path]:
    """Write the images of a source beside a manifest of them.

    Args:
        source: What to write.
        manifest: The CSV file to write, in an empty folder.

    Yields:
        Each image's file once it is written.

    Raises:
        DataError: The source cannot be read, or a class has a name that a manifest cannot hold.
    """
    header = ["path", "labels" if source.multi_label else "label", "split", *source.columns]
    with manifest.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        rows = enumerate(source.samples())
        first = next(rows, None)
        if first is None:
            raise DataError(f"{source.name} holds no images.")
        with_splits = bool(first[1].split)
        writer.writerow(header if with_splits else [column for column in header if column != "split"])
        for number, sample in [first]:
            yield _write(number, sample, source, manifest, writer.writerow, with_splits)
        for number, sample in rows:
            yield _write(number, sample, source, manifest, writer.writerow, with_splits)


def _write(
    number: int,
    sample: Sample,
    source: Source,
    manifest: Path,
    write_row: Callable[[list[str]], object],
    with_splits: bool,
) -> Path:
    where = f"{source.name}, image {sample.name or number + 1}"
    if bool(sample.split) != with_splits:
        raise DataError(f"{where}: some images have a split and some have none; give all or none of them one.")
    if source.multi_label and any(LABEL_SEPARATOR in label for label in sample.labels):
        raise DataError(f"{where}: a label holds {LABEL_SEPARATOR}, which separates labels; rename it.")
    path = _file(number, sample, manifest.parent)
    relative = path if isinstance(sample.content, Path) else path.relative_to(manifest.parent)
    split = [sample.split] if with_splits else []
    write_row([relative.as_posix(), LABEL_SEPARATOR.join(sample.labels), *split, *sample.extra])
    return path


def _file(number: int, sample: Sample, folder: Path) -> Path:
    if isinstance(sample.content, Path):
        return sample.content.absolute()
    stem = re.sub(r"[^\w.-]+", "-", sample.name)[-80:].strip("-.")
    path = folder / f"{number // _FILES_A_FOLDER:05d}" / f"{number:08d}{'-' * bool(stem)}{stem}{sample.suffix}"
    path.parent.mkdir(exist_ok=True)
    if isinstance(sample.content, bytes):
        path.write_bytes(sample.content)
    else:
        sample.content.save(path)
    return path
