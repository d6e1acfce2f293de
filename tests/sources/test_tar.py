"""Tar shards."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import zoo
from zoo.data import find_images
from zoo.errors import DataError
from zoo.sources import find_source
from zoo.sources.own_data import as_path

Pictures = Callable[..., bytes]


def write_shard(path: Path, members: Mapping[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path: Path, picture_bytes: Pictures) -> Path:
    for shard in range(2):
        members: dict[str, bytes | str] = {}
        for i in range(20 * shard, 20 * shard + 20):
            members[f"./part/{i:04d}.jpg"] = picture_bytes(i)
            members[f"./part/{i:04d}.cls"] = ("light" if i % 2 else "dark") + "\n"
        write_shard(tmp_path / "shards" / f"pets-{shard:03d}.tar", members)
    return tmp_path / "shards"


def test_shards_are_read_into_a_manifest_with_the_bytes_as_they_were(shards: Path, picture_bytes: Pictures) -> None:
    manifest = as_path(shards)
    found = find_images(manifest)
    assert manifest.name == "shards.csv"
    assert found.classes == ("dark", "light")
    assert found.counts("all") == (20, 20)
    assert [path.read_bytes() for path in found.paths] == [picture_bytes(i) for i in range(40)]
    assert "part" not in str(found.paths[0].relative_to(manifest.parent))
    assert as_path(shards / "pets-*.tar") != manifest
    assert find_images(as_path(shards / "pets-*.tar")).counts("all") == (20, 20)
    assert find_images(as_path(shards / "pets-001.tar")).counts("all") == (10, 10)


def test_they_are_written_once_and_anew_when_they_change(shards: Path, picture_bytes: Pictures) -> None:
    manifest = as_path(shards)
    stamp = manifest.stat().st_mtime_ns
    assert as_path(shards) == manifest
    assert manifest.stat().st_mtime_ns == stamp
    write_shard(shards / "pets-002.tar", {"a.png": picture_bytes(90, "PNG"), "a.cls": "dark"})
    assert as_path(shards) != manifest
    assert find_images(as_path(shards)).counts("all") == (21, 20)
    assert not [path for path in manifest.parents[1].iterdir() if path.name.startswith(".")]


def test_splits_are_in_the_names_of_shards_or_folders(tmp_path: Path, picture_bytes: Pictures) -> None:
    for layout, names in {"a": ("set-train-0.tar", "set-val-0.tar"), "b": ("train/0.tar", "validation/0.tar")}.items():
        for number, name in enumerate(names):
            members = {
                f"{i}.{end}": value
                for i in (0, 1)
                for end, value in (("jpg", picture_bytes(10 * number + i)), ("cls", "ab"[i]))
            }
            write_shard(tmp_path / layout / name, members)
        found = find_images(as_path(tmp_path / layout))
        assert {split: len(images) for split, images in found.splits.items()} == {"train": 2, "val": 2}
    write_shard(tmp_path / "a" / "more.tar", {"0.jpg": picture_bytes(5), "0.cls": "a"})
    with pytest.raises(DataError, match=r"more\.tar none"):
        as_path(tmp_path / "a")


def test_numbers_have_the_names_in_classes_txt(tmp_path: Path, picture_bytes: Pictures) -> None:
    members = {"a.jpg": picture_bytes(0), "a.cls": "1", "b.jpg": picture_bytes(1), "b.cls": "0"}
    write_shard(tmp_path / "s" / "0.tar", members)
    assert find_images(as_path(tmp_path / "s")).classes == ("0", "1")
    (tmp_path / "s" / "classes.txt").write_text("cat\ndog\n")
    found = find_images(as_path(tmp_path / "s"))
    assert [found.classes[label] for label in found.splits["all"].labels] == ["dog", "cat"]
    write_shard(tmp_path / "s" / "0.tar", {**members, "c.jpg": picture_bytes(2), "c.cls": "2"})
    with pytest.raises(DataError, match=r"0\.tar, c: label 2 is beyond the 2 class names"):
        as_path(tmp_path / "s")


def test_json_lists_make_the_data_multi_label(tmp_path: Path, picture_bytes: Pictures) -> None:
    members = {
        f"{i}.{end}": value
        for i, labels in enumerate((["a", "b"], [], ["b"]))
        for end, value in (("jpg", picture_bytes(i)), ("json", json.dumps({"labels": labels, "width": 3})))
    }
    write_shard(tmp_path / "s.tar", members)
    found = find_images(as_path(tmp_path / "s.tar"))
    assert found.multi_label
    assert found.splits["all"].labels == ((0, 1), (), (1,))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.jpg": "x"}, r"a has no label: there is no a\.cls and no a\.json"),
        ({"a.jpg": "x", "a.json": "[1]"}, "is not an object with one of the keys labels, label"),
        ({"a.jpg": "x", "a.json": "{"}, "the label cannot be read"),
        ({"a.jpg": "x", "a.json": '{"label": 1.5}'}, r"1\.5 is not a label"),
        ({"a.jpg": "x", "a.cls": ""}, "'' is not a label"),
        ({"a.jpg": "x", "a.png": "y", "a.cls": "b"}, "there are 2 images of that name"),
        ({"readme.txt": "x"}, "holds no images"),
    ],
)
def test_what_is_wrong_in_a_shard_is_named(tmp_path: Path, members: dict[str, str], message: str) -> None:
    shard = write_shard(tmp_path / "s.tar", members)
    with pytest.raises(DataError, match=message):
        as_path(shard)


@pytest.mark.parametrize("keep", [0.3, 0.6])
def test_a_shard_that_was_cut_short_is_refused(shards: Path, keep: float, tmp_path: Path) -> None:
    content = (shards / "pets-000.tar").read_bytes()
    # Between two members tarfile itself would take the end of the file for the end of the archive.
    (tmp_path / "cut.tar").write_bytes(content[: int(len(content) * keep) // 512 * 512])
    with pytest.raises(DataError, match="cut short"):
        as_path(tmp_path / "cut.tar")
    (tmp_path / "text.tar").write_text("not a tar file")
    with pytest.raises(DataError, match="cut short, or is none"):
        as_path(tmp_path / "text.tar")


def test_a_member_never_leaves_its_folder(tmp_path: Path, picture_bytes: Pictures) -> None:
    shard = write_shard(tmp_path / "s.tar", {"../../evil.jpg": picture_bytes(0), "../../evil.cls": "a"})
    manifest = as_path(shard)
    assert not list(tmp_path.rglob("evil*"))
    (path,) = find_images(manifest, min_classes=1).paths
    assert path.resolve().is_relative_to(manifest.parent.resolve())


def test_folders_of_photos_and_manifests_are_no_sources(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    assert find_source(tmp_path) is None
    assert find_source(tmp_path / "a.csv") is None
    with pytest.raises(DataError, match="no file matches"):
        find_source(tmp_path / "*.tar")
    with pytest.raises(DataError, match="cannot read"):
        as_path(tmp_path / "missing.tar")


def test_a_model_trains_on_shards_and_is_measured_on_them(shards: Path, tmp_path: Path) -> None:
    settings = {"model": "simple_cnn", "image_size": 12, "options": {"widths": "4,4", "hidden": 8}, "device": "cpu"}
    run = zoo.finetune(shards, **settings, epochs=6, lr=1e-2, output=tmp_path / "run")
    assert run.metrics["test"]["accuracy"] == 1
    assert zoo.evaluate(run.artifact, shards, split="test", device="cpu").report == run.metrics["test"]
    assert f'data = "{shards}"' in (run.folder / "config.toml").read_text()
