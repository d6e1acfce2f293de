import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zoo.data import find_images, find_images_to_predict
from zoo.errors import DataError

FolderOf = Callable[..., Path]


def relative(root: Path, paths: tuple[Path, ...]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_folders_are_classes_sorted_by_name_and_images_by_path(folder_of: FolderOf) -> None:
    root = folder_of("dog/2.png", "cat/b.JPG", "cat/a.jpeg", "dog/10.png")
    found = find_images(root)
    assert found.layout == "class folders"
    assert found.name == "photos"
    assert found.classes == ("cat", "dog")
    assert relative(root, found.paths) == ["cat/a.jpeg", "cat/b.JPG", "dog/10.png", "dog/2.png"]
    assert found.splits["all"].labels == (0, 0, 1, 1)
    assert found.counts("all") == (2, 2)


def test_images_in_folders_below_a_class_belong_to_it(folder_of: FolderOf) -> None:
    found = find_images(folder_of("cat/indoor/night/1.png", "cat/2.png", "dog/1.png"))
    assert found.classes == ("cat", "dog")
    assert found.counts("all") == (2, 1)


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val"])
def test_split_folders_are_recognised(folder_of: FolderOf, validation: str) -> None:
    found = find_images(folder_of("train/a/1.png", "train/b/1.png", f"{validation}/a/1.png", "test/b/1.png"))
    assert found.layout == "split folders"
    assert list(found.splits) == ["train", "val", "test"]
    assert found.splits["val"].labels == (0,)
    assert found.splits["test"].labels == (1,)


@pytest.mark.parametrize("others", [["val"], ["test"], []])
def test_train_may_stand_with_one_other_split_or_alone(folder_of: FolderOf, others: list[str]) -> None:
    found = find_images(folder_of("train/a/1.png", "train/b/1.png", *[f"{other}/a/1.png" for other in others]))
    assert list(found.splits) == ["train", *others]


def test_a_class_may_be_called_train(folder_of: FolderOf) -> None:
    assert find_images(folder_of("train/1.png", "bus/1.png", "car/1.png")).classes == ("bus", "car", "train")


def test_two_names_for_one_split_are_refused(folder_of: FolderOf) -> None:
    root = folder_of("train/a/1.png", "val/a/1.png", "validation/a/1.png")
    with pytest.raises(DataError, match="both 'val' and 'validation'"):
        find_images(root)


def test_a_class_of_test_that_train_lacks_is_named(folder_of: FolderOf) -> None:
    root = folder_of("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/zebra/1.png")
    with pytest.raises(DataError, match=r"'zebra' is a class of test but not of train, which has 'a', 'b'"):
        find_images(root)


def test_labels_follow_the_names_where_test_lacks_a_class(folder_of: FolderOf) -> None:
    found = find_images(folder_of("train/a/1.png", "train/b/1.png", "train/c/1.png", "test/a/1.png", "test/c/1.png"))
    assert found.splits["test"].labels == (0, 2)


def test_names_agree_in_either_unicode_form(folder_of: FolderOf) -> None:
    found = find_images(folder_of("train/caf\u00e9/1.png", "train/b/1.png", "test/cafe\u0301/1.png"))
    assert found.classes == ("b", "caf\u00e9")
    assert found.splits["test"].labels == (1,)


def test_hidden_and_system_files_are_passed_over_silently(folder_of: FolderOf) -> None:
    root = folder_of("a/1.png", "b/1.png", "__MACOSX/a/1.png", "a/._1.png", ".cache/1.png")
    (root / "a/.DS_Store").write_bytes(b"x")
    (root / "b/Thumbs.db").write_bytes(b"x")
    (root / "desktop.ini").write_bytes(b"x")
    found = find_images(root)
    assert found.classes == ("a", "b")
    assert len(found.paths) == 2
    assert found.notes == ()


def test_other_files_are_passed_over_and_counted(folder_of: FolderOf) -> None:
    root = folder_of("a/1.png", "b/1.png", "beside.png", "extra/deep/1.png")
    for name in ("a/notes.txt", "b/more.TXT", "b/README", "labels.csv"):
        (root / name).write_text("x")
    (root / "nothing").mkdir()
    notes = find_images(root).notes
    assert "passed over 4 other files: 1 without an ending, 1 .csv, 2 .txt" in notes
    assert "passed over 1 image(s) that lie beside the class folders, 'beside.png' first" in notes
    assert "passed over 1 folder(s) without images: 'nothing'" in notes


def test_a_text_file_called_jpg_is_a_candidate(folder_of: FolderOf) -> None:
    root = folder_of("a/1.png", "b/1.png")
    (root / "a/fake.jpg").write_text("hello")
    (root / "b/broken-link.jpg").symlink_to(root / "nowhere.jpg")
    assert len(find_images(root).paths) == 4


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], r"holds no images; expected one folder per class"),
        (["a/1.png"], r"holds one class only \('a'\).*add a folder for each other class"),
        (["1.png", "2.png"], r"holds 2 images but no class folders; put the images of each class into a folder"),
        (["train/1.png", "test/2.png"], r"train holds 1 image but no class folders"),
    ],
)
def test_a_folder_without_usable_classes_is_explained(folder_of: FolderOf, paths: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        find_images(folder_of(*paths))
    assert raised.value.exit_code == 3
    assert "\n" not in str(raised.value)


def test_one_class_is_enough_where_asked(folder_of: FolderOf) -> None:
    assert find_images(folder_of("a/1.png"), min_classes=1).classes == ("a",)


def test_what_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder or file '.*nowhere'; expected one folder per class"):
        find_images(tmp_path / "nowhere")


def test_a_file_that_is_no_manifest_is_refused(folder_of: FolderOf) -> None:
    with pytest.raises(DataError, match=r"1\.png is a file and not a folder"):
        find_images(folder_of("a/1.png") / "a/1.png")


def test_a_folder_has_no_column_to_group_by(folder_of: FolderOf) -> None:
    with pytest.raises(DataError, match="groups need a CSV manifest"):
        find_images(folder_of("a/1.png", "b/1.png"), group_by="person")


def test_loops_of_links_end(folder_of: FolderOf) -> None:
    root = folder_of("a/1.png", "b/deep/1.png")
    (root / "a/up").symlink_to(root)
    (root / "b/deep/self").symlink_to(root / "b")
    (root / "b/other").symlink_to(root / "b/deep")
    found = find_images(root)
    assert found.counts("all") == (1, 1)


def test_linked_class_folders_are_followed(folder_of: FolderOf, tmp_path: Path) -> None:
    elsewhere = folder_of("1.png", "2.png", name="elsewhere")
    root = folder_of("a/1.png")
    (root / "b").symlink_to(elsewhere)
    assert find_images(root).counts("all") == (1, 2)


def test_the_order_does_not_depend_on_the_file_system(folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder_of("b/z.png", "b/a/1.png", "b/a.png", "a/é.png", "a/Z.png", "a/a.png")
    expected = find_images(root)
    real = os.scandir

    class Reversed:
        def __init__(self, folder: Path):
            with real(folder) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> "Reversed":
            return self

        def __exit__(self, *error: object) -> None: ...

        def __iter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self.entries)

    monkeypatch.setattr(os, "scandir", Reversed)
    assert find_images(root) == expected
    names = relative(root, expected.paths)
    assert names == sorted(names)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(folder_of: FolderOf) -> None:
    root = folder_of("a/1.png", "b/1.png")
    (root / "b").chmod(0)
    try:
        with pytest.raises(DataError, match=r"cannot read .*b"):
            find_images(root)
    finally:
        (root / "b").chmod(0o755)


def test_images_to_predict_come_in_natural_order(folder_of: FolderOf) -> None:
    root = folder_of("img10.png", "img2.png", "more/1.png")
    (root / "notes.txt").write_text("x")
    single = root / "img10.png"
    found = find_images_to_predict([single, root])
    assert relative(root, tuple(found)) == ["img10.png", "img2.png", "img10.png", "more/1.png"]


def test_a_file_to_predict_may_have_any_name(folder_of: FolderOf) -> None:
    file = folder_of("1.png") / "1.png"
    odd = file.rename(file.with_name("photo"))
    assert find_images_to_predict([odd]) == [odd]


def test_nothing_to_predict_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file or folder"):
        find_images_to_predict([tmp_path / "missing.jpg"])
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"holds no images \(it has 1 other file: 1 \.txt\)"):
        find_images_to_predict([tmp_path])


def test_sign_digits_are_found(shared_data: Path) -> None:
    found = find_images(shared_data / "sign-digits")
    assert found.classes == tuple("0123456789")
    assert len(found.paths) == 2062
    assert found.notes == ()
