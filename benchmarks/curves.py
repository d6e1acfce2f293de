"""What a frozen run costs as epochs and images grow: time, and memory.

python benchmarks/curves.py [--quick] [--architecture resnet18]
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import HERE, WORK, photos, run, table, weights, write_section
from results import machine

_CHILD = """
import json, resource, sys
import zoo
data, model, weights, epochs, size, output = sys.argv[1:]
weights = None if weights == "none" else weights
run = zoo.finetune(data, model=model, weights=weights, recipe="frozen", epochs=int(epochs), image_size=int(size),
                   output=output)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": run.seconds, "peak_mib": peak}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--architecture", default="resnet18")
    options = parser.parse_args()
    counts, epochs = ([64, 128], [1, 10]) if options.quick else ([128, 256, 512, 1024], [1, 5, 10, 20, 50])
    middle = counts[len(counts) // 2]
    by_epochs = [(n, once(options.architecture, middle, n)) for n in epochs]
    by_images = [(n, once(options.architecture, n, 10)) for n in counts]
    rows = [["epochs", n, f"{r['seconds']:.1f}", f"{r['peak_mib']:.0f}"] for n, r in by_epochs]
    rows += [["images", n, f"{r['seconds']:.1f}", f"{r['peak_mib']:.0f}"] for n, r in by_images]
    pictures = draw(by_epochs, by_images, middle)
    # Prepared pixels are kept up to 1 GiB, which is 1,783 images of this size.
    counts = [64, 128] if options.quick else [1000, 2000, 4000]
    many = [(n, once("simple_cnn", n, 1, edge=64, size=448)) for n in counts]
    beyond = [["images of 448 pixels", n, f"{r['seconds']:.1f}", f"{r['peak_mib']:.0f}"] for n, r in many]
    write_section(
        "Cost against epochs and images" + " (quick)" * options.quick,
        f"`python benchmarks/curves.py {' '.join(sys.argv[1:])}`\n\n{machine()}. {options.architecture}, frozen, empty "
        f"cache; epochs with {middle} images, images with 10 epochs.\n\n"
        + table(["", "n", "seconds", "peak memory, MiB"], rows)
        + "\n\nMemory grows with the prepared pixels that are kept, up to 1 GiB. SimpleCNN, one epoch:\n\n"
        + table(["", "n", "seconds", "peak memory, MiB"], beyond)
        + "\n\n"
        + "\n".join(f"![{picture.stem}]({picture.name})" for picture in pictures),
    )


def once(architecture: str, images: int, epochs: int, *, edge: int = 0, size: int = 224) -> dict[str, Any]:
    """One run with an empty cache; with ``edge`` on square photos of so many pixels, from random values."""
    folder = Path(tempfile.mkdtemp(dir=WORK))
    data, start = (photos(images, size=(edge, edge)), "none") if edge else (photos(images), weights(architecture))
    words = [sys.executable, "-c", _CHILD, data, architecture, start, epochs, size, folder / "run"]
    result = run(words, ZOO_CACHE=str(folder / "cache"))
    shutil.rmtree(folder)
    print(images, epochs, result)
    return result


def draw(by_epochs: list[tuple[int, Any]], by_images: list[tuple[int, Any]], middle: int) -> list[Path]:
    """One picture each of time against epochs, time against images, and memory against images."""
    import matplotlib.pyplot as plt

    plots = [
        ("cost-epochs", by_epochs, "epochs", "seconds", f"{middle} images"),
        ("cost-images", by_images, "images", "seconds", "10 epochs"),
        ("cost-memory", by_images, "images", "peak_mib", "10 epochs"),
    ]
    targets = []
    for name, found, x, y, title in plots:
        figure, axis = plt.subplots(figsize=(5, 3.6), layout="constrained")
        axis.plot([n for n, _ in found], [result[y] for _, result in found], marker="o")
        axis.set(xlabel=x, ylabel="peak memory, MiB" if y == "peak_mib" else "seconds", title=title)
        axis.set_ylim(bottom=0)
        targets.append(HERE / f"{name}.svg")
        figure.savefig(targets[-1], metadata={"Date": None})
        plt.close(figure)
    return targets


if __name__ == "__main__":
    main()
