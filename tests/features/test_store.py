"""Rows on disk: what is put in comes out, and what was damaged or cut short is absent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.chain import Features
from zoo.errors import OptionError
from zoo.features import FeatureStore, Layout, make_room, row_key, size_limit
from zoo.features.segments import record_type

KEYS = [row_key(f"image {i}") for i in range(6)]
ROWS = torch.arange(24, dtype=torch.float32).reshape(6, 4)


def filled(folder: Path, features: Features = ROWS, **facts: object) -> FeatureStore:
    store = FeatureStore({"frozen": "abc", **facts}, folder=folder)
    store.describe(Layout.of(features), {})
    writer = store.writer()
    writer.append(KEYS, features)
    writer.close()
    store.refresh()
    return store


def opened(folder: Path, **facts: object) -> FeatureStore:
    return FeatureStore({"frozen": "abc", **facts}, folder=folder)


@pytest.mark.parametrize(
    "features",
    [
        ROWS,
        ROWS.to(torch.bfloat16),
        (ROWS.reshape(6, 2, 2), torch.arange(6).reshape(6, 1).to(torch.uint8)),
        (ROWS,),
    ],
    ids=["vectors", "bfloat16", "tuple", "tuple of one"],
)
def test_rows_come_out_as_they_went_in(tmp_path: Path, features: Features) -> None:
    filled(tmp_path, features)
    store = opened(tmp_path)
    order = [3, 0, 0, 5]
    found = store.take(store.find([KEYS[i] for i in order]))
    expected = tuple(x[order] for x in features) if isinstance(features, tuple) else features[order]
    assert isinstance(found, tuple) == isinstance(expected, tuple)
    for a, b in zip(*((x if isinstance(x, tuple) else (x,)) for x in (found, expected)), strict=True):
        assert torch.equal(a, b)
        assert a.dtype == b.dtype


def test_channels_last_maps_keep_their_values(tmp_path: Path) -> None:
    maps = torch.randn(6, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    store = filled(tmp_path, maps)
    found = store.take(store.find(KEYS))
    assert isinstance(found, torch.Tensor)
    assert torch.equal(found, maps)


def test_other_facts_are_another_store(tmp_path: Path) -> None:
    filled(tmp_path)
    assert len(opened(tmp_path, precision="bfloat16")) == 0
    assert len(opened(tmp_path)) == 6


def test_rows_that_another_process_adds_are_seen_after_a_refresh(tmp_path: Path) -> None:
    filled(tmp_path)
    reader, writing = opened(tmp_path), opened(tmp_path)
    writer = writing.writer()
    writer.append([row_key("new")], ROWS[:1])
    assert reader.find([row_key("new")]).tolist() == [-1]
    reader.refresh()
    assert torch.equal(reader.take(reader.find([row_key("new")])), ROWS[:1])  # type: ignore[arg-type]
    writer.close()


def test_two_writers_append_to_two_files(tmp_path: Path) -> None:
    store, other = filled(tmp_path), opened(tmp_path)
    first, second = store.writer(), other.writer()
    first.append([row_key("a")], ROWS[:1])
    second.append([row_key("b")], ROWS[1:2])
    first.close()
    second.close()
    everything = opened(tmp_path)
    assert (everything.find([row_key("a"), row_key("b"), *KEYS]) >= 0).all()
    assert len(list(everything.folder.glob("rows-*.bin"))) == 2


def test_a_damaged_row_is_absent_and_can_be_added_again(tmp_path: Path) -> None:
    store = filled(tmp_path)
    path = store.folder / "rows-0.bin"
    content = bytearray(path.read_bytes())
    content[2 * record_type(16).itemsize + 64] ^= 1
    path.write_bytes(content)

    store = opened(tmp_path)
    assert (store.find(KEYS) >= 0).tolist() == [True, True, False, True, True, True]
    assert store.damaged == 1
    writer = store.writer()
    writer.append(KEYS[2:3], ROWS[2:3])
    writer.close()

    store = opened(tmp_path)
    assert torch.equal(store.take(store.find(KEYS)), ROWS)  # type: ignore[arg-type]
    assert store.damaged == 0


def test_a_row_that_was_cut_short_is_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    store = filled(tmp_path)
    path = store.folder / "rows-0.bin"
    os.truncate(path, path.stat().st_size - 5)
    store = opened(tmp_path)
    assert (store.find(KEYS) >= 0).sum() == 5
    writer = store.writer()
    writer.append(KEYS[5:], ROWS[5:])
    writer.close()
    store.refresh()
    assert torch.equal(store.take(store.find(KEYS)), ROWS)  # type: ignore[arg-type]
    assert path.stat().st_size == 6 * record_type(16).itemsize


@pytest.mark.parametrize("content", ["", "{", "[]", '{"facts": {"frozen": "abc"}, "layout": {"shapes": [[0]]}}'])
def test_a_store_without_a_sound_description_starts_anew(tmp_path: Path, content: str) -> None:
    store = filled(tmp_path)
    (store.folder / "store.json").write_text(content)
    store = opened(tmp_path)
    assert store.layout is None
    assert len(store) == 0
    assert store.damaged
    assert len(filled(tmp_path)) == 6


def test_rows_of_another_layout_are_dropped(tmp_path: Path) -> None:
    filled(tmp_path)
    store = opened(tmp_path)
    store.describe(Layout.of(ROWS.double()), {})
    assert len(store) == 0


def test_a_process_that_is_killed_leaves_every_row_it_finished(tmp_path: Path) -> None:
    code = f"""
