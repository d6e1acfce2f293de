"""Data in any form, brought into the one that everything else reads: a folder of images, or a manifest of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from zoo.errors import DataError
from zoo.files import cache_folder
from zoo.progress import Progress, Silent
from zoo.sources import find_source, manifest_of
from zoo.sources.naming import labels_in
from zoo.sources.writing import Sample, write_samples

_SPLITS = ("train", "val", "test")


@contextmanager
def as_folder(
    data: str | Path | Mapping[str, Any], *, offline: bool = False, progress: Progress = Silent()
) -> Iterator[Path]:
    """The data as a folder or manifest: those as they are, sources from the cache, data sets while the block runs.

    Data sets of one's own are written as PNG files, which loses nothing, and every check, split and stored feature
    then works as it does for photos.

    Args:
        data: A folder, a manifest, what :func:`zoo.sources.find_source` knows, or data sets by split (``train``, and
            where there are any ``val`` and ``test``), each with ``classes`` (names in the order of the labels), a
            length, and items ``(image, label)``: a Pillow image, or a uint8 tensor or array ``(C, H, W)``, before any
            transform, and a class index, or a list of them, which makes the data multi-label.
        offline: Never download.
        progress: Told of what is written.

    Raises:
        DataError: A source cannot be read, or a data set has another form.
    """
    if isinstance(data, str | Path):
        yield as_path(data, offline=offline, progress=progress)
        return
    if not isinstance(data, Mapping) or "train" not in data or set(data) - set(_SPLITS):
        raise DataError(
            "data is a path, or data sets by split: {'train': ..., 'val': ..., 'test': ...}, train at least."
        )
    parent = cache_folder() / "own-data"
    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=parent) as folder:
        manifest = Path(folder) / "images.csv"
        for _ in write_samples(_OwnData(data), manifest):
            pass
        yield manifest


def as_path(data: str | Path, *, offline: bool = False, progress: Progress = Silent()) -> Path:
    """The folder or manifest that data means; a source is written to the cache at its first use.

    Raises:
        DataError: A source cannot be read.
    """
    source = find_source(data, offline=offline)
    return Path(data) if source is None else manifest_of(source, progress=progress)


@dataclass(frozen=True)
class _OwnData:
    """The caller's data sets as a source."""

    data: Mapping[str, Any]
    name: str = "data"
    facts: Sequence[object] = ()
    columns: Sequence[str] = ()

    @property
    def multi_label(self) -> bool:
        train = self.data["train"]
        return len(train) > 0 and _is_list(train[0][1])

    def samples(self) -> Iterator[Sample]:
        for split, dataset in self.data.items():
            classes = getattr(dataset, "classes", None)
            if not classes or not all(isinstance(name, str) and name for name in classes):
                raise DataError(
                    f"the data set of split {split!r} has no attribute 'classes' with the names of its classes."
                )
            for i in range(len(dataset)):
                image, label = dataset[i]
                where = f"item {i} of split {split!r}"
                if _is_list(label) != self.multi_label:
                    raise DataError(f"{where}: some labels are lists and some are not; give all images a list.")
                numbers = [int(each) for each in label] if _is_list(label) else int(label)
                # With training images alone zoo makes the split.
                yield Sample(
                    _as_image(image, split, i),
                    labels_in(numbers, classes, where),
                    split=split if len(self.data) > 1 else "",
                    name=f"{split}-{i}",
                )


def _is_list(label: Any) -> bool:
    return isinstance(label, list | tuple | set | frozenset)


def _as_image(image: Any, split: str, i: int) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    array = image.numpy() if hasattr(image, "numpy") else image
    if getattr(array, "dtype", None) != "uint8" or getattr(array, "ndim", 0) != 3 or array.shape[0] not in (1, 3, 4):
        raise DataError(
            f"item {i} of split {split!r} is {type(image).__name__}, not a Pillow image or a uint8 tensor (C, H, W); "
            "give the data set without transforms: zoo resizes, augments and normalises."
        )
    return Image.fromarray(array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0))
