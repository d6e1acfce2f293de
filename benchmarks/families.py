"""One epoch of fine-tuning for one member of each built-in family, its backbone frozen and all of it trained.

    python benchmarks/families.py --data ../shared/data/sign-digits

Random values at a small image size: what is shown is that every family trains either way, and what an epoch takes, not
what a pretrained network would reach. Each run is a process of its own, and its time is from its start to its end.
"""

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from common import WORK, run, table, write_section
from results import machine

# Name and image size in pixels: small, and allowed.
MEMBERS = {
    "simple_cnn": 64,
    "vgg11_bn": 32,
    "resnet18": 64,
    "googlenet": 64,
    "inception_v3": 75,
    "efficientnet_b0": 64,
    "timm/mobilenetv3_small_100": 64,
}
_CHILD = """
import json, sys
import zoo
data, model, recipe, size, output = sys.argv[1:]
run = zoo.finetune(data, model=model, weights="none", recipe=recipe, epochs=1, image_size=int(size), output=output)
test = run.metrics["test"]
print(json.dumps({"right": test["accuracy"], "count": test["count"], "epoch_s": run.history[0]["seconds"]}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="the first two members only")
    parser.add_argument("--dry-run", action="store_true", help="print, and leave RESULTS.md as it is")
    options = parser.parse_args()
    members = dict(list(MEMBERS.items())[: 2 if options.quick else None])
    counts = Counter(path.parent.name for path in options.data.glob("*/*"))
    rows = [
        [model, f"{size}×{size}", recipe, *cells(train(options.data, model, recipe, size))]
        for model, size in members.items()
        for recipe in ("frozen", "full")
    ]
    text = "\n\n".join(
        [
            f"`python benchmarks/families.py --data {options.data}{' --quick' * options.quick}`",
            f"{machine()}. {sum(counts.values()):,} photos of {len(counts)} classes, split 70/15/15; one epoch from "
            f"random values, one run each. The largest class holds {max(counts.values()) / sum(counts.values()):.1%}.",
            table(["model", "size", "recipe", "process, s", "epoch, s", "test accuracy", "right"], rows),
        ]
    )
    print(text)
    if not options.dry_run:
        write_section("One epoch of each family", text)


def train(data: Path, model: str, recipe: str, size: int) -> dict[str, Any]:
    """One run in a process of its own."""
    WORK.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=WORK))
    result = run(
        [sys.executable, "-c", _CHILD, data.resolve(), model, recipe, size, folder / "run"],
        ZOO_CACHE=str(folder / "cache"),
    )
    shutil.rmtree(folder)
    print(model, recipe, result, flush=True)
    return result


def cells(result: dict[str, Any]) -> list[str]:
    """The figures of one run as the table shows them."""
    right, count = result["right"], result["count"]
    return [f"{result['wall_s']:.1f}", f"{result['epoch_s']:.1f}", f"{right:.1%}", f"{round(right * count)} of {count}"]


if __name__ == "__main__":
    main()
