"""Parquet files."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.data import find_images
from zoo.errors import DataError, MissingExtraError
from zoo.sources.own_data import as_path

Pictures = Callable[..., bytes]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    import pyarrow
    import pyarrow.parquet

    def written(
        columns: dict[str, list[Any]], name: str = "set.parquet", metadata: dict[str, str] | None = None
    ) -> Path:
        table = pyarrow.table(columns)
        if metadata:
            table = table.replace_schema_metadata(metadata)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pyarrow.parquet.write_table(table, tmp_path / name, row_group_size=3)
        return tmp_path / name

    return written


def test_bytes_are_written_and_paths_stay(write: Callable[..., Path], picture_bytes: Pictures, tmp_path: Path) -> None:
    contents = [picture_bytes(i) for i in range(10)]
    labels = ["a" if i % 2 else "b" for i in range(10)]
    found = find_images(
        as_path(write({"bytes": contents, "label": labels, "person": [str(i // 3) for i in range(10)]})),
        group_by="person",
    )
    assert [path.read_bytes() for path in found.paths] == contents
    assert found.splits["all"].labels == tuple(i % 2 == 0 for i in range(10))
    assert found.splits["all"].groups[3] == "1"
    for i, content in enumerate(contents):
        (tmp_path / f"{i}.jpg").write_bytes(content)
    found = find_images(as_path(write({"path": [f"{i}.jpg" for i in range(10)], "label": labels}, "paths.parquet")))
    assert found.paths == tuple(tmp_path / f"{i}.jpg" for i in range(10))


def test_splits_come_from_a_column_or_the_files_names(
    write: Callable[..., Path], picture_bytes: Pictures, tmp_path: Path
) -> None:
    contents = [picture_bytes(i) for i in range(4)]
    file = write({"bytes": contents, "label": list("abab"), "split": ["train", "train", "validation", "test"]})
    found = find_images(as_path(file))
    assert {split: len(images) for split, images in found.splits.items()} == {"train": 2, "val": 1, "test": 1}
    file.unlink()
    write({"bytes": contents[:2], "label": ["a", "b"]}, "parts/train-00000-of-00001.parquet")
    write({"bytes": contents[2:], "label": ["a", "b"]}, "parts/test-00000-of-00001.parquet")
    found = find_images(as_path(tmp_path / "parts"))
    assert {split: len(images) for split, images in found.splits.items()} == {"train": 2, "test": 2}


def test_hugging_faces_records_and_class_names_are_understood(
    write: Callable[..., Path], picture_bytes: Pictures
) -> None:
    info = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    images = [{"bytes": picture_bytes(i), "path": f"x/{i}.jpg"} for i in range(4)]
    found = find_images(
        as_path(write({"image": images, "label": [0, 1, 1, 0]}, metadata={"huggingface": json.dumps(info)}))
    )
    assert found.classes == ("cat", "dog")
    assert found.splits["all"].labels == (0, 1, 1, 0)
    assert found.paths[0].suffix == ".jpg"


@pytest.mark.parametrize("labels", [[["a", "b"], [], ["b"], None], ["a|b", "", "b", None]])
def test_lists_of_labels_make_it_multi_label(
    write: Callable[..., Path], picture_bytes: Pictures, labels: list[Any]
) -> None:
    found = find_images(as_path(write({"bytes": [picture_bytes(i) for i in range(4)], "labels": labels})))
    assert found.multi_label
    assert found.splits["all"].labels == ((0, 1), (), (1,), ())


def test_what_is_wrong_is_named(write: Callable[..., Path], picture_bytes: Pictures, tmp_path: Path) -> None:
    content = [picture_bytes(0)]
    for columns, message in (
        ({"bytes": content, "kind": ["a"]}, "no column 'labels' or 'label'; its columns are bytes, kind"),
        ({"pixels": content, "label": ["a"]}, "no column 'image' or 'bytes'"),
        ({"bytes": [None], "label": ["a"]}, r"row 1: there is no image"),
        ({"path": ["no.jpg"], "label": ["a"]}, r"row 1: there is no file .*no\.jpg"),
        ({"bytes": content, "label": [None]}, "row 1: None is not a label"),
        ({"bytes": content, "label": ["a"], "split": ["dev"]}, "unknown split 'dev'"),
    ):
        with pytest.raises(DataError, match=message):
            as_path(write(columns))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        as_path(tmp_path / "broken.parquet")


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtraError, match=r"pip install torch-zoo\[parquet\]"):
        as_path(tmp_path / "a.parquet")
