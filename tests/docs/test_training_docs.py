"""The page on training says what there is."""

import dataclasses
import re
from pathlib import Path

from zoo.recipes import Phase
from zoo.registry import load_registry

_PAGE = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_example_recipes_can_be_loaded(tmp_path: Path) -> None:
    text = re.search(r"```toml\n(.*?)```", _PAGE, re.DOTALL)
    assert text is not None
    path = tmp_path / "registry.toml"
    path.write_text(text[1])
    registry = load_registry(path)
    assert [phase.train for phase in registry.recipe("careful").phases] == ["head", "last 2"]
    assert registry.recipe("thorough").phases[0].monitor == "f1"


def test_every_key_of_a_phase_and_every_shipped_recipe_is_explained(tmp_path: Path) -> None:
    rows = re.findall(r"^\| (`.*?) \|", _PAGE, re.MULTILINE)
    explained = {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}
    in_passing = {"plateau"}
    assert {field.name for field in dataclasses.fields(Phase)} - explained == in_passing
    empty = tmp_path / "registry.toml"
    empty.write_text("schema = 1\n")
    assert set(load_registry(empty, working_folder=tmp_path).recipes) <= explained
