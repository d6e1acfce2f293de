import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.architecture import Preprocessing
from zoo.data import ImageReader, Request, Transform, find_images, to_batch, uniforms
from zoo.errors import DataError

FolderOf = Callable[..., Path]
SMALL = Preprocessing(input_size=(3, 16, 12))
IMAGE_BYTES = 3 * 16 * 12


class Told:
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.advanced = 0

    def note(self, text: str) -> None: ...

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    @contextmanager
    def task(self, label: str, total: int | None = None, *, unit: str = "") -> Iterator[Callable[[int], None]]:
        def advance(count: int) -> None:
            self.advanced += count

        yield advance


@pytest.fixture
def paths(folder_of: FolderOf) -> list[Path]:
    folder = folder_of(*[f"{number:02}.png" for number in range(20)])
    return sorted(folder.iterdir())


def test_pixels_are_those_of_the_transform(paths: list[Path]) -> None:
    expected = np.stack([Transform(SMALL).read(path) for path in paths])
    found = ImageReader(paths, SMALL, workers=3).read(range(20))
    assert found.dtype == torch.uint8
    assert found.shape == (20, 3, 16, 12)
    assert torch.equal(found, to_batch(expected))


@pytest.mark.parametrize("limit", [0, 7 * IMAGE_BYTES, 1 << 20])
def test_the_memory_limit_changes_no_pixel(paths: list[Path], limit: int) -> None:
    reader = ImageReader(paths, SMALL, memory_limit_bytes=limit, workers=2)
    expected = ImageReader(paths, SMALL).read(range(20))
    reader.scan()
    assert torch.equal(reader.read([19, 3, 3, 7, 6]), expected[[19, 3, 3, 7, 6]])
    assert torch.equal(reader.read(range(20)), expected)


def test_what_is_in_memory_is_not_read_again(paths: list[Path]) -> None:
    reader = ImageReader(paths, SMALL, memory_limit_bytes=7 * IMAGE_BYTES)
    reader.scan()
    for path in paths:
        path.unlink()
    assert reader.read(range(7)).shape == (7, 3, 16, 12)
    with pytest.raises(DataError, match=r"07\.png cannot be opened: No such file"):
        reader.read([7])


def test_pixels_are_kept_without_a_scan_too(paths: list[Path]) -> None:
    reader = ImageReader(paths, SMALL)
    expected = reader.read(range(20))
    for path in paths:
        path.unlink()
    assert torch.equal(reader.read(range(20)), expected)


def test_batches_come_in_order(paths: list[Path]) -> None:
    reader = ImageReader(paths, SMALL, workers=3, memory_limit_bytes=0)
    expected = reader.read(range(20))
    orders = [[3], [], [19, 0, 19], list(range(20)), [5, 4]]
    found = list(reader.ahead([Request(order) for order in orders]))
    assert len(found) == len(orders)
    for order, images in zip(orders, found, strict=True):
        assert torch.equal(images, expected[order])


def test_random_boxes_depend_on_their_draws_alone(paths: list[Path]) -> None:
    reader = ImageReader(paths, SMALL, workers=2)
    reader.scan()
    crops = uniforms(0, 0, range(20))
    together = reader.read(range(20), crops=crops)
    assert torch.equal(reader.read([4], crops=crops[4:5])[0], together[4])
    assert not torch.equal(reader.read([4], crops=crops[5:6])[0], together[4])
    assert not torch.equal(together, reader.read(range(20)))


def test_little_is_read_ahead(paths: list[Path]) -> None:
    taken = 0

    def requests() -> Iterator[Request]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield Request([0, 1, 2, 3])

    images = ImageReader(paths, SMALL, workers=2, memory_limit_bytes=0).ahead(requests())
    next(images)
    assert taken == 2
    next(images)
    assert taken == 3
    images.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("on_gpu", [False, True])
def test_batches_lie_in_page_locked_memory_where_a_gpu_is_at_work(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch, on_gpu: bool
) -> None:
    empty, pinned = torch.empty, []

    def without_gpu(*shape: object, pin_memory: bool, **kind: object) -> torch.Tensor:
        pinned.append(pin_memory)
        return empty(*shape, **kind)  # type: ignore[call-overload,no-any-return]

    # There is no page-locked memory to be had without a GPU; tests/gpu has it.
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: on_gpu)
    monkeypatch.setattr(torch, "empty", without_gpu)
    ImageReader(paths, SMALL).read(range(20))
    assert pinned == [on_gpu]


def test_a_scan_hashes_the_files(paths: list[Path]) -> None:
    told = Told()
    scan = ImageReader(paths, SMALL, progress=told).scan()
    assert scan.digests == {path: sha256(path.read_bytes()).hexdigest() for path in paths}
    assert scan.bad == ()
    assert told.advanced == 20


