"""Data sets of a programmer's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.data import ImageData, find_images
from zoo.errors import DataError
from zoo.sources.own_data import as_folder


class Items:
    def __init__(self, items: Sequence[tuple[Any, Any]], classes: object = ("cat", "dog/puppy", "a,b")) -> None:
        self.items = items
        self.classes = classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        return self.items[i]


def pixels(number: int, channels: int = 3) -> torch.Tensor:
    return torch.full((channels, 4, 5), number, dtype=torch.uint8)


def found_in(data: dict[str, Items]) -> tuple[ImageData, list[np.ndarray]]:
    with as_folder(data) as folder:
        found = find_images(folder)
        return found, [np.asarray(Image.open(path)) for path in found.paths]


def test_items_keep_their_pixels_labels_and_splits() -> None:
    train = Items(
        [(pixels(1), 0), (Image.new("RGB", (3, 3), (9, 9, 9)), torch.tensor(1)), (pixels(3, 1).numpy(), np.int64(2))]
    )
    found, images = found_in({"train": train, "val": Items([(pixels(4), 0)])})
    assert found.classes == ("a,b", "cat", "dog/puppy")
    assert [found.classes[i] for i in found.splits["train"].labels] == ["cat", "dog/puppy", "a,b"]
    assert len(found.splits["val"]) == 1
    assert [int(image.flat[0]) for image in images] == [1, 9, 3, 4]
    assert found_in({"train": train})[0].splits.keys() == {"all"}


def test_lists_of_labels_make_it_multi_label() -> None:
    found, _ = found_in({"train": Items([(pixels(1), [0, 2]), (pixels(2), ()), (pixels(3), [1])])})
    assert found.multi_label
    assert [{found.classes[i] for i in labels} for labels in found.splits["all"].label_sets] == [
        {"cat", "a,b"},
        set(),
        {"dog/puppy"},
    ]


def test_what_was_written_is_removed(tmp_path: Path) -> None:
    with as_folder({"train": Items([(pixels(1), 0), (pixels(2), 1)])}) as folder:
        assert folder.is_file()
    assert not folder.parent.exists()
    with as_folder(tmp_path) as folder:
        assert folder == tmp_path


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"val": Items([])}, "train at least"),
        ({"train": Items([(pixels(1), 0)], classes=())}, "no attribute 'classes'"),
        ({"train": Items([(pixels(1), 3)])}, "item 0 of split 'train': label 3 is beyond the 3 class names"),
        ({"train": Items([(pixels(1).float(), 0)])}, "give the data set without transforms"),
        ({"train": Items([(pixels(1), [0]), (pixels(1), 0)])}, "some labels are lists and some are not"),
        ({"train": Items([])}, "data holds no images"),
    ],
)
def test_another_form_is_an_error(data: dict[str, Items], message: str) -> None:
    with pytest.raises(DataError, match=message), as_folder(data):
        pass
