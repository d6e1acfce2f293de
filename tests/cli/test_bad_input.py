"""Bad input: its exit code, one clear message, and nothing written."""

import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

Case = tuple[list[str], int, str]
_SMALL = ["--image-size", "16", "--option", "widths=4,8", "--epochs", "1", "--device", "cpu"]


def _zoo(*arguments: object, folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zoo", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, **options)


def _finetune(data: object, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return _zoo("finetune", data, "--model", "simple_cnn", *_SMALL, *arguments, folder=folder)


def _assert_refused(found: subprocess.CompletedProcess[str], code: int, *texts: str, folder: Path) -> None:
    assert found.returncode == code, found.stderr
    errors = [line for line in found.stderr.splitlines() if line.lower().startswith("error")]
    assert len(errors) == 1, found.stderr
    for text in texts:
        assert text in found.stderr, found.stderr
    assert "Traceback" not in found.stderr
    assert found.stdout == ""
    assert not (folder / "runs").exists()


@pytest.fixture
def own_photos(photos: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(photos, tmp_path / "photos"))


def test_no_such_folder(tmp_path: Path) -> None:
    _assert_refused(_finetune("nowhere", folder=tmp_path), 3, "nowhere", folder=tmp_path)


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    _assert_refused(_finetune("empty", folder=tmp_path), 3, "empty", folder=tmp_path)


def test_one_class(own_photos: Path, tmp_path: Path) -> None:
    shutil.rmtree(own_photos / "circle")
    shutil.rmtree(own_photos / "cross")
    _assert_refused(_finetune("photos", folder=tmp_path), 3, "stripes", folder=tmp_path)


def test_a_zero_byte_image(own_photos: Path, tmp_path: Path) -> None:
    (own_photos / "circle" / "00.png").write_bytes(b"")
    _assert_refused(_finetune("photos", folder=tmp_path), 3, "00.png", "0 bytes", "skip", folder=tmp_path)


def test_a_text_file_named_jpg(own_photos: Path, tmp_path: Path) -> None:
    (own_photos / "circle" / "notes.jpg").write_text("not a picture")
    _assert_refused(_finetune("photos", folder=tmp_path), 3, "notes.jpg", "is text", folder=tmp_path)


def test_unreadable_images_can_be_left_out_and_are_counted(own_photos: Path, tmp_path: Path) -> None:
    (own_photos / "circle" / "00.png").write_bytes(b"")
    (own_photos / "circle" / "notes.jpg").write_text("not a picture")
    found = _finetune("photos", "--on-bad-image", "skip", "--json", folder=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "left out 2 of 61" in found.stderr


def test_an_unknown_architecture(own_photos: Path, tmp_path: Path) -> None:
    found = _zoo("finetune", "photos", "--model", "simple_cn", folder=tmp_path)
    _assert_refused(found, 2, "simple_cn", "Did you mean 'simple_cnn'", folder=tmp_path)


def test_an_unknown_weight_tag(own_photos: Path, tmp_path: Path) -> None:
    found = _zoo("finetune", "photos", "--model", "resnet18", "--weights", "imagenet1k_v3", folder=tmp_path)
    _assert_refused(found, 5, "imagenet1k_v3", "imagenet1k_v1", folder=tmp_path)


def test_truncated_safetensors(own_photos: Path, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(100)}, tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-50])
    found = _finetune("photos", "--weights", "cut.safetensors", folder=tmp_path)
    _assert_refused(found, 5, "cut.safetensors", folder=tmp_path)


def test_a_header_longer_than_its_file(own_photos: Path, tmp_path: Path) -> None:
    (tmp_path / "huge.safetensors").write_bytes(struct.pack("<Q", 2**63) + b"{}")
    found = _finetune("photos", "--weights", "huge.safetensors", folder=tmp_path)
    _assert_refused(found, 5, "huge.safetensors", folder=tmp_path)


@pytest.mark.parametrize("flag", [[], ["--allow-pth"]])
def test_a_pth_that_tries_to_run_code_never_does(flag: list[str], own_photos: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (mark,))

    (tmp_path / "attack.pth").write_bytes(pickle.dumps({"weight": Attack()}))
    torch.save({"weight": Attack()}, tmp_path / "zipped.pth")
    for name in ("attack.pth", "zipped.pth"):
        found = _finetune("photos", "--weights", name, *flag, folder=tmp_path)
        _assert_refused(found, 5, name, folder=tmp_path)
        assert not mark.exists()


def test_weights_that_do_not_fit(own_photos: Path, tmp_path: Path) -> None:
    save_file({"some.weight": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    found = _finetune("photos", "--weights", "other.safetensors", folder=tmp_path)
    _assert_refused(found, 5, "some.weight", folder=tmp_path)


def test_an_option_out_of_range(own_photos: Path, tmp_path: Path) -> None:
    found = _finetune("photos", "--option", "hidden=0", folder=tmp_path)
    _assert_refused(found, 2, "hidden=0", "[1, 8192]", folder=tmp_path)


def test_an_unknown_option(own_photos: Path, tmp_path: Path) -> None:
    found = _finetune("photos", "--option", "hiden=4", folder=tmp_path)
    _assert_refused(found, 2, "Did you mean 'hidden'", folder=tmp_path)


def test_a_run_folder_that_exists(own_photos: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "precious.txt").write_text("mine")
    _assert_refused(_finetune("photos", "--output", taken, folder=tmp_path), 2, "taken", "--output", folder=tmp_path)
    assert [path.name for path in taken.iterdir()] == ["precious.txt"]


def test_a_registry_with_an_unknown_key(own_photos: Path, tmp_path: Path) -> None:
    (tmp_path / "registry.toml").write_text("schema = 1\n[presets.mine]\nbas = 'resnet/resnet18'\n")
    _assert_refused(_finetune("photos", folder=tmp_path), 2, "presets.mine", "bas", "base", folder=tmp_path)


def test_an_unknown_command_offers_the_closest(tmp_path: Path) -> None:
    found = _zoo("fintune", folder=tmp_path)
    assert found.returncode == 2
    assert "Did you mean 'finetune'" in found.stderr


def test_a_read_only_place(own_photos: Path, tmp_path: Path) -> None:
    found = _finetune("photos", "--output", "/proc/zoo-run", folder=tmp_path)
    _assert_refused(found, 6, "/proc/zoo-run", folder=tmp_path)
