"""What was decoded once is not decoded again to see whether it can be."""

from hashlib import sha256
from pathlib import Path

import pytest

from zoo.architecture import Preprocessing
from zoo.data import ImageReader, SoundImages, Transform
from zoo.errors import DataError, ImageError
from zoo.labelled import load_images

SMALL = Preprocessing(input_size=(3, 16, 16))


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def test_what_one_process_added_another_finds(tmp_path: Path) -> None:
    first, other = SoundImages(3, folder=tmp_path), SoundImages(3, folder=tmp_path)
    first.add([digest("a"), digest("b")])
    other.add([digest("b"), digest("c")])
    found = SoundImages(3, folder=tmp_path)
    assert [digest(x) in found for x in "abcd"] == [True, True, True, False]
    assert digest("a") not in SoundImages(1, folder=tmp_path)


@pytest.mark.parametrize("cut", [1, 31, 33])
def test_a_record_that_was_cut_short_loses_no_more_than_what_was_cut(cut: int, tmp_path: Path) -> None:
    SoundImages(3, folder=tmp_path).add(map(digest, "abcd"))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-cut])
    damaged = SoundImages(3, folder=tmp_path)
    assert sum(digest(x) in damaged for x in "abcd") == 3 - cut // 32
    damaged.add([digest("new")])
    again = SoundImages(3, folder=tmp_path)
    assert digest("new") in again
    assert sum(digest(x) in again for x in "abcd") == 3 - cut // 32


def test_a_record_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    sound = SoundImages(3, folder=tmp_path / "file")
    sound.add([digest("a")])
    assert digest("a") in sound


def test_an_image_is_decoded_once_over_all_runs(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_images(photos, preprocessing=SMALL)

    def refuse(self: Transform, source: object) -> None:
        raise ImageError("was decoded again")

    with monkeypatch.context() as patched:
        patched.setattr(Transform, "read", refuse)
        again = load_images(photos, preprocessing=SMALL)
    assert again.fingerprint == first.fingerprint
    assert again.digests == first.digests
    assert again.reader.read(range(10)).equal(first.reader.read(range(10)))


def test_a_file_that_changed_is_decoded(photos: Path, tmp_path: Path) -> None:
    paths = sorted(photos.rglob("*.png"))[:3]
    changed = tmp_path / "changed.png"
    changed.write_bytes(paths[0].read_bytes()[:-40])
    reader = ImageReader([*paths, changed], SMALL, on_bad="skip", memory_limit_bytes=0)
    known = {sha256(path.read_bytes()).hexdigest() for path in paths}
    with pytest.raises(DataError, match=r"changed\.png"):
        reader.scan(known)
