"""Data sets by name, from local copies."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.data import find_images
from zoo.errors import DataError, MissingExtraError, OptionError
from zoo.sources.own_data import as_path

Pictures = Callable[..., bytes]


def test_a_torchvision_data_set_of_files_is_used_where_it_lies(tmp_path: Path, picture_bytes: Pictures) -> None:
    folder = tmp_path / "eurosat" / "2750"
    for i in range(6):
        (folder / f"class{i % 3}").mkdir(parents=True, exist_ok=True)
        (folder / f"class{i % 3}" / f"{i}.jpg").write_bytes(picture_bytes(i))
    found = find_images(as_path(f"torchvision:EuroSAT:{tmp_path}", offline=True))
    assert found.name == "eurosat"
    assert found.classes == ("class0", "class1", "class2")
    assert found.counts("all") == (2, 2, 2)
    assert found.paths[0] == folder / "class0" / "0.jpg"


def write_mnist(root: Path, kind: str, images: np.ndarray, labels: list[int]) -> None:
    """IDX files (LeCun et al. 1998): magic number, sizes, bytes."""
    root.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(size.to_bytes(4, "big") for size in images.shape)
    (root / f"{kind}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + images.tobytes())
    (root / f"{kind}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + len(labels).to_bytes(4, "big") + bytes(labels))


def test_a_torchvision_data_set_in_memory_is_written_without_loss(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    train, test = (random.integers(0, 256, (count, 28, 28), dtype=np.uint8) for count in (8, 4))
    write_mnist(tmp_path / "MNIST" / "raw", "train", train, [0, 1, 2, 3, 0, 1, 2, 3])
    write_mnist(tmp_path / "MNIST" / "raw", "t10k", test, [0, 1, 2, 3])
    manifest = as_path(f"torchvision:mnist:{tmp_path}", offline=True)
    found = find_images(manifest)
    assert {split: len(images) for split, images in found.splits.items()} == {"train": 8, "test": 4}
    assert found.classes[:2] == ("0 - zero", "1 - one")
    assert found.splits["train"].labels == (0, 1, 2, 3, 0, 1, 2, 3)
    for path, pixels in zip(found.splits["test"].paths, test, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), pixels)


def test_a_torchvision_name_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no data set 'CIFAR11'.* Did you mean 'CIFAR10'"):
        as_path("torchvision:CIFAR11")
    with pytest.raises(DataError, match=r"CIFAR10 cannot be opened in .* Without --offline it is downloaded"):
        as_path(f"torchvision:CIFAR10:{tmp_path}", offline=True)
    with pytest.raises(DataError, match="cannot be opened"):
        as_path(f"torchvision:DTD:{tmp_path}", offline=True)


@pytest.fixture
def hub(tmp_path: Path, picture_bytes: Pictures) -> Callable[..., Path]:
    """Write a data set to the disk as ``save_to_disk`` does."""
    datasets = pytest.importorskip("datasets", reason="needs the extra hf")
    datasets.disable_progress_bars()

    def saved(label: object, values: list[object], *, splits: tuple[str, ...] = ("train", "validation")) -> Path:
        images = [{"bytes": picture_bytes(i), "path": f"{i}.jpg"} for i in range(len(values))]
        features = datasets.Features({"image": datasets.Image(), "label": label})
        made = {
            split: datasets.Dataset.from_dict({"image": images, "label": values}, features=features) for split in splits
        }
        folder = tmp_path / f"saved-{len(list(tmp_path.iterdir()))}"
        datasets.DatasetDict(made).save_to_disk(str(folder))
        return folder

    return saved


def test_a_hub_data_set_keeps_its_bytes_and_names(hub: Callable[..., Path], picture_bytes: Pictures) -> None:
    import datasets

    folder = hub(datasets.ClassLabel(names=["dog", "cat"]), [0, 1, 1, 0])
    found = find_images(as_path(f"hf:{folder}"))
    assert {split: len(images) for split, images in found.splits.items()} == {"train": 4, "val": 4}
    assert found.classes == ("cat", "dog")
    assert found.splits["val"].labels == (1, 0, 0, 1)
    assert as_path(f"hf:{folder}") == found.root
    assert [path.read_bytes() for path in found.splits["train"].paths] == [picture_bytes(i) for i in range(4)]


def test_hub_lists_of_labels_make_it_multi_label(hub: Callable[..., Path]) -> None:
    import datasets

    label = datasets.Sequence(datasets.ClassLabel(names=["a", "b"]))
    found = find_images(as_path(f"hf:{hub(label, [[0, 1], [], [1]], splits=('train',))}"))
    assert found.multi_label
    assert found.splits["all"].labels == ((0, 1), (), (1,))


def test_a_hub_data_set_that_cannot_be_used_is_an_error(hub: Callable[..., Path], tmp_path: Path) -> None:
    import datasets

    with pytest.raises(DataError, match="has the splits a, b, and none is called train"):
        as_path(f"hf:{hub(datasets.Value('string'), ['x'], splits=('a', 'b'))}")
    with pytest.raises(DataError, match=r"row 1: 1\.5 is not a label"):
        as_path(f"hf:{hub(datasets.Value('float32'), [1.5])}")
    with pytest.raises(DataError, match="cannot be read"):
        as_path(f"hf:{tmp_path / 'nowhere'}", offline=True)


def test_without_datasets_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install torch-zoo\[hf\]"):
        as_path("hf:someone/something")
    with pytest.raises(OptionError, match="hf: needs a name"):
        as_path("hf:")
