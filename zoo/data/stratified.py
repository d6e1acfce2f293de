"""Dividing multi-label images, so that every label is divided in the same proportions."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

from zoo.data.images import ImageSet


def unit_order(digests: Sequence[str], seed: int) -> Callable[[Sequence[int]], str]:
    """Sorting key of positions that stay together, made from the seed and the images' contents alone."""
    return lambda unit: sha256(f"{seed}:{min(digests[position] for position in unit)}".encode()).hexdigest()


class LabelSides:
    """Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, doi:10.1007/978-3-642-23808-6_10).

    The label that the fewest images are left of is served first, each of its images going to the split that lacks most
    of that label, then most images altogether. Ties, which the paper breaks at random, go to the split that comes first
    of train, test and val, and the images are taken in the order of :func:`unit_order`, so the result depends on
    contents, labels and seed alone.

    Args:
        images: What to divide.
        classes: Names of the labels; not used.
        shares: Shares of the splits beside training, together below 1.
    """

    def __init__(self, images: ImageSet, classes: Sequence[str], shares: Mapping[str, float]):
        self._labels = images.label_sets
        self._shares = {"train": 1 - sum(shares.values()), **shares}
        self.notes: list[str] = []

    def assign(self, units: list[list[int]], digests: Sequence[str], seed: int) -> list[str]:
        """The split of each position.

        Args:
            units: Positions that stay together.
            digests: Hash of each image's content.
            seed: Any whole number.
        """
        units = sorted(units, key=unit_order(digests, seed))
        contents = [Counter(label for position in unit for label in self._labels[position]) for unit in units]
        holders: dict[int, list[int]] = defaultdict(list)
        for number, content in enumerate(contents):
            for label in content:
                holders[label].append(number)
        totals = sum(contents, Counter[int]())
        lacking = {split: {k: share * n for k, n in totals.items()} for split, share in self._shares.items()}
        images = {split: share * len(self._labels) for split, share in self._shares.items()}
        chosen: dict[int, str] = {}

        def place(number: int, label: int | None) -> None:
            split = max(
                self._shares, key=lambda split: (lacking[split][label] if label is not None else 0, images[split])
            )
            chosen[number] = split
            images[split] -= len(units[number])
            for each, count in contents[number].items():
                lacking[split][each] -= count

        left = {label: len(numbers) for label, numbers in holders.items()}
        while left:
            rarest = min(left, key=lambda label: (left[label], label))
            for number in holders[rarest]:
                if number not in chosen:
                    place(number, rarest)
                    for label in contents[number]:
                        left[label] -= 1
            left = {label: count for label, count in left.items() if count}
        for number in range(len(units)):
            if number not in chosen:
                place(number, None)
        for _, numbers in sorted(holders.items()):
            if all(chosen[number] != "train" for number in numbers):
                chosen[min(numbers, key=lambda number: len(units[number]))] = "train"
        by_position = {position: chosen[number] for number, unit in enumerate(units) for position in unit}
        return [by_position[position] for position in range(len(self._labels))]
