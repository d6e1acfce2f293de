from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from zoo.architecture import Preprocessing
from zoo.data import ImageData, ImageSet, find_images, fingerprint, split_images
from zoo.data.reader import ImageReader
from zoo.errors import DataError


def images(*counts: int, prefix: str = "") -> ImageSet:
    pairs = [
        (Path(f"{prefix}{label}/{number}.jpg"), label) for label, count in enumerate(counts) for number in range(count)
    ]
    return ImageSet(tuple(path for path, _ in pairs), tuple(label for _, label in pairs))


def image_data(**splits: ImageSet) -> ImageData:
    number = max(label for part in splits.values() for label in part.labels) + 1
    return ImageData(Path("root"), "root", "class folders", tuple("abcdefghij"[:number]), splits)


def different(data: ImageData) -> dict[Path, str]:
    return {path: f"content of {path}" for path in data.paths}


def sides(data: ImageData) -> dict[Path, str]:
    return {path: split for split, part in data.splits.items() for path in part.paths}


def test_each_class_is_divided_in_the_same_proportions() -> None:
    data = image_data(all=images(100, 40, 20))
    split = split_images(data, seed=0, digests=different(data))
    assert {name: split.counts(name) for name in split.splits} == {
        "train": (70, 28, 14),
        "val": (15, 6, 3),
        "test": (15, 6, 3),
    }
    assert sorted(split.paths) == sorted(data.paths)
    assert split.notes == ()


def test_the_split_depends_on_the_seed_and_the_contents_alone() -> None:
    data = image_data(all=images(30, 30))
    digests = different(data)
    first = split_images(data, seed=1, digests=digests)
    assert split_images(data, seed=1, digests=digests) == first
    assert sides(split_images(data, seed=2, digests=digests)) != sides(first)
    backwards = image_data(all=data.splits["all"].subset(reversed(range(60))))
    assert sides(split_images(backwards, seed=1, digests=digests)) == sides(first)
    renamed = {path: path.with_name("renamed " + path.name) for path in data.paths}
    moved = image_data(all=ImageSet(tuple(renamed.values()), data.splits["all"].labels))
    moved_split = split_images(moved, seed=1, digests={renamed[path]: digest for path, digest in digests.items()})
    assert sides(moved_split) == {renamed[path]: side for path, side in sides(first).items()}


def test_one_more_image_moves_few() -> None:
    data, larger = image_data(all=images(100, 100)), image_data(all=images(101, 100))
    before = sides(split_images(data, seed=0, digests=different(data)))
    after = sides(split_images(larger, seed=0, digests=different(larger)))
    assert sum(after[path] != side for path, side in before.items()) <= 2


def test_equal_images_stay_together() -> None:
    data = image_data(all=images(60, 60))
    digests = {path: f"{path.parent}{int(path.stem) // 3}" for path in data.paths}
    split = split_images(data, seed=3, digests=digests)
    found = {
        digests[path]: {sides(split)[other] for other in data.paths if digests[other] == digests[path]}
        for path in data.paths
    }
    assert all(len(where) == 1 for where in found.values())
    assert split.counts("test") == (9, 9)


def test_equal_images_of_two_classes_stay_together() -> None:
    data = image_data(all=images(20, 20))
    digests = {path: path.stem for path in data.paths}
    split = split_images(data, seed=0, digests=digests)
    for number in range(20):
        assert sides(split)[Path(f"0/{number}.jpg")] == sides(split)[Path(f"1/{number}.jpg")]
    assert split.counts("val") == (3, 3)


def test_groups_stay_together() -> None:
    base = images(100, 100)
    data = image_data(all=replace(base, groups=tuple(str(int(path.stem) % 10) for path in base.paths)))
    split = split_images(data, seed=0, digests=different(data))
    by_split = {name: set(part.groups) for name, part in split.splits.items()}
    assert sum(len(groups) for groups in by_split.values()) == 10
    assert all(by_split.values())
    assert 10 <= len(split.splits["test"]) <= 40


