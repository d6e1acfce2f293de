"""Local files in zoo's cache: mapped, checked, and never the user's own bytes."""

import hashlib
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zoo.errors import ArtifactError, WeightsError
from zoo.files import cache_folder
from zoo.models import build_model, request_model
from zoo.plugins.catalogue import open_plugins
from zoo.safetensors_check import check_safetensors
from zoo.state_files import (
    StateFile,
    all_finite,
    map_safetensors,
    read_safetensors,
    read_state_file,
    write_safetensors,
)
from zoo.weights import cache_entries
from zoo.weights.cache_entries import open_local

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]


def state(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(), (3,), (0, 4), (64, 3, 3), (128, 64), (7,)]
    return {
        f"{i}.{str(dtype).removeprefix('torch.')}": torch.randint(0, 2, shape, generator=generator).to(dtype)
        for i, shape in enumerate(shapes)
        for dtype in DTYPES
    }


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def old(path: Path) -> Path:
    os.utime(path, ns=(1, 1))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    save_file(state(), path)
    return old(path)


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read whole."""
    read: list[Path] = []

    def reading(path: Path, *, allow_pth: bool) -> StateFile:
        read.append(path)
        return read_state_file(path, allow_pth=allow_pth)

    monkeypatch.setattr(cache_entries, "read_state_file", reading)
    return read


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def copies() -> list[Path]:
    return sorted((cache_folder() / "weights" / "local").glob("*.safetensors"))


def test_a_mapped_file_holds_what_a_read_one_does(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_safetensors(path, state(), {"a": "b"})
    mapped = map_safetensors(path, sha256="x", finite=True)
    assert equal(mapped.state, read_safetensors(path).state)
    assert equal(mapped.state, load_file(path))
    assert dict(mapped.metadata) == {"a": "b"}


def test_every_mapped_tensor_begins_where_torchs_own_memory_would(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_safetensors(path, state())
    entries = {e.name: e for e in check_safetensors(path).tensors}
    data_start = check_safetensors(path).data_start
    mapped = map_safetensors(path, sha256="", finite=True).state
    assert all(tensor.data_ptr() % 64 == 0 for tensor in mapped.values() if tensor.numel())
    assert all((data_start + entries[name].begin) % 64 == 0 for name in entries if name.startswith(("3", "4")))
    assert all(
        t.data_ptr() % 64 == 0 for t in map_safetensors(file, sha256="", finite=True).state.values() if t.numel()
    )


def test_a_local_file_is_read_and_copied_once(file: Path, whole: list[Path]) -> None:
    for count in (1, 1, 1):
        content = open_local(file)
        assert equal(content.state, state())
        assert (content.sha256, content.finite) == (digest_of(file), True)
        assert whole == [file] * count
    assert [path.stem for path in copies()] == [digest_of(file)]


def test_a_local_file_that_changed_is_read_again(file: Path, whole: list[Path]) -> None:
    open_local(file)
    save_file(state(1), file)
    old(file)  # its time is as before: the time of its last change, which nobody can set, is not
    assert equal(open_local(file).state, state(1))
    assert whole == [file] * 2
    assert len(copies()) == 2


def test_a_copy_that_was_damaged_is_made_again(file: Path) -> None:
    open_local(file)
    (copy,) = copies()
    content = copy.read_bytes()
    copy.write_bytes(content[:-1] + b"\x07")
    assert equal(open_local(file).state, state())
    assert copy.read_bytes() == content


def test_what_was_loaded_does_not_change_with_the_users_file(file: Path) -> None:
    content = open_local(file)
    file.write_bytes(bytes(file.stat().st_size))
    assert equal(content.state, state())


def test_training_in_place_leaves_the_cached_file_as_it_is(file: Path) -> None:
    layer = nn.Linear(64, 128, bias=False)
    layer.weight = nn.Parameter(open_local(file).state["4.float32"])
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    assert not torch.equal(layer.weight, state()["4.float32"])
    assert equal(open_local(file).state, state())


def test_a_cache_that_cannot_be_written_costs_the_copy_alone(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in the way").write_text("")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "in the way" / "cache"))
    content = open_local(file)
    assert equal(content.state, state())
    assert not content.finite


def test_a_pickled_file_needs_permission_at_every_use(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state().items()}}, path)
    for _ in range(2):
        with pytest.raises(WeightsError, match="--allow-pth"):
            open_local(path)
        assert equal(open_local(path, allow_pth=True).state, state())


def test_prefixes_of_training_scripts_are_taken_off_safetensors_too(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({f"module.{name}": tensor for name, tensor in state().items()}, path)
    assert equal(open_local(path).state, state())


def test_values_that_are_not_finite_are_known(tmp_path: Path) -> None:
    for value, finite in ((0.5, True), (float("nan"), False), (float("inf"), False)):
        path = tmp_path / f"{value}.safetensors"
        content = {"a": torch.tensor([1.0, value]), "b": torch.tensor([1.0]).to(torch.float8_e4m3fn)}
        save_file(content, path)
        assert open_local(path).finite is all_finite(content) is finite


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="gone"):
        open_local(tmp_path / "gone.safetensors")


def test_a_model_from_the_cache_gives_the_logits_of_one_from_memory(tmp_path: Path) -> None:
    plugins = open_plugins()
    random = build_model(plugins, request_model(plugins, "simple_cnn", weights=None), num_classes=3, seed=5).module
    path = tmp_path / "m.safetensors"
    save_file(random.state_dict(), path)
    loaded = [
        build_model(plugins, request_model(plugins, "simple_cnn", weights=path), num_classes=3).module for _ in range(2)
    ]
    x = torch.randn(2, 3, *plugins.resolve("simple_cnn").architecture.preprocessing.input_size[1:])
    with torch.inference_mode():
        assert torch.equal(loaded[0](x), random(x))
        assert torch.equal(loaded[1](x), random(x))


def test_a_model_with_damaged_values_is_refused_from_the_cache_too(tmp_path: Path) -> None:
    plugins = open_plugins()
    random = build_model(plugins, request_model(plugins, "simple_cnn", weights=None), num_classes=3).module
    content = {name: tensor.clone() for name, tensor in random.state_dict().items()}
    name = next(iter(content))
    content[name].view(-1)[0] = float("nan")
    save_file(content, tmp_path / "m.safetensors")
    request = request_model(plugins, "simple_cnn", weights=tmp_path / "m.safetensors")
    for _ in range(2):
        with pytest.raises(WeightsError, match=f"{name} has NaN"):
            build_model(plugins, request, num_classes=3)
