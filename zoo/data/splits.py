"""Dividing images into training, validation and test images, so that nothing is on two sides."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from zoo.data.images import ImageData, ImageSet, Label, listed
from zoo.data.stratified import LabelSides, unit_order
from zoo.errors import DataError

FRACTIONS = (0.7, 0.15, 0.15)


def split_images(
    data: ImageData,
    *,
    seed: int,
    digests: Mapping[Path, str],
    fractions: Sequence[float] = FRACTIONS,
) -> ImageData:
    """Give the data the splits that it lacks.

    Each class is divided in the given proportions, in an order made from the seed and the images' contents, so neither
    names nor folders matter and one more image moves at most a few. Equal images, and images of one group, stay
    together. Classes of fewer than three different images (two, where one split is to be made) stay in training.
    Multi-label data is divided by iterative stratification (:class:`~zoo.data.stratified.LabelSides`).

    Args:
        data: With ``"all"``, or with ``"train"`` and any of ``"val"`` and ``"test"``, which are kept.
        seed: Any whole number.
        digests: Hash of the content of every image, from :meth:`~zoo.data.reader.ImageReader.scan`.
        fractions: Shares of training, validation and test, above 0.

    Returns:
        The data with the splits ``"train"``, ``"val"`` and ``"test"``; what was remarkable is added to its notes.

    Raises:
        DataError: There are no training images, or too few to split.
    """
    if len(fractions) != 3 or min(fractions) <= 0:
        raise ValueError(f"fractions are three numbers above 0, not {tuple(fractions)}")
    source = "all" if "all" in data.splits else "train"
    if source not in data.splits:
        raise DataError(f"{data.root} has no training images, only {' and '.join(data.splits)}; add a folder train.")
    share = dict(zip(("train", "val", "test"), fractions, strict=True))
    wanted = [split for split in ("test", "val") if split not in data.splits]
    if not wanted:
        return data

    images = data.splits[source]
    total = share["train"] + sum(share[split] for split in wanted)
    make_sides = LabelSides if data.multi_label else _Sides
    sides = make_sides(images, data.classes, {split: share[split] / total for split in wanted})
    assigned = sides.assign(_units(images, digests), [digests[path] for path in images.paths], seed)
    positions: dict[str, list[int]] = {split: [] for split in ("train", *wanted)}
    for position, split in enumerate(assigned):
        positions[split].append(position)
    for split in wanted:
        if not positions[split]:
            raise DataError(
                f"{data.root}: {len(images)} images in {len(data.classes)} classes are too few to set {split} images "
                f"apart; add images, or a folder {split} of your own."
            )
    made = {split: images.subset(chosen) for split, chosen in positions.items()}
    splits = {split: made.get(split) or data.splits[split] for split in ("train", "val", "test")}
    return replace(data, splits=splits, notes=(*data.notes, *sides.notes))


def fingerprint(data: ImageData, digests: Mapping[Path, str]) -> str:
    """SHA-256 of which content has which label in which split, whatever the files are called.

    Args:
        data: The images.
        digests: Hash of the content of every image.
    """

    def names(label: Label) -> str | list[str]:
        return [data.classes[each] for each in label] if isinstance(label, tuple) else data.classes[label]

    lines = sorted(
        json.dumps([split, names(label), digests[path]], ensure_ascii=False)
        for split, images in data.splits.items()
        for path, label in zip(images.paths, images.labels, strict=True)
    )
    return sha256("\n".join(lines).encode()).hexdigest()


def _units(images: ImageSet, digests: Mapping[Path, str]) -> list[list[int]]:
    """Positions that must stay together: equal contents and equal groups, and whatever these connect."""
    leader = list(range(len(images)))

    def find(position: int) -> int:
        while leader[position] != position:
            leader[position] = leader[leader[position]]
            position = leader[position]
        return position

    first: dict[tuple[str, str], int] = {}
    for position, path in enumerate(images.paths):
        keys = [("content", digests[path])]
        if images.groups:
            keys.append(("group", images.groups[position]))
        for key in keys:
            leader[find(position)] = find(first.setdefault(key, position))
    units: dict[int, list[int]] = defaultdict(list)
    for position in range(len(images)):
        units[find(position)].append(position)
    return list(units.values())


class _Sides:
    """Where each unit goes; ``shares`` are those of the splits beside training."""

    def __init__(self, images: ImageSet, classes: Sequence[str], shares: Mapping[str, float]):
        self._labels = tuple(label for (label,) in images.label_sets)
        self._classes = classes
        self._shares = shares
        self.notes: list[str] = []

    def assign(self, units: list[list[int]], digests: Sequence[str], seed: int) -> list[str]:
        """The split of each position."""
        units = sorted(units, key=unit_order(digests, seed))
        self._targets = self._wanted_counts(units)
        self._placed: Counter[tuple[str, int]] = Counter()
        chosen: dict[int, str] = {}
        large = sorted((unit for unit in units if len(unit) > 1), key=len, reverse=True)
        for unit in large:
            self._place(unit, self._best_split(unit), chosen)
        for unit in units:
            if len(unit) == 1:
                self._place(unit, self._open_split(self._labels[unit[0]]), chosen)
        self._fill_empty(units, chosen)
        self._keep_classes_in_train(units, chosen)
        return [chosen[position] for position in range(len(self._labels))]

    def _wanted_counts(self, units: list[list[int]]) -> dict[tuple[str, int], int]:
        per_class = Counter(self._labels)
        units_per_class = Counter(label for unit in units for label in {self._labels[position] for position in unit})
        targets: dict[tuple[str, int], int] = {}
        small = []
        for label, count in sorted(per_class.items()):
            enough = units_per_class[label] > len(self._shares)
            if not enough:
                small.append(self._classes[label])
            for split, share in self._shares.items():
                targets[split, label] = max(1, round(count * share)) if enough else 0
            targets["train", label] = count - sum(targets[split, label] for split in self._shares)
        if small:
            self.notes.append(
                f"{len(small)} class(es) have too few different images to split and stay in training: {listed(small)}"
            )
        return targets

    def _place(self, unit: list[int], split: str, chosen: dict[int, str]) -> None:
        for position in unit:
            if position in chosen:
                self._placed[chosen[position], self._labels[position]] -= 1
            chosen[position] = split
            self._placed[split, self._labels[position]] += 1

    def _best_split(self, unit: list[int]) -> str:
        """The split whose counts come nearest to its targets, in squares, by taking the unit."""
        sizes = Counter(self._labels[position] for position in unit)

        def growth(split: str) -> int:
            excess = {label: self._placed[split, label] - self._targets[split, label] for label in sizes}
            return sum((excess[label] + size) ** 2 - excess[label] ** 2 for label, size in sizes.items())

        return min(("train", *self._shares), key=growth)

    def _open_split(self, label: int) -> str:
        for split in self._shares:
            if self._placed[split, label] < self._targets[split, label]:
                return split
        return "train"

    def _fill_empty(self, units: list[list[int]], chosen: dict[int, str]) -> None:
        for split in self._shares:
            in_train = [unit for unit in units if chosen[unit[0]] == "train"]
            wanted = any(self._targets[split, label] for label in set(self._labels))
            if wanted and split not in chosen.values() and len(in_train) > 1:
                self._place(min(in_train, key=len), split, chosen)

    def _keep_classes_in_train(self, units: list[list[int]], chosen: dict[int, str]) -> None:
        for label in sorted(set(self._labels)):
            if self._placed["train", label] == 0:
                holding = [unit for unit in units if any(self._labels[position] == label for position in unit)]
                self._place(min(holding, key=len), "train", chosen)