import sys, torch
from pathlib import Path
from zoo.features import FeatureStore, Layout, row_key
store = FeatureStore({{"frozen": "abc"}}, folder=Path({str(tmp_path)!r}))
store.describe(Layout.of(torch.zeros(1, 1000)), {{}})
writer = store.writer()
i = 0
while True:
    writer.append([row_key(str(i))], torch.full((1, 1000), float(i)))
    i += 1
    if i % 50 == 0:
        print(i, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 150:
            pass
        process.send_signal(signal.SIGKILL)
    store = opened(tmp_path)
    places = store.find([row_key(str(i)) for i in range(150)])
    assert (places >= 0).all()
    assert torch.equal(store.take(places), torch.arange(150.0)[:, None].expand(150, 1000))  # type: ignore[arg-type]
    assert store.damaged == 0
    assert store.writer().number == 0, "the lock of a killed process must be free"


def test_rows_in_memory_are_found_beside_those_on_disk(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.keep_in_memory([row_key("only here")], ROWS[:1] + 100)
    store.refresh()
    found = store.take(store.find([row_key("only here"), KEYS[1]]))
    assert torch.equal(found, torch.stack([ROWS[0] + 100, ROWS[1]]))  # type: ignore[arg-type]
    assert opened(tmp_path).find([row_key("only here")]).tolist() == [-1]


def test_the_store_used_longest_ago_goes_first(tmp_path: Path) -> None:
    stores = [filled(tmp_path, number=i) for i in range(3)]
    size = sum(file.stat().st_size for file in stores[0].folder.iterdir())
    for age, store in zip((10, 30, 20), stores, strict=True):
        os.utime(store.folder / "store.json", (1e9 - age, 1e9 - age))
    assert make_room(tmp_path, 2 * size + 10) == [stores[1].folder.name]
    assert make_room(tmp_path, 0, keep=stores[0].folder) == [stores[2].folder.name]
    assert [path.name for path in tmp_path.iterdir()] == [stores[0].folder.name]


def test_rows_mapped_by_a_process_outlive_the_removal_of_their_store(tmp_path: Path) -> None:
    store = filled(tmp_path)
    make_room(tmp_path, 0)
    assert not store.folder.exists()
    assert torch.equal(store.take(store.find(KEYS)), ROWS)  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "expected"), [("", 20e9), ("50GB", 50e9), ("1.5 MiB", 1.5e6), ("0", 0), ("7k", 7000)])
def test_the_size_limit_is_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: float
) -> None:
    monkeypatch.setenv("ZOO_CACHE_LIMIT", text)
    assert size_limit() == expected


def test_a_size_limit_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE_LIMIT", "lots")
    with pytest.raises(OptionError, match="ZOO_CACHE_LIMIT=lots is not a size"):
        size_limit()


def test_duplicate_rows_do_no_harm(tmp_path: Path) -> None:
    store = filled(tmp_path)
    writer = store.writer()
    writer.append(KEYS, ROWS)
    writer.close()
    store.refresh()
    assert len(store) == 6
    assert np.array_equal(store.find(KEYS), opened(tmp_path).find(KEYS))
