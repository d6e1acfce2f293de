"""Dividing multi-label images."""

from pathlib import Path

import numpy as np
import pytest

from zoo.data import ImageData, ImageSet, fingerprint, split_images


def labelled(count: int, shares: tuple[float, ...], *, seed: int = 0, groups: int = 0) -> ImageData:
    random = np.random.default_rng(seed)
    rows = random.random((count, len(shares))) < np.array(shares)
    labels = tuple(tuple(np.flatnonzero(row).tolist()) for row in rows)
    images = ImageSet(
        tuple(Path(f"{number}.jpg") for number in range(count)),
        labels,
        tuple(str(number % groups) for number in range(count)) if groups else (),
    )
    return ImageData(Path("root.csv"), "root", "manifest", tuple("abcdefgh"[: len(shares)]), {"all": images}, (), True)


def different(data: ImageData) -> dict[Path, str]:
    return {path: f"content of {path}" for path in data.paths}


def sides(data: ImageData) -> dict[Path, str]:
    return {path: split for split, part in data.splits.items() for path in part.paths}


@pytest.mark.parametrize("seed", range(5))
def test_every_label_is_divided_in_the_same_proportions(seed: int) -> None:
    data = labelled(400, (0.5, 0.3, 0.1, 0.04), seed=seed)
    split = split_images(data, seed=seed, digests=different(data))
    for name, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        assert abs(len(split.splits[name]) - share * 400) <= 4
        for count, total in zip(split.counts(name), data.counts("all"), strict=True):
            assert abs(count - share * total) <= max(2, 0.05 * total)
    assert sorted(split.paths) == sorted(data.paths)


def test_rare_labels_are_divided_more_evenly_than_at_random() -> None:
    data = labelled(600, (0.5, 0.3, 0.03, 0.02, 0.02, 0.015))
    digests = different(data)
    split = split_images(data, seed=0, digests=digests)
    random = np.random.default_rng(0).permutation(600)[:90]
    chance = [sum(label in data.splits["all"].label_sets[i] for i in random) for label in range(6)]
    wanted = [0.15 * count for count in data.counts("all")]
    ours = sum(abs(count - want) / want for count, want in zip(split.counts("test"), wanted, strict=True))
    theirs = sum(abs(count - want) / want for count, want in zip(chance, wanted, strict=True))
    assert ours < theirs / 2


def test_the_split_depends_on_the_seed_and_the_contents_alone() -> None:
    data = labelled(120, (0.4, 0.2, 0.1))
    digests = different(data)
    first = split_images(data, seed=1, digests=digests)
    everything = data.splits["all"]
    backwards = ImageData(
        data.root, "root", "manifest", data.classes, {"all": everything.subset(reversed(range(120)))}, (), True
    )
    assert sides(split_images(backwards, seed=1, digests=digests)) == sides(first)
    assert sides(split_images(data, seed=2, digests=digests)) != sides(first)
    assert fingerprint(split_images(backwards, seed=1, digests=digests), digests) == fingerprint(first, digests)


def test_equal_images_and_groups_stay_together() -> None:
    data = labelled(200, (0.4, 0.2), groups=40)
    split = split_images(data, seed=0, digests=different(data))
    groups = [set(part.groups) for part in split.splits.values()]
    assert sum(map(len, groups)) == 40
    assert all(groups)
    data = labelled(90, (0.4, 0.2))
    digests = {path: str(int(path.stem) // 3) for path in data.paths}
    split = split_images(data, seed=0, digests=digests)
    assert sum(len({digests[path] for path in part.paths}) for part in split.splits.values()) == 30


def test_the_only_image_of_a_label_is_a_training_image() -> None:
    base = labelled(60, (0.5, 0.3))
    images = base.splits["all"]
    for lonely in range(5):
        labels = tuple((*labels, 2) if i == lonely else labels for i, labels in enumerate(images.labels))
        data = ImageData(
            base.root, "root", "manifest", ("a", "b", "c"), {"all": ImageSet(images.paths, labels)}, (), True
        )
        assert split_images(data, seed=0, digests=different(data)).counts("train")[2] == 1


def test_the_fingerprint_is_of_the_label_sets() -> None:
    data = split_images(labelled(60, (0.5, 0.3)), seed=0, digests=different(labelled(60, (0.5, 0.3))))
    digests = different(data)
    part = data.splits["train"]
    changed = {**data.splits, "train": ImageSet(part.paths, ((), *part.labels[1:]))}
    other = ImageData(data.root, "root", "manifest", data.classes, changed, (), True)
    assert (part.labels[0] == ()) == (fingerprint(other, digests) == fingerprint(data, digests))
