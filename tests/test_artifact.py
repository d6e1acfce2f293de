"""The artifact: what is written is read, equal content gives equal bytes, and headers are checked."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from zoo.architecture import Preprocessing
from zoo.artifact import (
    Check,
    FreezeProof,
    Header,
    Parent,
    Plugin,
    UsedRecipe,
    check_safetensors,
    read_artifact,
    read_header,
    write_artifact,
)
from zoo.errors import ArtifactError, StorageError

FIGURES = {"accuracy": 0.1 + 0.2, "f1": 0.25, "loss": 1}
HEADER = Header(
    architecture="tiny/tiny",
    options={"drop": 0.25, "widths": (16, 32), "norm": True, "size": 32, "act": "relu", "one": 1.0},
    plugin=Plugin(name="tiny", distribution="zoo-tiny", version="1.2"),
    classes=["cat", "\x1b[31mdog", "<script>alert(1)</script>", "../../etc", "Käfer", "\udcff"],
    preprocessing=Preprocessing(input_size=(3, 32, 32)),
    parent=Parent(kind="tag", spec="v1", sha256="ab" * 32, licence="BSD-3-Clause"),
    freeze=[FreezeProof(phase=0, train="head", frozen_stages=3, before="aa", after="aa")],
    recipe=UsedRecipe(name="frozen", phases=[{"epochs": 5, "lr": 0.001, "clip": None}]),
    metrics={"test": {**FIGURES, "confusion": [[1, 0], [0, 1]]}},
    check=Check(seed=7, logits=[[0.1, -1e-30, 3.4028234663852886e38]]),
)


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, generator=generator)
    return {
        "z.weight": base,
        "a.shared": base[1:3],
        "a.transposed": base.T,
        "conv.weight": torch.randn(2, 3, 3, 3, generator=generator).to(memory_format=torch.channels_last),
        "norm.num_batches_tracked": torch.tensor(12),
        "empty": torch.zeros(0, 3),
        "half": torch.randn(3, generator=generator).bfloat16(),
        "mask": torch.tensor([True, False, True]),
        "byte": torch.arange(3, dtype=torch.uint8),
    }


def with_header(path: Path, **changes: Any) -> Path:
    content = json.loads(json.dumps(msgspec.to_builtins(HEADER))) | changes
    save_file({"a": torch.zeros(1)}, path, metadata={"zoo": json.dumps(content)})
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_artifact(path, HEADER, tensors())
    header, state = read_artifact(path)
    assert header == HEADER == read_header(path)
    assert type(header.options["one"]) is float
    assert state.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert state[name].dtype == tensor.dtype
        assert torch.equal(state[name], tensor)


def test_the_safetensors_library_reads_the_same_tensors(tmp_path: Path) -> None:
    write_artifact(tmp_path / "m.safetensors", HEADER, tensors())
    for name, tensor in load_file(tmp_path / "m.safetensors").items():
        assert torch.equal(tensor, tensors()[name])


def test_tensors_start_where_their_type_is_aligned(tmp_path: Path) -> None:
    write_artifact(tmp_path / "m.safetensors", HEADER, tensors())
    header = check_safetensors(tmp_path / "m.safetensors")
    state = tensors()
    for entry in header.tensors:
        assert (header.data_start + entry.begin) % state[entry.name].element_size() == 0


def test_equal_content_gives_equal_bytes_in_any_order(tmp_path: Path) -> None:
    reverse = dict(reversed(tensors().items()))
    other = msgspec.structs.replace(HEADER, options=dict(reversed(HEADER.options.items())))
    hashes = {write_artifact(tmp_path / f"{i}.safetensors", HEADER, tensors()) for i in range(5)}
    hashes |= {write_artifact(tmp_path / f"r{i}.safetensors", other, reverse) for i in range(5)}
    assert len(hashes) == 1
    assert len({path.read_bytes() for path in tmp_path.glob("*.safetensors")}) == 1


def test_a_second_write_of_what_was_read_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_artifact(tmp_path / "1.safetensors", HEADER, tensors())
    assert write_artifact(tmp_path / "2.safetensors", *read_artifact(tmp_path / "1.safetensors")) == first


def test_the_metadata_is_one_key_of_canonical_ascii_json(tmp_path: Path) -> None:
    write_artifact(tmp_path / "m.safetensors", HEADER, tensors())
    metadata = check_safetensors(tmp_path / "m.safetensors").metadata
    assert list(metadata) == ["zoo"]
    text = metadata["zoo"]
    assert text.isascii()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_nan_in_the_header_is_refused_by_name(tmp_path: Path) -> None:
    header = msgspec.structs.replace(HEADER, metrics={"val": {**FIGURES, "per_class": [{"f1": float("nan")}]}})
    with pytest.raises(ArtifactError, match=r"metrics\.val\.per_class\[0\]\.f1 is nan"):
        write_artifact(tmp_path / "m.safetensors", header, {})
    assert not list(tmp_path.iterdir())


def test_a_header_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    header = msgspec.structs.replace(HEADER, classes=["x" * (1 << 20) + str(i) for i in range(17)])
    with pytest.raises(ArtifactError, match="the limit is"):
        write_artifact(tmp_path / "m.safetensors", header, {})


def test_a_name_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is a path"):
        write_artifact(tmp_path / "m.safetensors", HEADER, {"../a": torch.zeros(1)})
    with pytest.raises(ArtifactError, match="without plain values"):
        write_artifact(tmp_path / "m.safetensors", HEADER, {"a": torch.zeros(1, device="meta")})


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_artifact(path, HEADER, tensors())
    before = path.read_bytes()
    with pytest.raises(ArtifactError):
        write_artifact(path, HEADER, {"a": torch.zeros(1).to_sparse()})
    assert path.read_bytes() == before
    with pytest.raises(StorageError, match="cannot write"):
        write_artifact(path / "below-a-file.safetensors", HEADER, {})


def test_an_artifact_can_be_written_over_the_file_its_tensors_came_from(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    digest = write_artifact(path, HEADER, tensors())
    header, state = read_artifact(path)
    assert write_artifact(path, header, state) == digest


def test_a_newer_schema_says_to_upgrade(tmp_path: Path) -> None:
    path = with_header(tmp_path / "m.safetensors", schema=2, classes=7)
    with pytest.raises(ArtifactError, match=r"newer zoo.*pip install --upgrade"):
        read_header(path)


def test_fields_of_a_later_zoo_are_passed_over(tmp_path: Path) -> None:
    assert read_header(with_header(tmp_path / "m.safetensors", surprise={"a": 1})) == HEADER


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 0}, "schema"),
        ({"schema": "1"}, "schema"),
        ({"classes": [1]}, r"classes"),
        ({"classes": []}, "classes is empty"),
        ({"classes": ["a", "a"]}, "one twice"),
        ({"metrics": {"test": {**FIGURES, "accuracy": "high"}}}, "metrics.test.accuracy is not a number"),
        ({"in_channels": 9}, "in_channels"),
        ({"plugin": {}}, "name"),
        ({"options": {"drop": {}}}, "options"),
        ({"preprocessing": {"interpolation": "magic"}}, "interpolation"),
        ({"in_channels": 1}, "input_size has 3 channels"),
        ({"preprocessing": {"input_size": [3, 0, 5]}}, "outside"),
        ({"preprocessing": {"input_size": [3, 10**9, 10**9]}}, "outside"),
        ({"preprocessing": {"std": [0.1, 0.0, 0.1]}}, "std is not above 0"),
        ({"preprocessing": {"mean": [0.1]}}, "mean does not have 3"),
        ({"preprocessing": {"crop_pct": 0}}, "crop_pct"),
        ({"preprocessing": {"sneaky": 1}}, "preprocessing lacks input_size"),
        ({"check": {"logits": [["a"]]}}, "logits"),
        ({"freeze": [{"phase": -1}]}, "phase"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = with_header(tmp_path / "m.safetensors", **changes)
    with pytest.raises(ArtifactError, match=words):
        read_header(path)


@pytest.mark.parametrize("text", ["", "[]", "7", "nonsense", '{"schema":', "[" * 100_000, '{"schema": NaN}'])
def test_metadata_that_is_no_header_is_refused(tmp_path: Path, text: str) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "m.safetensors", metadata={"zoo": text})
    with pytest.raises(ArtifactError, match=r"m\.safetensors"):
        read_artifact(tmp_path / "m.safetensors")


def test_a_plain_safetensors_file_is_told_from_an_artifact(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "m.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match="not one that zoo wrote"):
        read_header(tmp_path / "m.safetensors")
