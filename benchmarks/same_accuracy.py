"""Nothing got worse: test accuracy of a frozen backbone with and without stored features, in both precisions.

python benchmarks/same_accuracy.py --data DIGITS --model cifar_resnet/resnet20 --weights cifar_resnet20.safetensors
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from common import WORK, run, table, with_cifar_resnet, write_section
from results import machine

_CHILD = """
import json, sys
import zoo
data, model, weights, precision, cache, seed, recipe, registry, output = sys.argv[1:]
run = zoo.finetune(data, model=model, weights=weights, precision=precision, cache=cache == "yes", recipe=recipe,
                   augment="none", seed=int(seed), split_seed=0, registry=registry, output=output)
print(json.dumps({"test": run.metrics["test"]["accuracy"], "count": run.metrics["test"]["count"]}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--recipe", default="frozen")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    rows = []
    for precision in ("float32", "bfloat16"):
        for cache in ("yes", "no"):
            right = []
            for seed in range(1 if options.quick else options.seeds):
                folder = Path(tempfile.mkdtemp(dir=WORK))
                words = [sys.executable, "-c", _CHILD, options.data, options.model, options.weights, precision, cache]
                registry, environment = with_cifar_resnet(folder)
                words += [seed, options.recipe, registry, folder / "run"]
                result = run(words, **environment, ZOO_CACHE=str(folder / "cache"))
                shutil.rmtree(folder)
                right.append(f"{round(result['test'] * result['count'])}")
            rows.append([precision, cache, ", ".join(right), result["count"]])
            print(rows[-1])
    write_section(
        "The same accuracy" + " (quick)" * options.quick,
        f"`python benchmarks/same_accuracy.py {' '.join(sys.argv[1:])}`\n\n{machine()}. Test images that are "
        f"right after recipe {options.recipe!r}, a number a seed.\n\n"
        + table(["precision", "stored features", "right", "of"], rows),
    )


if __name__ == "__main__":
    WORK.mkdir(exist_ok=True)
    main()
