"""From JPEG files to normalised batches: zoo's reader against a DataLoader over ImageFolder.

python benchmarks/input_path.py [--quick]
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from common import photos, table, write_section
from PIL import Image
from results import machine
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from zoo.architecture import Preprocessing
from zoo.data import ImageReader, Request, Transform, normalise
from zoo.training.allocator import kept_memory

PREPROCESSING = Preprocessing(input_size=(3, 224, 224), crop_pct=0.875)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    sizes = {(500, 375): 512, (2000, 1500): 96}
    if options.quick:
        sizes, options.repeats = {(500, 375): 96, (2000, 1500): 24}, 2
    rows = []
    for size, count in sizes.items():
        data = photos(count, size=size)
        ways: dict[str, Callable[[Path], int]] = {
            "DataLoader, 2 workers": loader,
            "zoo, 1 thread": partial(ours, workers=1),
            "zoo, a thread a core": ours,
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.repeats):
            for name, way in ways.items():
                started = time.perf_counter()
                read = way(data)
                rates[name].append(read / (time.perf_counter() - started))
        theirs, alone, mine = (statistics.median(rates[name]) for name in ways)
        rows.append(
            [
                f"{size[0]}×{size[1]}",
                f"{theirs:.0f}",
                f"{alone:.0f}",
                f"{mine:.0f}",
                f"{mine / theirs:.2f}×",
                f"{difference(data):.2f}",
            ]
        )
        print(rows[-1])
    headers = [
        "JPEGs",
        "DataLoader over ImageFolder, images/s",
        "zoo, one thread, images/s",
        "zoo, images/s",
        "ratio",
        "mean difference of a pixel, of 255",
    ]
    write_section(
        "Input path" + " (quick)" * options.quick,
        f"`python benchmarks/input_path.py {' '.join(sys.argv[1:])}`\n\n{machine()}. To batches of 32, 224×224, "
        f"float32, normalised; medians of {options.repeats} interleaved repeats, workers' start included."
        f"\n\n{table(headers, rows)}",
    )


def steps() -> transforms.Compose:
    return transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()])


def loader(data: Path) -> int:
    normalised = transforms.Compose([steps(), transforms.Normalize(PREPROCESSING.mean, PREPROCESSING.std)])
    batches = DataLoader(datasets.ImageFolder(str(data), normalised), batch_size=32, num_workers=2)
    return sum(len(images) for images, _ in batches)


def ours(data: Path, workers: int | None = None) -> int:
    paths = sorted(data.rglob("*.jpg"))
    reader = ImageReader(paths, PREPROCESSING, workers=workers, memory_limit_bytes=0)
    requests = (Request(list(range(start, min(start + 32, len(paths))))) for start in range(0, len(paths), 32))
    with kept_memory():
        return sum(len(normalise(images, PREPROCESSING)) for images in reader.ahead(requests))


def difference(data: Path) -> float:
    """Mean absolute difference of the pixels of both ways."""
    prepare, transform = steps(), Transform(PREPROCESSING)
    found = []
    for path in sorted(data.rglob("*.jpg"))[:16]:
        theirs = (prepare(Image.open(path).convert("RGB")) * 255).permute(1, 2, 0).numpy()
        found.append(float(np.abs(theirs - transform.read(path).astype(np.float32)).mean()))
    return statistics.mean(found)


if __name__ == "__main__":
    main()
