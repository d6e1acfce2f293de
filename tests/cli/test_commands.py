"""What the commands print, and the forms they take."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import zoo
from zoo.cli import compare, lr_find
from zoo.cli.finetune import finetune_command


@pytest.fixture(scope="module")
def artifact(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.finetune(
        photos,
        model="simple_cnn",
        image_size=16,
        options={"widths": "4,8", "hidden": 16},
        epochs=2,
        device="cpu",
        output=tmp_path_factory.mktemp("runs") / "run",
    ).artifact


def _zoo(*arguments: object, folder: Path, **options: Any) -> subprocess.CompletedProcess[Any]:
    options = {"text": True, **options}
    return subprocess.run(
        [sys.executable, "-m", "zoo", *map(str, arguments)], cwd=folder, capture_output=True, timeout=120, **options
    )


def test_predict_needs_the_file_and_the_photo_and_nothing_else(artifact: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copy(artifact, tmp_path / "model.safetensors")
    shutil.copy(photos / "circle" / "00.png", tmp_path / "photo.png")
    found = _zoo("predict", "model.safetensors", "photo.png", folder=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "photo.png" in found.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "photo.png"]


def test_predict_gives_the_same_as_table_json_csv_and_standard_input(
    artifact: Path, photos: Path, tmp_path: Path
) -> None:
    photo = photos / "cross" / "03.png"
    as_json = json.loads(_zoo("predict", artifact, photo, "--json", "--top-k", 3, folder=tmp_path).stdout)
    rows = list(
        csv.DictReader(io.StringIO(_zoo("predict", artifact, photo, "--csv", "--top-k", 3, folder=tmp_path).stdout))
    )
    piped = _zoo(
        "predict", artifact, "-", "--json", "--top-k", 3, folder=tmp_path, text=False, input=photo.read_bytes()
    )
    assert [row["label"] for row in rows] == [label for label, _ in as_json[0]["top"]]
    assert json.loads(piped.stdout)[0]["top"] == as_json[0]["top"]
    assert sum(probability for _, probability in as_json[0]["top"]) == pytest.approx(1, abs=1e-5)


def test_predict_takes_folders(artifact: Path, photos: Path, tmp_path: Path) -> None:
    found = json.loads(_zoo("predict", artifact, photos / "cross", "--json", folder=tmp_path).stdout)
    assert [Path(row["source"]).name for row in found] == sorted(path.name for path in (photos / "cross").iterdir())


def test_evaluate_and_info_tell_the_artifacts_figures(artifact: Path, photos: Path, tmp_path: Path) -> None:
    header = json.loads(_zoo("info", artifact, "--json", folder=tmp_path).stdout)
    found = json.loads(_zoo("evaluate", artifact, photos, "--split", "test", "--json", folder=tmp_path).stdout)
    assert found["accuracy"] == header["metrics"]["test"]["accuracy"]
    assert found["confusion"] == header["metrics"]["test"]["confusion"]


def test_verify_passes_and_a_flipped_bit_fails_with_code_5(artifact: Path, tmp_path: Path) -> None:
    assert _zoo("verify", artifact, folder=tmp_path).returncode == 0
    content = bytearray(artifact.read_bytes())
    content[-2] ^= 0x40  # the exponent of the last value
    (tmp_path / "damaged.safetensors").write_bytes(content)
    found = _zoo("verify", "damaged.safetensors", folder=tmp_path)
    assert found.returncode == 5
    assert "Traceback" not in found.stderr


def test_verify_names_what_is_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "page.safetensors").write_text("<!DOCTYPE html><html>not found</html>")
    found = _zoo("verify", "page.safetensors", folder=tmp_path)
    assert found.returncode == 5
    assert "page.safetensors" in found.stderr


def test_list_filters_and_prints_json(tmp_path: Path) -> None:
    names = [
        row["name"] for row in json.loads(_zoo("list", "*resnet*", "--pretrained", "--json", folder=tmp_path).stdout)
    ]
    assert "resnet/resnet18" in names
    assert not any("simple_cnn" in name for name in names)
    assert names.index("resnet/resnet18") < names.index("resnet/resnet101")


@pytest.mark.parametrize("words", ["--help", "--version", "list", "list --json", "list --help", "info resnet18"])
def test_a_closed_pipe_is_no_error(words: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "zoo", *words.split()]
    found = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    os.close(writer)
    assert "rror" not in found.stderr
    assert found.returncode == 0


@pytest.mark.parametrize(("signal_number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_leaves_with_its_code(
    signal_number: int, code: int, photos: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "zoo", "finetune", str(photos), "--model", "simple_cnn", "--epochs", "100000"]
    process = subprocess.Popen(
        [*command, "--output", "run"], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 2"):
            break
    os.kill(process.pid, signal_number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_cache_is_listed_and_cleaned(tmp_path: Path) -> None:
    environment = {**os.environ, "ZOO_CACHE": str(tmp_path / "cache")}
    _zoo("list", folder=tmp_path, env=environment)
    listed = json.loads(_zoo("cache", "list", "--json", folder=tmp_path, env=environment).stdout)
    assert {kind["kind"] for kind in listed["kinds"]} == {"facts"}
    (tmp_path / "cache" / "photos").mkdir()  # somebody else's
    assert _zoo("cache", "clean", "--yes", folder=tmp_path, env=environment).returncode == 0
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["photos"]


def test_doctor_names_the_plugins(tmp_path: Path) -> None:
    found = json.loads(_zoo("doctor", "--json", folder=tmp_path).stdout)
    assert {"resnet", "simple_cnn"} <= {plugin["name"] for plugin in found["plugins"]}
    assert found["packages"]["torch"] != "not installed"


@pytest.mark.parametrize(
    ("command", "own"),
    [
        (compare.compare_command, compare._OWN),
        (lr_find.lr_find_command, lr_find._OWN | {"train"}),  # with --train there is no next command
    ],
)
def test_finetune_has_every_option_that_a_next_command_repeats(command: click.Command, own: frozenset[str]) -> None:
    known = {option for p in finetune_command.params for option in [*p.opts, *p.secondary_opts]}
    repeated = [p for p in command.params if p.name not in own]
    assert repeated
    assert {option for p in repeated for option in [*p.opts, *p.secondary_opts]} <= known
