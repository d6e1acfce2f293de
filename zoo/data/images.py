"""Images with their labels, as every way of finding them describes them."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zoo.errors import DataError

Layout = Literal["split folders", "class folders", "manifest", "images"]

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""What a folder or a manifest may call a split, and the split that it means."""

Label = int | tuple[int, ...]
"""Index of an image's class, or, in multi-label data, the indices of all its labels, rising."""


@dataclass(frozen=True)
class ImageSet:
    """Images with their labels.

    Attributes:
        paths: One file each.
        labels: Index of each image's class; in multi-label data the indices of its labels, of which there may be none.
        groups: What each image belongs to (a person, a site), or empty; a group is never split.
    """

    paths: tuple[Path, ...]
    labels: tuple[Label, ...]
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def label_sets(self) -> tuple[tuple[int, ...], ...]:
        """The indices of each image's labels: one each, unless the data is multi-label."""
        return tuple(label if isinstance(label, tuple) else (label,) for label in self.labels)

    def subset(self, positions: Iterable[int]) -> "ImageSet":
        """The images at these positions, in this order."""
        chosen = list(positions)
        return ImageSet(
            paths=tuple(self.paths[position] for position in chosen),
            labels=tuple(self.labels[position] for position in chosen),
            groups=tuple(self.groups[position] for position in chosen) if self.groups else (),
        )


@dataclass(frozen=True)
class ImageData:
    """What was found in a folder or a manifest.

    Attributes:
        root: The folder or the manifest, as it was given.
        name: Its name, for run folders and reports.
        layout: How the images are laid out.
        classes: Names of the classes, sorted; labels count in this order.
        splits: ``"train"``, ``"val"``, ``"test"``, as far as there are any, or ``"all"`` before the images are split.
            Each is sorted by path.
        notes: Sentences about what was passed over or done, for the person who asked.
        multi_label: Whether an image may have several of the classes, or none.
    """

    root: Path
    name: str
    layout: Layout
    classes: tuple[str, ...]
    splits: Mapping[str, ImageSet]
    notes: tuple[str, ...] = ()
    multi_label: bool = False

    @property
    def paths(self) -> tuple[Path, ...]:
        """The images of all splits, one split after the other."""
        return tuple(path for images in self.splits.values() for path in images.paths)

    def counts(self, split: str) -> tuple[int, ...]:
        """Number of images of each class in a split."""
        counted = Counter(label for labels in self.splits[split].label_sets for label in labels)
        return tuple(counted[label] for label in range(len(self.classes)))


Row = tuple[str, Path, tuple[str, ...], str]
"""One image while it is being found: relative path, path, class names, group."""


def class_name(text: str, where: str) -> str:
    """A class's name in the one form that names are compared in (Unicode NFC).

    Raises:
        DataError: It is not valid Unicode.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: the class name {text!r} is not valid Unicode; rename it.") from error
    return unicodedata.normalize("NFC", text)


def build_image_data(
    root: Path,
    *,
    layout: Layout,
    rows: Mapping[str, Sequence[Row]],
    notes: Sequence[str] = (),
    multi_label: bool = False,
) -> ImageData:
    """Number the classes and sort the images.

    Args:
        root: The folder or manifest.
        layout: How the images are laid out.
        rows: For each split (relative path, path, class names, group); groups are empty or all given.
        notes: What to tell.
        multi_label: Whether an image may have another number of classes than one.

    Raises:
        DataError: Validation or test images have a class that training images do not have.
    """
    names = {split: {name for _, _, names, _ in images for name in names} for split, images in rows.items()}
    classes = sorted(names["train"] if "train" in names else set().union(*names.values()))
    for split in names:
        if unknown := sorted(names[split] - set(classes)):
            raise DataError(
                f"{root}: {listed(unknown)} {'is a class' if len(unknown) == 1 else 'are classes'} of {split} but not "
                f"of train, which has {listed(classes)}; names must agree."
            )
    label = {name: index for index, name in enumerate(classes)}
    splits = {}
    for split in sorted(rows, key=("all", "train", "val", "test").index):
        images = sorted(rows[split], key=lambda row: row[0])
        splits[split] = ImageSet(
            paths=tuple(path for _, path, _, _ in images),
            labels=tuple(
                tuple(sorted({label[name] for name in names})) if multi_label else label[names[0]]
                for _, _, names, _ in images
            ),
            groups=tuple(group for _, _, _, group in images) if any(row[3] for row in images) else (),
        )
    name = root.resolve().stem if layout == "manifest" else root.resolve().name
    return ImageData(root, name or "images", layout, tuple(classes), splits, tuple(notes), multi_label)


def listed(names: Sequence[str]) -> str:
    """The first five names, quoted, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
