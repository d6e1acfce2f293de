"""``zoo lr-find`` and its picture."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import zoo

_SMALL = ["--model", "simple_cnn", "--image-size", "16", "--option", "widths=4,8", "--device", "cpu"]


def _zoo(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zoo", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_it_draws_the_loss_and_its_next_command_trains_with_the_rate(photos: Path, tmp_path: Path) -> None:
    found = _zoo("lr-find", photos, *_SMALL, "--steps", 60, "--batch-size", 12, "--json", folder=tmp_path)
    assert found.returncode == 0, found.stderr
    document = json.loads(found.stdout)
    assert len(document["rates"]) == len(document["losses"]) <= 60
    assert document["rates"][0] < document["suggestion"] < document["rates"][-1]
    picture = ElementTree.parse(tmp_path / "lr-find.svg").getroot()
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert f"{document['suggestion']:.2g}" in texts
    points = next(picture.iter("{http://www.w3.org/2000/svg}polyline")).attrib["points"].split()
    assert len(points) == len(document["rates"])
    width, height = float(picture.attrib["width"]), float(picture.attrib["height"])
    for point in points:
        x, y = map(float, point.split(","))
        assert 0 <= x <= width
        assert 0 <= y <= height

    words = shlex.split(document["next"])
    assert words[-2:] == ["--lr", f"{document['suggestion']:g}"]
    assert words[words.index("--batch-size") + 1] == "12"
    trained = _zoo(*words[1:], "--dry-run", "--json", folder=tmp_path)
    assert trained.returncode == 0, trained.stderr


def test_a_picture_that_is_there_stays(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "lr-find.svg").write_text("mine")
    found = _zoo("lr-find", photos, *_SMALL, folder=tmp_path)
    assert found.returncode == 2
    assert "--output" in found.stderr
    assert (tmp_path / "lr-find.svg").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe", "lp-ft", "--phase", "3"], "has 2 phase"),
        (["--recipe", "probe"], "takes no steps"),
        (["--train", "blok1"], "Did you mean 'block1'"),
    ],
)
def test_what_cannot_be_measured_is_said(photos: Path, tmp_path: Path, words: list[str], said: str) -> None:
    found = _zoo("lr-find", photos, *_SMALL, *words, folder=tmp_path)
    assert found.returncode == 2
    assert said in re.sub(r"\s+", " ", found.stderr)
    assert not list(tmp_path.iterdir())


def test_the_rate_stands_in_the_place_of_its_phase(photos: Path) -> None:
    settings = {"model": "simple_cnn", "image_size": 16, "options": {"widths": "4,8"}, "device": "cpu"}
    found = zoo.lr_find(photos, **settings, recipe="lp-ft", phase=2, batch_size=16, steps=50)
    assert found.lrs[1] == pytest.approx(found.curve.suggestion, rel=0.05)
    assert found.lrs[0] != found.lrs[1]
