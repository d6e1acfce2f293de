"""Write the published weights of torchvision into the plugins, as facts that need no torch to read.

Run ``python scripts/generate_facts.py`` after updating torchvision; ``--check`` only says what would change.
"""

import argparse
import re
import subprocess
import sys
from math import isnan
from pathlib import Path
from typing import Any

import torchvision
from torchvision.models import get_model_weights

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
PUBLISHER = "https://download.pytorch.org/models/"
FAMILIES: dict[str, tuple[str, ...]] = {
    "zoo_resnet": (
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "resnext50_32x4d",
        "resnext101_32x8d",
        "resnext101_64x4d",
        "wide_resnet50_2",
        "wide_resnet101_2",
    ),
    "zoo_vgg": tuple(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
    "zoo_inception": ("googlenet", "inception_v3"),
    "zoo_efficientnet": (
        *(f"efficientnet_b{size}" for size in range(8)),
        *(f"efficientnet_v2_{size}" for size in "sml"),
    ),
}
HEADER = '''"""Weights that torchvision publishes, as facts: written by ``scripts/generate_facts.py``, not by hand."""

from collections.abc import Mapping

from zoo.architecture import Interpolation, Preprocessing, Weights

'''
WEIGHTS_FUNCTION = f'''

def _weights(
    tag: str,
    file: str,
    *,
    top1: float | None = None,
    top5: float | None = None,
    crop: int,
    resize: int,
    interpolation: Interpolation = "bilinear",
    mean: tuple[float, ...] = Preprocessing.mean,
    std: tuple[float, ...] = Preprocessing.std,
) -> Weights:
    """One row; ``file`` ends in the first eight hex digits of its SHA-256, and no figures means an unusable head."""
    figures = {{}} if top1 is None or top5 is None else {{"imagenet1k/top1": top1, "imagenet1k/top5": top5}}
    return Weights(
        tag=tag,
        url=f"{PUBLISHER}{{file}}",
        sha256_prefix=file.removesuffix(".pth").rpartition("-")[2],
        class_names="imagenet1k" if figures else "",
        preprocessing=Preprocessing(
            input_size=(3, crop, crop), mean=mean, std=std, interpolation=interpolation, crop_pct=crop / resize
        ),
        metrics=figures,
        source="torchvision",
    )

'''


def facts_module(names: tuple[str, ...]) -> str:
    """The source of one plugin's ``facts.py``, before formatting."""
    rows, defaults = [], []
    for name in names:
        published = get_model_weights(name)
        rows.append(f"    {name!r}: ({' '.join(f'{_row(member)},' for member in published)}),")
        defaults.append(f"    {name!r}: {published.DEFAULT.name.lower()!r},")
    return (
        f"{HEADER}{WEIGHTS_FUNCTION}\nWEIGHTS: Mapping[str, tuple[Weights, ...]] = {{\n"
        + "\n".join(rows)
        + "\n}\n\nDEFAULTS: Mapping[str, str] = {\n"
        + "\n".join(defaults)
        + "\n}\n"
    )


def _row(member: Any) -> str:
    url: str = member.url
    if not url.startswith(PUBLISHER) or not re.fullmatch(r".+-[0-9a-f]{8}\.pth", url):
        raise SystemExit(f"{member} is at {url}, which is not {PUBLISHER}NAME-HASH.pth: the table has no place for it.")
    figures = member.meta["_metrics"]["ImageNet-1K"]
    transform = member.transforms()
    (crop,), (resize,) = transform.crop_size, transform.resize_size
    values = {
        "top1": _figure(figures["acc@1"]),
        "top5": _figure(figures["acc@5"]),
        "crop": crop,
        "resize": resize,
        "interpolation": transform.interpolation.value,
        "mean": tuple(transform.mean),
        "std": tuple(transform.std),
    }
    usual = {"interpolation": "bilinear", "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    shown = ", ".join(f"{key}={value!r}" for key, value in values.items() if usual.get(key) != value)
    return f"_weights({member.name.lower()!r}, {url.removeprefix(PUBLISHER)!r}, {shown})"


def _figure(value: float) -> float | None:
    return None if isnan(value) else value


def _formatted(source: str, path: Path) -> str:
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(path), "-"]
    return subprocess.run(command, input=source, text=True, capture_output=True, check=True).stdout


def main() -> int:
    """Write every ``facts.py``, or with ``--check`` leave 1 where one differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; leave 1 if a file would change")
    check = parser.parse_args().check
    changed = []
    for plugin, names in FAMILIES.items():
        path = PLUGINS / plugin / "facts.py"
        source = _formatted(facts_module(names), path)
        if not path.exists() or path.read_text() != source:
            changed.append(path.relative_to(PLUGINS.parent))
            if not check:
                path.parent.mkdir(exist_ok=True)
                path.write_text(source)
    print(f"torchvision {torchvision.__version__}: " + (", ".join(map(str, changed)) or "nothing") + " changed")
    return 1 if check and changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
