from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.data import find_images
from zoo.errors import DataError


@pytest.fixture
def manifest(folder_of: Callable[..., Path]) -> Callable[..., Path]:
    root = folder_of("x/1.png", "x/2.png", "3.png", "4.png")

    def write(text: str, encoding: str = "utf-8") -> Path:
        file = root / "images.csv"
        file.write_bytes(text.encode(encoding))
        return file

    return write


def test_paths_are_relative_to_the_manifest(manifest: Callable[..., Path]) -> None:
    file = manifest("path,label\nx/2.png,dog\nx/1.png,cat\n3.png,dog\n")
    found = find_images(file)
    assert (found.layout, found.name, found.classes) == ("manifest", "images", ("cat", "dog"))
    assert found.paths == tuple(file.parent / name for name in ("3.png", "x/1.png", "x/2.png"))
    assert found.splits["all"].labels == (1, 0, 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_splits_and_a_byte_order_mark_are_read(manifest: Callable[..., Path], encoding: str) -> None:
    text = "path,split,label\r\nx/1.png,train,a\r\nx/2.png,Train,b\r\n3.png,valid,a\r\n4.png,test,b\r\n"
    found = find_images(manifest(text, encoding))
    assert {split: len(images) for split, images in found.splits.items()} == {"train": 2, "val": 1, "test": 1}


def test_quoted_labels_keep_their_commas(manifest: Callable[..., Path]) -> None:
    assert find_images(manifest('path,label\n3.png,"a, b"\n4.png, c \n')).classes == ("a, b", "c")


def test_groups_come_from_the_column_asked_for(manifest: Callable[..., Path]) -> None:
    file = manifest("path,label,person\n4.png,a,eve\n3.png,b,bob\n")
    assert find_images(file, group_by="person").splits["all"].groups == ("bob", "eve")
    assert find_images(file).splits["all"].groups == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column 'path'"),
        ("3.png,a\n4.png,b\n", r"line 1: no column 'path'; .* reads '3.png,a'"),
        ("path;label\n3.png;a\n", "separated by commas"),
        ("path,label\n", "lists no images"),
        ("path,label,label\n3.png,a,b\n", "line 1: the column 'label' is named twice"),
        ("path,label\n3.png,a\n4.png,\n", "line 3: the label is empty"),
        ("path,label\n3.png,a\n,b\n", "line 3: the path is empty"),
        ("path,label\n3.png\n", "line 2: the number of values differs"),
        ("path,label\n3.png,a,b\n", "line 2: the number of values differs"),
        ("path,label\n3.png,a\n3.png,b\n", r"line 3: '3\.png' is listed in line 2 already"),
        ("path,label\n3.png,a\nno.png,b\n", r"1 file\(s\) that do not exist .*\n  line 3: no\.png"),
        ("path,label\n3.png,a\na\0b,b\n", "line 3"),
        ("path,label\n3.png,a\nx,b\n", "line 3: x"),
        ("path,label,split\n3.png,a,train\n4.png,b,dev\n", "line 3: unknown split 'dev'"),
        ("path,label,split\n3.png,a,train\n4.png,b,\n", r"'split' is empty for 1 line\(s\); fill all or none"),
        ("path,label,split\n3.png,a,train\nx/1.png,b,train\n4.png,c,test\n", "'c' is a class of test but not of train"),
        ('path,label\n3.png,"a\n', "not a usable CSV file"),
        ("path,label\n3.png,a\n4.png,a\n", "one class only"),
    ],
)
def test_a_wrong_line_is_named_with_its_number(manifest: Callable[..., Path], text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_images(manifest(text))


def test_only_ten_missing_files_are_listed(manifest: Callable[..., Path]) -> None:
    lines = "".join(f"no{number}.png,a\n" for number in range(25))
    with pytest.raises(DataError, match=r"25 file\(s\)") as raised:
        find_images(manifest("path,label\n" + lines))
    assert str(raised.value).count("\n") == 11
    assert "and 15 more" in str(raised.value)


def test_a_group_must_be_given_and_known(manifest: Callable[..., Path]) -> None:
    file = manifest("path,label,person\n4.png,a,eve\n3.png,b,\n")
    with pytest.raises(DataError, match="line 3: the column 'person' is empty"):
        find_images(file, group_by="person")
    with pytest.raises(DataError, match=r"no column 'persons' to group by\. Did you mean 'person'"):
        find_images(file, group_by="persons")


def test_another_encoding_is_refused(manifest: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="not UTF-8 text"):
        find_images(manifest("path,label\n3.png,größe\n", "latin-1"))


def test_the_column_labels_makes_the_data_multi_label(manifest: Callable[..., Path]) -> None:
    found = find_images(manifest("path,labels\n3.png,b|a\nx/1.png,\n4.png, c \nx/2.png,a|a\n"))
    assert found.multi_label
    assert found.classes == ("a", "b", "c")
    assert found.splits["all"].labels == ((0, 1), (2,), (), (0,))
    assert found.counts("all") == (2, 1, 1)


def test_a_single_label_is_enough_where_images_may_lack_it(manifest: Callable[..., Path]) -> None:
    found = find_images(manifest("path,labels\n3.png,crack\n4.png,\n"))
    assert (found.classes, found.splits["all"].labels) == (("crack",), ((0,), ()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,labels\n3.png,a,a|b\n", "a column 'label' .* and a column 'labels'"),
        ("path,labels\n3.png,a;b\n", r"line 2: the labels 'a;b' are not separated by \|"),
        ("path,labels\n3.png,a||b\n", r"line 2: a label in 'a\|\|b' is empty"),
        ("path,labels\n3.png,\n4.png,\n", "the column 'labels' is empty in every line"),
        ("path,labels,split\n3.png,a,train\n4.png,b|a,val\n", "'b' is a class of val but not of train"),
    ],
)
def test_wrong_label_lists_are_named(manifest: Callable[..., Path], text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_images(manifest(text))
