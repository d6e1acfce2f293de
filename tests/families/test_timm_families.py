"""Everything that the table of ``scripts/check_zoo.py`` says, for one member of each of timm's families."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from zoo_timm import catalogue

from zoo.plugins import Plugins
from zoo.plugins.catalogue import open_plugins

SMALL = ("test_vit", "test_resnet", "test_nfnet")
TOO_SLOW = ("deepseek_vit_412m",)
# What does not work, and why. Strict: one that begins to work fails its test.
KNOWN_FAILURES = {
    "csatv2": {"1 channel"},  # its DCT stem is made for RGB
    # Buffers that are infinite by design, which loading takes for damage.
    "gemma4_vit_167m": {"7 classes", "1 channel", "file"},
}
FAILURES = {
    # Its first layer is a cosine transform of three channels.
    "csatv2": {"1 channel": "OptionError: timm cannot build csatv2 with in_channels=1"},
    # Random values come with limits at infinity, which the core takes for damage; published ones are finite.
    "gemma4_vit_167m": {"7 classes": "infinite values", "1 channel": "infinite values", "file": "infinite values"},
}
SCRIPT = Path(__file__).parents[2] / "scripts" / "check_zoo.py"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_zoo", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_zoo"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


check_zoo = _script()


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return open_plugins()


@pytest.fixture(autouse=True)
def global_state() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(min(2, threads))
    yield
    torch.set_num_threads(threads)


# timm warns of what a test then finds.
@pytest.mark.filterwarnings("ignore:CSATv2 is designed for:UserWarning")
@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in check_zoo.SMALLEST)])
def test_architecture_passes_every_check(plugins: Plugins, name: str) -> None:
    failures = check_zoo.check(plugins, f"timm/{name}").failures
    assert failures.keys() == KNOWN_FAILURES.get(name, set()), failures


def test_every_family_has_its_member_in_the_table() -> None:
    families = {row.name: row.family for row in catalogue.shipped().architectures}
    checked = [families[name] for name in (*check_zoo.SMALLEST, *TOO_SLOW)]
    assert sorted(checked) == sorted(set(families.values()))


@pytest.mark.slow
@pytest.mark.parametrize("name", TOO_SLOW)
def test_stages_run_the_model_s_operators(name: str) -> None:
    from zoo_timm.measure import measure

    found = measure(name)
    assert (found.no_logits, found.no_chain) == ("", "")
