"""The facts of the built-in plugins against the installed torchvision, and that reading them needs no torch."""

import importlib
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pluggy
import pytest
import torchvision
from torchvision.models import get_model_weights, list_models

from zoo.architecture import Architecture

HooksOf = Callable[[str], pluggy.HookRelay]
PLUGINS = ("zoo_resnet", "zoo_vgg", "zoo_inception", "zoo_efficientnet")
PREFIXES = ("resnet", "resnext", "wide_resnet", "vgg", "googlenet", "inception", "efficientnet")
NAMES = [
    pytest.param(module, name, id=name)
    for module in PLUGINS
    for name in importlib.import_module(f"{module}.facts").WEIGHTS
]
VERSION = f"torchvision {torchvision.__version__}, written by scripts/generate_facts.py"


def _architecture(hooks: pluggy.HookRelay, name: str) -> Architecture:
    return next(architecture for architecture in hooks.zoo_architectures() if architecture.name == name)


def test_every_architecture_of_the_families_is_there() -> None:
    published = {name for name in list_models(module=torchvision.models) if name.startswith(PREFIXES)}
    assert {parameter.values[1] for parameter in NAMES} == published


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_weights_are_those_of_the_installed_torchvision(module: str, name: str, hooks_of: HooksOf) -> None:
    architecture = _architecture(hooks_of(module), name)
    published = get_model_weights(name)
    assert [weights.tag for weights in architecture.weights] == [m.name.lower() for m in published], VERSION
    assert architecture.default_weights == published.DEFAULT.name.lower(), VERSION
    for weights, member in zip(architecture.weights, published, strict=True):
        transform, preprocessing = member.transforms(), weights.preprocessing
        assert weights.url == member.url, VERSION
        assert len(weights.sha256_prefix) == 8
        assert member.url.endswith(f"-{weights.sha256_prefix}.pth"), VERSION
        assert weights.num_classes == len(member.meta["categories"] or range(1000))
        assert preprocessing is not None
        assert preprocessing.input_size == (3, *2 * tuple(transform.crop_size)), VERSION
        assert [preprocessing.resize] == transform.resize_size, VERSION
        assert preprocessing.interpolation == transform.interpolation.value, VERSION
        assert (list(preprocessing.mean), list(preprocessing.std)) == (transform.mean, transform.std), VERSION
        figures = member.meta["_metrics"]["ImageNet-1K"]
        expected = {"imagenet1k/top1": figures["acc@1"], "imagenet1k/top5": figures["acc@5"]}
        assert weights.metrics == {key: value for key, value in expected.items() if value == value}, VERSION
        assert weights.class_names == ("imagenet1k" if weights.metrics else "")
    default = next(weights for weights in architecture.weights if weights.tag == architecture.default_weights)
    assert architecture.preprocessing == default.preprocessing


def test_facts_are_what_the_script_writes() -> None:
    script = Path(__file__).parents[2] / "scripts" / "generate_facts.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_reading_facts_imports_no_torch() -> None:
    modules = (*PLUGINS, "zoo_simple_cnn")
    program = f"import sys, {', '.join(modules)}\n" + "".join(f"{m}.zoo_architectures()\n" for m in modules)
    program += "sys.exit(' '.join(m for m in ('torch', 'torchvision', 'timm', 'numpy') if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, f"imported {done.stderr}"


def test_every_architecture_is_found_by_its_bare_name() -> None:
    shipped = tomllib.loads((Path(__file__).parents[2] / "registry.toml").read_text())
    expected = {
        parameter.values[1]: f"{parameter.values[0].removeprefix('zoo_')}/{parameter.values[1]}" for parameter in NAMES
    }
    bases = {name: preset["base"] for name, preset in shipped["presets"].items()}
    assert {name: bases.get(name) for name in expected} == expected
    assert bases["simple_cnn"] == "simple_cnn/simple_cnn"
