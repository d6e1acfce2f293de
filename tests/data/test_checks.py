from pathlib import Path

import pytest

from zoo.data import BadImage, Finding, ImageData, ImageSet, check_images, leave_out
from zoo.errors import DataError


def image_set(split: str, *counts: int) -> ImageSet:
    pairs = [
        (Path(f"{split}/{label}/{number}.jpg"), label) for label, count in enumerate(counts) for number in range(count)
    ]
    return ImageSet(tuple(path for path, _ in pairs), tuple(label for _, label in pairs))


def image_data(**counts: tuple[int, ...]) -> ImageData:
    splits = {split: image_set(split, *count) for split, count in counts.items()}
    return ImageData(Path("root"), "root", "split folders", ("a", "b"), splits)


def different(data: ImageData) -> dict[Path, str]:
    return {path: str(path) for path in data.paths}


def test_sound_data_give_no_findings() -> None:
    data = image_data(train=(20, 30), val=(5, 5), test=(5, 5))
    assert check_images(data, different(data)) == []


def test_an_image_in_two_splits_is_named_with_both_paths() -> None:
    data = image_data(train=(20, 20), val=(5, 5), test=(5, 5))
    digests = different(data) | {Path("test/1/3.jpg"): "train/1/7.jpg"}
    (finding,) = check_images(data, digests)
    assert finding.level == "warning"
    assert "1 of 10 test images (10%) are train images too" in finding.text
    assert "test/1/3.jpg and train/1/7.jpg" in finding.text


def test_a_test_set_copied_from_train_is_an_error() -> None:
    data = image_data(train=(20, 20), test=(5, 5))
    digests = different(data) | {path: str(path).replace("test", "train") for path in data.splits["test"].paths}
    assert check_images(data, digests)[0].level == "error"


def test_one_image_of_two_classes_is_named() -> None:
    data = image_data(train=(20, 20))
    digests = different(data) | {Path("train/1/3.jpg"): "train/0/7.jpg"}
    (finding,) = check_images(data, digests)
    assert finding == Finding(
        "warning", "1 image(s) have more than one class, for example train/0/7.jpg and train/1/3.jpg are equal"
    )


def test_a_class_that_a_split_lacks_is_named() -> None:
    data = image_data(train=(20, 20), test=(5, 0))
    (finding,) = check_images(data, different(data))
    assert finding == Finding("warning", "test has no images of 1 class(es): 'b'")


def test_unequal_and_small_classes_are_named() -> None:
    data = image_data(train=(200, 9))
    texts = [finding.text for finding in check_images(data, different(data))]
    assert texts[0].startswith("classes are unequal: 200 train images of 'a', 9 of 'b'")
    assert texts[1] == "1 class(es) have fewer than 10 train images: 'b' (9)"


def test_unreadable_images_are_left_out() -> None:
    data = image_data(all=(3, 3))
    kept = leave_out(data, [BadImage(Path("all/1/0.jpg"), "is empty")])
    assert kept.counts("all") == (3, 2)
    assert Path("all/1/0.jpg") not in kept.paths
    assert leave_out(data, []) is data


def test_a_class_without_readable_images_is_an_error() -> None:
    data = image_data(train=(3, 3), test=(1, 1))
    with pytest.raises(
        DataError, match=r"no image of class 'b' in test can be read, for example test/1/0\.jpg: is empty"
    ):
        leave_out(data, [BadImage(Path("test/1/0.jpg"), "is empty")])