def test_unreadable_images_are_named_with_reasons(paths: list[Path]) -> None:
    paths[3].write_bytes(b"")
    paths[8].write_text("hello")
    paths[9].write_bytes(paths[9].read_bytes()[:100])
    with pytest.raises(DataError, match=r"^3 of 20 images cannot be read:") as raised:
        ImageReader(paths, SMALL).scan()
    text = str(raised.value)
    assert f"\n  {paths[3]} is empty (0 bytes)\n" in text
    assert f"\n  {paths[8]} is text, not an image\n" in text
    assert f"\n  {paths[9]} is damaged or cut short" in text
    assert text.endswith("--on-bad-image skip.")


def test_only_ten_unreadable_images_are_listed(paths: list[Path]) -> None:
    for path in paths[:15]:
        path.write_bytes(b"")
    with pytest.raises(DataError, match="and 5 more"):
        ImageReader(paths, SMALL).scan()


def test_unreadable_images_can_be_skipped(paths: list[Path]) -> None:
    paths[3].write_bytes(b"")
    told = Told()
    scan = ImageReader(paths, SMALL, on_bad="skip", progress=told).scan()
    assert [(image.path, image.reason) for image in scan.bad] == [(paths[3], "is empty (0 bytes)")]
    assert len(scan.digests) == 19
    (warning,) = told.warnings
    assert warning.startswith("left out 1 of 20 images that cannot be read:")


def test_an_unexpected_error_names_the_file(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    reader = ImageReader(paths, SMALL)
    monkeypatch.setattr(Transform, "read", fail)
    with pytest.raises(RuntimeError, match="a bug") as raised:
        reader.read([5])
    assert raised.value.__notes__ == [f"while reading {paths[5]}"]


def test_positions_are_found_by_path(paths: list[Path]) -> None:
    reader = ImageReader(paths, SMALL)
    assert reader.positions([paths[4], paths[0]]) == [4, 0]


def test_at_least_one_worker_is_needed(paths: list[Path]) -> None:
    with pytest.raises(ValueError, match="workers is at least 1, not 0"):
        ImageReader(paths, SMALL, workers=0)


def test_threads_end_when_the_caller_stops(paths: list[Path]) -> None:
    reader = ImageReader(paths, SMALL, workers=2, memory_limit_bytes=0)
    images = reader.ahead(Request([0, 1, 2, 3]) for _ in range(100_000))
    next(images)
    working = [thread for thread in threading.enumerate() if thread.name.startswith("zoo-reader")]
    assert working
    images.close()  # type: ignore[attr-defined]
    for thread in working:
        thread.join(timeout=20)
        assert not thread.is_alive()


def test_ctrl_c_ends_a_process_that_reads(paths: list[Path]) -> None:
    script = f"""
import os, signal, sys
from pathlib import Path
from zoo.architecture import Preprocessing
from zoo.data import ImageReader, Request
reader = ImageReader(sorted(Path({str(paths[0].parent)!r}).iterdir()), Preprocessing(), workers=2, memory_limit_bytes=0)
for number, images in enumerate(reader.ahead(Request(list(range(20))) for _ in range(10_000_000))):
    if number == 3:
        os.kill(os.getpid(), signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert "KeyboardInterrupt" in done.stderr
    assert done.returncode != 0


def test_sign_digits_are_all_readable(shared_data: Path) -> None:
    data = find_images(shared_data / "sign-digits")
    scan = ImageReader(data.paths, SMALL).scan()
    assert len(scan.digests) == 2062
    assert scan.bad == ()


def test_more_than_a_fifth_is_never_left_out(tmp_path: Path, paths: list[Path]) -> None:
    paths = paths[:8]
    bad = [tmp_path / f"bad{number}.jpg" for number in range(3)]
    for path in bad:
        path.write_bytes(b"")
    assert len(ImageReader([*paths, *bad[:2]], SMALL, on_bad="skip").scan().bad) == 2
    with pytest.raises(
        DataError, match=r"3 of 11 images \(27%\) cannot be read, and --on-bad-image skip leaves out 20%"
    ):
        ImageReader([*paths, *bad], SMALL, on_bad="skip").scan()


def test_an_image_that_is_never_read_is_named(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.data.reader._PATIENCE_S", 0.2)
    silent = tmp_path / "silent.png"
    os.mkfifo(silent)  # reading it waits for a writer, as a network drive that is gone does
    reader = ImageReader([paths[0], silent], SMALL, workers=2)
    for read in (reader.scan, lambda: reader.read([0, 1])):
        try:
            with pytest.raises(DataError, match=r"silent\.png was not read within 0\.2 s"):
                read()
        finally:  # else the thread waits on, and the process with it
            os.close(os.open(silent, os.O_WRONLY))
