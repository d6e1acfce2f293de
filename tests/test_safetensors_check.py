"""Zoo's own check of safetensors files, against hostile and damaged ones and against the library's writer."""

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from zoo.errors import ArtifactError, WeightsError
from zoo.safetensors_check import HEADER_LIMIT_BYTES, check_safetensors
from zoo.state_files import read_state

GOOD = {
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "b": {"dtype": "U8", "shape": [], "data_offsets": [8, 9]},
}

BYTE = b'{"dtype":"U8","shape":[],"data_offsets":[0,1]}'


def packed(header: object, data: bytes) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def refused(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        check_safetensors(path)
    with pytest.raises(ArtifactError):
        read_state(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_what_the_library_writes_passes(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    state = {"a.b": torch.randn(2, 3), "n": torch.tensor(3), "none": torch.zeros(0, 4), "h": torch.ones(3).bfloat16()}
    path.write_bytes(save(state, {"k": "v"}))
    header = check_safetensors(path)
    assert header.metadata == {"k": "v"}
    assert {entry.name: entry.shape for entry in header.tensors} == {k: tuple(v.shape) for k, v in state.items()}


def test_a_header_built_by_hand_passes(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(packed(GOOD, bytes(9)))
    assert [entry.name for entry in check_safetensors(path).tensors] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"abc", "not a safetensors"),
        (bytes(100), "zero bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"),
        (b"<!DOCTYPE html><title>Log in</title>", "web page"),
        (b"\n <html><body>404</body></html>", "web page"),
        ((1 << 63).to_bytes(8, "little") + b"{}", "claims a header"),
        ((HEADER_LIMIT_BYTES + 1).to_bytes(8, "little") + b"{}", "claims a header"),
        ((1000).to_bytes(8, "little") + b"{}", "cut short"),
        (packed(b'{"a": ', b""), "not valid JSON"),
        (packed(b"{" + b'"a":[' * 100_000, b""), "not valid JSON"),
        (packed(b'{"a": NaN}', b""), "not valid JSON"),
        (packed(b'{"\xff": 1}', b""), "not valid JSON"),
        (packed(b'{"a": ' + b"9" * 5000 + b"}", b""), "not valid JSON"),
        (packed(b'{"a":%b,"a":%b}' % (BYTE, BYTE), b"1"), "twice"),
        (packed(b'{"__metadata__":{"k":"1","k":"2"}}', b""), "twice"),
        (packed({"__metadata__": {"k": 1}}, b""), "__metadata__"),
        (packed({"__metadata__": "x"}, b""), "__metadata__"),
        (packed({"a": 1}, b""), "not described"),
        (packed({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)), "not described"),
        (packed({"a": {**GOOD["a"], "more": 1}}, bytes(8)), "not described"),
        (packed({"a": {**GOOD["a"], "dtype": "F4"}}, bytes(8)), "unknown type"),
        (packed({"a": {**GOOD["a"], "dtype": ["F32"]}}, bytes(8)), "unknown type"),
        (packed({"a": {**GOOD["a"], "shape": [-2]}}, bytes(8)), "shape"),
        (packed({"a": {**GOOD["a"], "shape": [2.0]}}, bytes(8)), "shape"),
        (packed({"a": {**GOOD["a"], "shape": [True, 2]}}, bytes(8)), "shape"),
        (packed({"a": {**GOOD["a"], "shape": [1] * 100}}, bytes(8)), "shape"),
        (packed({"a": {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 8]}}, bytes(8)), "shape"),
        (packed({"a": {"dtype": "F32", "shape": [0, 1 << 62, 1 << 62], "data_offsets": [0, 0]}}, b""), "shape"),
        (packed({"a": {**GOOD["a"], "shape": [3]}}, bytes(8)), "does not have 8 bytes"),
        (packed({"a": {**GOOD["a"], "data_offsets": [8, 0]}}, bytes(8)), "data_offsets"),
        (packed({"a": {**GOOD["a"], "data_offsets": [0, 8, 8]}}, bytes(8)), "data_offsets"),
        (packed({"a": {**GOOD["a"], "data_offsets": [4, 12]}}, bytes(12)), "hole"),
        (packed({**GOOD, "c": {"dtype": "U8", "shape": [1], "data_offsets": [8, 9]}}, bytes(9)), "overlaps"),
        (packed(GOOD, bytes(10)), "1 bytes follow"),
        (packed(GOOD, bytes(8)), "cut short"),
        (packed({"": GOOD["a"]}, bytes(8)), "empty name"),
        (packed({"a" * 600: GOOD["a"]}, bytes(8)), "600 characters"),
        (packed({"a/../../b": GOOD["a"]}, bytes(8)), "is a path"),
        (packed({"..\\b": GOOD["a"]}, bytes(8)), "is a path"),
        (packed({"/etc/passwd": GOOD["a"]}, bytes(8)), "is a path"),
        (packed({"a\x1b[31m": GOOD["a"]}, bytes(8)), "control characters"),
        (packed({"a\u202eb": GOOD["a"]}, bytes(8)), "control characters"),
        (packed({"a\ud800": GOOD["a"]}, bytes(8)), "control characters"),
    ],
)  # fmt: skip
def test_each_flaw_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    message = refused(tmp_path, content)
    assert words in message
    assert message.isprintable()


def test_every_truncation_of_a_good_file_is_refused(tmp_path: Path) -> None:
    content = save({"a": torch.randn(3), "b": torch.ones(2, 2)})
    for length in range(len(content)):
        refused(tmp_path, content[:length])


def test_folders_pipes_and_missing_files_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, words in [
        ("", "a folder"),
        ("pipe", "no ordinary file"),
        ("gone", "there is no file"),
        ("a\0b", "cannot"),
    ]:
        with pytest.raises(ArtifactError, match=words):
            check_safetensors(tmp_path / name)


def test_a_hostile_length_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tracemalloc.start()
    try:
        for length in (1 << 63, 1 << 40, 99_000_000):
            path.write_bytes(length.to_bytes(8, "little") + b"{}")
            with pytest.raises(ArtifactError):
                check_safetensors(path)
        path.write_bytes(packed({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}, b""))
        with pytest.raises(ArtifactError):
            read_state(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BOOL", "U8", "F4", ""]) | json_values,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(0, 12), min_size=2, max_size=2) | json_values,
    }
)


@settings(max_examples=300, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.builds(packed, st.binary(max_size=100).map(lambda raw: b"{" + raw), st.binary(max_size=20)),
        st.builds(
            packed, st.dictionaries(st.text(max_size=4), entries | json_values, max_size=3), st.binary(max_size=20)
        ),
        st.tuples(st.integers(0, 150), st.integers(0, 255)).map(lambda edit: edited(*edit)),
    )
)
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(content)
    try:
        state = read_state(path)
    except WeightsError:
        return
    assert sum(tensor.numel() * tensor.element_size() for tensor in state.values()) <= len(content)


def edited(position: int, value: int) -> bytes:
    content = bytearray(save({"a": torch.arange(3.0), "b": torch.zeros(2, dtype=torch.bool)}, {"zoo": "{}"}))
    content[position % len(content)] = value
    return bytes(content)


def test_stored_booleans_are_true_or_false_whatever_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(packed({"a": {"dtype": "BOOL", "shape": [3], "data_offsets": [0, 3]}}, b"\x00\x01\x07"))
    assert np.array_equal(read_state(path)["a"].numpy().view(np.uint8), [0, 1, 1])