def test_three_large_groups_fill_three_splits() -> None:
    base = images(30, 30)
    data = image_data(all=replace(base, groups=tuple(str(int(path.stem) % 3) for path in base.paths)))
    split = split_images(data, seed=0, digests=different(data))
    assert [len(part) for part in split.splits.values()] == [20, 20, 20]


def test_too_few_groups_are_refused() -> None:
    base = images(30, 30)
    data = image_data(all=replace(base, groups=tuple(str(int(path.stem) % 2) for path in base.paths)))
    with pytest.raises(DataError, match=r"too few to set .* apart"):
        split_images(data, seed=0, digests=different(data))


def test_small_classes_stay_in_training_and_are_named() -> None:
    data = image_data(all=images(20, 2, 3, 1))
    split = split_images(data, seed=0, digests=different(data))
    assert split.counts("train") == (14, 2, 1, 1)
    assert split.notes == ("2 class(es) have too few different images to split and stay in training: 'b', 'd'",)


def test_copies_do_not_make_a_class_large() -> None:
    data = image_data(all=images(20, 9))
    digests = different(data) | {path: "same" for path in data.paths if path.parent.name == "1"}
    assert split_images(data, seed=0, digests=digests).counts("train") == (14, 9)


def test_nothing_to_split_is_an_error() -> None:
    data = image_data(all=images(2, 2))
    with pytest.raises(DataError, match="4 images in 2 classes are too few to set test images apart"):
        split_images(data, seed=0, digests=different(data))


def test_a_missing_split_is_taken_from_train() -> None:
    data = image_data(train=images(85, 85), test=images(5, 5, prefix="t"))
    split = split_images(data, seed=0, digests=different(data))
    assert list(split.splits) == ["train", "val", "test"]
    assert split.splits["test"] == data.splits["test"]
    assert split.counts("val") == (15, 15)


def test_given_splits_are_kept() -> None:
    data = image_data(train=images(3, 3), val=images(1, 1, prefix="v"), test=images(1, 1, prefix="t"))
    assert split_images(data, seed=0, digests=different(data)) is data


def test_test_images_alone_cannot_be_split() -> None:
    data = image_data(test=images(3, 3))
    with pytest.raises(DataError, match="no training images, only test"):
        split_images(data, seed=0, digests=different(data))


@pytest.mark.parametrize("seed", range(20))
def test_every_class_is_in_training_however_images_repeat(seed: int) -> None:
    data = image_data(all=images(7, 5, 12, 4))
    digests = {path: str(hash((seed, int(path.stem) % 4, path.parent.name if seed % 2 else ""))) for path in data.paths}
    split = split_images(data, seed=seed, digests=digests)
    assert all(split.counts("train"))
    where: dict[str, set[str]] = {}
    for path, side in sides(split).items():
        where.setdefault(digests[path], set()).add(side)
    assert Counter(map(len, where.values())) == {1: len(where)}


def test_the_fingerprint_is_of_content_label_and_split() -> None:
    data = split_images(image_data(all=images(10, 10)), seed=0, digests=different(image_data(all=images(10, 10))))
    digests = different(data)
    expected = fingerprint(data, digests)
    moved = {
        split: replace(part, paths=tuple(Path("/elsewhere") / path for path in part.paths))
        for split, part in data.splits.items()
    }
    assert (
        fingerprint(
            replace(data, splits=moved), {Path("/elsewhere") / path: digest for path, digest in digests.items()}
        )
        == expected
    )
    assert fingerprint(replace(data, classes=("a", "c")), digests) != expected
    assert fingerprint(data, {**digests, data.paths[0]: "other"}) != expected
    swapped = {"train": data.splits["train"], "val": data.splits["test"], "test": data.splits["val"]}
    assert fingerprint(replace(data, splits=swapped), digests) != expected


def test_sign_digits_are_split_evenly(shared_data: Path) -> None:
    data = find_images(shared_data / "sign-digits")
    digests = ImageReader(data.paths, Preprocessing(input_size=(3, 16, 16))).scan().digests
    split = split_images(data, seed=0, digests=digests)
    for name, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        assert all(
            abs(count - share * total) < 1.5
            for count, total in zip(split.counts(name), data.counts("all"), strict=True)
        )
