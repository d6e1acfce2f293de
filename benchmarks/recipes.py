"""The shipped recipes on real photos, three seeds each: test accuracy and time.

python benchmarks/recipes.py --data ../shared/data/sign-digits --weights ../shared/weights/cifar_resnet20.safetensors

The CIFAR ResNet-20 of examples/ from its CIFAR-10 weights with each recipe, and ResNet-18 from random values with
``full`` for as long as lp-ft took (the median of its seeds), and three times as long.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import HERE, WORK, median, run, table, write_section
from results import machine

_CHILD = """
import json, sys, time
import zoo
data, model, weights, recipe, epochs, size, seed, registry, output = sys.argv[1:]
started = time.perf_counter()
run = zoo.finetune(data, model=model, weights=weights, recipe=recipe, epochs=int(epochs) or None, seed=int(seed),
                   image_size=int(size) or None, split_seed=0, registry=registry, cache=False, output=output)
test = run.metrics["test"]
print(json.dumps({"test": test["accuracy"], "count": test["count"], "seconds": time.perf_counter() - started,
                  "trained": sum(row["seconds"] for row in run.history), "epochs": len(run.history)}))
"""
_REGISTRY = """schema = 1
[plugins.cifar_resnet]
module = "zoo_cifar_resnet"
"""


def train(options: argparse.Namespace, model: str, weights: str, recipe: str, seed: int, **more: int) -> dict[str, Any]:
    """One run in a process of its own."""
    folder = Path(tempfile.mkdtemp(dir=WORK))
    (folder / "registry.toml").write_text(_REGISTRY)
    words = [sys.executable, "-c", _CHILD, options.data.resolve(), model, weights, recipe, more.get("epochs", 0)]
    words += [more.get("size", 0), seed, folder / "registry.toml", folder / "run"]
    path = os.pathsep.join([str(HERE.parent / "examples" / "zoo-cifar-resnet"), os.environ.get("PYTHONPATH", "")])
    result = run(words, PYTHONPATH=path)
    shutil.rmtree(folder)
    print(model, recipe, seed, result, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=64, help="image size of resnet18")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    seeds = range(1 if options.quick else options.seeds)
    weights = str(options.weights.resolve())
    found: dict[str, list[dict[str, Any]]] = {}
    for recipe in ("frozen", "lp-ft", "gradual", "full"):
        found[f"ResNet-20 from CIFAR-10, {recipe}"] = [
            train(options, "cifar_resnet/cifar_resnet20", weights, recipe, seed) for seed in seeds
        ]
    budget = median(found["ResNet-20 from CIFAR-10, lp-ft"], "trained")
    probe = train(options, "resnet18", "none", "full", 0, epochs=2, size=options.size)
    for times in (1, 3):
        epochs = max(1, round(times * budget / (probe["trained"] / 2)))
        name = f"resnet18 from random values, full, {epochs} epochs ({times}x the time of lp-ft)"
        found[name] = [train(options, "resnet18", "none", "full", s, epochs=epochs, size=options.size) for s in seeds]
    rows = [
        [
            name,
            ", ".join(f"{result['test']:.1%}" for result in results),
            f"{median(results, 'test'):.1%}",
            f"{median(results, 'trained'):.0f} s",
            f"{median(results, 'seconds'):.0f} s",
        ]
        for name, results in found.items()
    ]
    count = next(iter(found.values()))[0]["count"]
    write_section(
        "Recipes" + " (quick)" * options.quick,
        f"`python benchmarks/recipes.py {' '.join(sys.argv[1:])}`\n\n{machine()}. {options.data.name}: {count} test "
        f"images, one split. A number a seed; features are not stored.\n\n"
        + table(["model and recipe", "test accuracy", "median", "training", "whole run"], rows),
    )


if __name__ == "__main__":
    WORK.mkdir(exist_ok=True)
    main()
