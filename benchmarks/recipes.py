"""The shipped recipes on real photos, three seeds each: test accuracy and time.

python benchmarks/recipes.py --data ../shared/data/sign-digits --weights ../shared/weights/cifar_resnet20.safetensors

The CIFAR ResNet-20 of examples/ from its CIFAR-10 weights with each recipe, and ResNet-18 from random values with
``full`` for as long as lp-ft took (the median of its seeds), and twice as long. Two runs at a time, one thread each.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import WORK, median, run, table, with_cifar_resnet, write_section
from results import machine

_CHILD = """
import json, sys, time
import zoo

class Clock(zoo.Callback):
    ends = []
    def on_epoch_end(self, state, row):
        self.ends.append(time.process_time())

data, model, weights, recipe, epochs, size, seed, registry, output = sys.argv[1:]
started = time.process_time()
run = zoo.finetune(data, model=model, weights=weights, recipe=recipe, epochs=int(epochs) or None, seed=int(seed),
                   image_size=int(size) or None, split_seed=0, registry=registry, output=output, callbacks=[Clock()])
test = run.metrics["test"]
print(json.dumps({"test": test["accuracy"], "val": run.metrics["val"]["accuracy"], "count": test["count"],
                  "processor": time.process_time() - started, "last_epoch": Clock.ends[-1] - Clock.ends[-2],
                  "epochs": len(run.history)}))
"""


def train(options: argparse.Namespace, model: str, weights: str, recipe: str, seed: int, **more: int) -> dict[str, Any]:
    """One run in a process of its own."""
    folder = Path(tempfile.mkdtemp(dir=WORK))
    registry, environment = with_cifar_resnet(folder)
    words = [sys.executable, "-c", _CHILD, options.data.resolve(), model, weights, recipe, more.get("epochs", 0)]
    words += [more.get("size", 0), seed, registry, folder / "run"]
    result = run(words, **environment, OMP_NUM_THREADS="1", ZOO_CACHE=str(folder / "cache"))
    shutil.rmtree(folder)
    print(model, recipe, seed, result, flush=True)
    return result


def train_all(
    options: argparse.Namespace, runs: Sequence[tuple[str, str, str]], seeds: Sequence[int]
) -> list[list[dict[str, Any]]]:
    """Models with their weights and recipes, each with every seed; two processes at a time."""
    with ThreadPoolExecutor(2) as pool:
        futures = [[pool.submit(train, options, *words, seed) for seed in seeds] for words in runs]
        return [[future.result() for future in row] for row in futures]


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
    recipes = ("frozen", "lp-ft", "gradual", "full")
    tuned = train_all(options, [("cifar_resnet/resnet20", weights, recipe) for recipe in recipes], seeds)
    found = {f"ResNet-20 from CIFAR-10, {recipe}": results for recipe, results in zip(recipes, tuned, strict=True)}
    budget = median(found["ResNet-20 from CIFAR-10, lp-ft"], "processor")
    probe = train(options, "resnet18", "none", "full", 0, epochs=2, size=options.size)
    fixed = probe["processor"] - 2 * probe["last_epoch"]
    longer = [max(2, round((times * budget - fixed) / probe["last_epoch"])) for times in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        futures = [
            [
                pool.submit(train, options, "resnet18", "none", "full", seed, epochs=epochs, size=options.size)
                for seed in seeds
            ]
            for epochs in longer
        ]
        for times, epochs, row in zip((1, 2), longer, futures, strict=True):
            name = f"ResNet-18 from random values, full, {epochs} epochs ({times}x the time of lp-ft)"
            found[name] = [future.result() for future in row]
    rows = [
        [
            name,
            ", ".join(f"{result['test']:.1%}" for result in results),
            f"{sum(result['test'] for result in results) / len(results):.1%}",
            f"{sum(result['val'] for result in results) / len(results):.1%}",
            f"{median(results, 'processor'):.0f} s",
        ]
        for name, results in found.items()
    ]
    count = next(iter(found.values()))[0]["count"]
    write_section(
        "Recipes" + " (quick)" * options.quick,
        f"`python benchmarks/recipes.py {' '.join(sys.argv[1:])}`\n\n{machine()}. {options.data.name}: {count} test "
        f"images, one split. Two runs at a time, one thread each, each with an empty cache; the time is "
        f"what the processor worked from images to artifact, imports left out.\n\n"
        + table(
            ["model and recipe", "test accuracy by seed", "mean", "validation, mean", "processor time, median"],
            rows,
        ),
    )


if __name__ == "__main__":
    WORK.mkdir(exist_ok=True)
    main()
