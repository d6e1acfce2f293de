"""Data sets of a programmer's own, brought into the one form that everything else reads: image files in folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from zoo.errors import DataError
from zoo.files import cache_folder

_SPLITS = ("train", "val", "test")


@contextmanager
def as_folder(data: str | Path | Mapping[str, Any]) -> Iterator[Path]:
    """The data as a folder or manifest: paths as they are, data sets written as PNG files while the block runs.

    PNG loses nothing, and every check, split and stored feature then works as it does for photos.

    Args:
        data: A path, or data sets by split (``train``, and where there are any ``val`` and ``test``), each with
            ``classes`` (names in the order of the labels), a length, and items ``(image, label)``: a Pillow image, or
            a uint8 tensor or array ``(C, H, W)``, before any transform, and a class index.

    Raises:
        DataError: A data set has another form.
    """
    if isinstance(data, str | Path):
        yield Path(data)
        return
    if not isinstance(data, Mapping) or "train" not in data or set(data) - set(_SPLITS):
        raise DataError(
            "data is a path, or data sets by split: {'train': ..., 'val': ..., 'test': ...}, train at least."
        )
    parent = cache_folder() / "own-data"
    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=parent) as folder:
        root = Path(folder) / "images"
        # With training images alone zoo makes the split; one folder per class is the layout that asks for it.
        for split, dataset in data.items():
            _write(dataset, root / split if len(data) > 1 else root, split)
        yield root


def _write(dataset: Any, folder: Path, split: str) -> None:
    classes = getattr(dataset, "classes", None)
    if not classes:
        raise DataError(f"the data set of split {split!r} has no attribute 'classes' with the names of its classes.")
    for name in classes:
        if not isinstance(name, str) or not name or "/" in name or name in (".", ".."):
            raise DataError(f"the class name {name!r} of split {split!r} cannot name a folder.")
        (folder / name).mkdir(parents=True)
    for i in range(len(dataset)):
        image, label = dataset[i]
        _as_image(image, split, i).save(folder / classes[int(label)] / f"{i:08d}.png")


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
