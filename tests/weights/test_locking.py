"""registry.lock: what is written, and what --locked refuses."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from safetensors.torch import save_file

from zoo.cli.app import cli
from zoo.cli.lock import lock_command
from zoo.errors import RegistryError, UsageError, WeightsError
from zoo.models import create_model
from zoo.registry import load_registry
from zoo.registry.lockfile import lock_path, read_lock
from zoo.weights.locking import lock_weights


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two presets: one with a file of weights, one that leaves them open."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    save_file(create_model("simple_cnn", num_classes=3, weights=None).state_dict(), tmp_path / "weights/a.safetensors")
    (tmp_path / "registry.toml").write_text(
        '[presets.mine]\nbase = "simple_cnn/simple_cnn"\nnum_classes = 3\nweights = "weights/a.safetensors"\n'
        '[presets.open]\nbase = "simple_cnn/simple_cnn"\n'
    )
    return tmp_path


NAME = "simple_cnn/simple_cnn@weights/a.safetensors"


def test_the_weights_of_the_presets_are_locked_beside_the_registry(team: Path) -> None:
    locked = lock_weights()
    file = team / "weights" / "a.safetensors"
    assert locked.lock.path == team / "registry.lock"
    assert locked.added == (NAME,)
    entry = read_lock(team / "registry.lock").weights[NAME]
    assert (entry.sha256, entry.size_bytes) == (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size)
    content = (team / "registry.lock").read_bytes()
    assert str(team) not in content.decode()
    assert lock_weights().added == ()
    assert (team / "registry.lock").read_bytes() == content


def test_locked_weights_are_used_and_others_refused(team: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock_weights()
    create_model("mine", locked=True)
    save_file(create_model("simple_cnn", num_classes=3, weights=None, seed=1).state_dict(), team / "b.safetensors")
    with pytest.raises(WeightsError, match=r"not in .*registry\.lock"):
        create_model("simple_cnn", num_classes=3, weights="b.safetensors", locked=True)
    monkeypatch.setenv("ZOO_LOCKED", "1")
    with pytest.raises(WeightsError, match="--locked"):
        create_model("simple_cnn", num_classes=3, weights="b.safetensors")
    create_model("simple_cnn", num_classes=3, weights=None)
    monkeypatch.setenv("ZOO_LOCKED", "0")
    create_model("simple_cnn", num_classes=3, weights="b.safetensors")


def test_a_file_that_changed_is_refused(team: Path) -> None:
    lock_weights()
    save_file(create_model("open", num_classes=3, weights=None, seed=1).state_dict(), team / "weights/a.safetensors")
    with pytest.raises(WeightsError, match="not in"):
        create_model("mine", locked=True)
    assert lock_weights().changed == (NAME,)
    create_model("mine", locked=True)


def test_a_published_tag_that_is_not_locked_is_refused_before_anything_is_fetched(team: Path) -> None:
    lock_weights()
    with pytest.raises(WeightsError, match=r"'zoo registry lock resnet/resnet18@imagenet1k_v1' adds it"):
        create_model("resnet18", locked=True)


def test_a_published_file_has_to_have_the_whole_locked_hash(team: Path) -> None:
    (team / "registry.lock").write_text(
        json.dumps({"weights": {"resnet/resnet18@imagenet1k_v1": {"sha256": "f37072fd" * 8, "size_bytes": 3}}})
    )
    with pytest.raises(WeightsError, match="offline"):
        create_model("resnet18", locked=True, offline=True)


def test_names_are_added_and_nothing_else_is_lost(team: Path) -> None:
    lock_weights()
    save_file(create_model("open", num_classes=3, weights=None, seed=1).state_dict(), team / "b.safetensors")
    locked = lock_weights(["simple_cnn@b.safetensors"])
    assert set(locked.lock.weights) == {NAME, "simple_cnn/simple_cnn@b.safetensors"}
    assert lock_weights().removed == ("simple_cnn/simple_cnn@b.safetensors",)


def test_the_lock_lies_beside_the_registry_that_decides(team: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other") / "team.toml"
    other.write_text("")
    assert lock_path(load_registry(other)) == other.with_name("team.lock")
    assert lock_path(load_registry()) == team / "registry.lock"
    (team / "registry.toml").unlink()
    assert lock_path(load_registry()) == team / "registry.lock"


def test_nothing_to_lock_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="name some"):
        lock_weights()
    with pytest.raises(UsageError, match="no weights of its own"):
        lock_weights(["simple_cnn"])
    with pytest.raises(UsageError, match="random values"):
        lock_weights(["resnet18@none"])
    with pytest.raises(RegistryError, match="'zoo registry lock' writes it"):
        create_model("resnet18", locked=True)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 2}', '{"weights": {"a": {"sha256": "x"}}}', '{"x": 1}'])
def test_a_lock_that_cannot_be_read_stops_everything(team: Path, content: str) -> None:
    (team / "registry.lock").write_text(content)
    with pytest.raises(RegistryError, match=r"registry\.lock"):
        create_model("mine", locked=True)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(lock_command, arguments, catch_exceptions=False)


def test_the_command_lists_what_it_locked(team: Path) -> None:
    found = run("--json", "--quiet")
    document = json.loads(found.stdout)
    assert document["added"] == [NAME]
    assert document["weights"][NAME]["size_bytes"] == (team / "weights/a.safetensors").stat().st_size
    assert "1 locked, of them 0 new and 0 changed" in run("--quiet").stderr


@pytest.mark.parametrize("name", ["finetune", "evaluate", "predict", "verify"])
def test_every_command_that_takes_weights_can_be_held_to_the_lock(name: str) -> None:
    command = cli.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    assert "--locked" in {option for parameter in command.params for option in parameter.opts}
