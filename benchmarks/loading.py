"""From a file to a model, and to its first logits: zoo's cache against timm and torchvision.

    python benchmarks/loading.py [--repeats 7] [--threads 2]

Each way is timed in turn, round after round, so that whatever else the machine does meets all of them. The files are in
the page cache, and imports, plugin discovery's disk cache and the first entry of the file into zoo's cache are outside
the rounds; that entry is stated apart. zoo's time is that of ``zoo.create_model``, registry and plugins included.
"""

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import timm
import torch
import torchvision
from common import table, write_section
from results import machine
from safetensors.torch import save_file
from torch import nn

import zoo

IMAGE = torch.ones(1, 3, 224, 224)
Way = Callable[[], nn.Module]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dry-run", action="store_true", help="print, and leave RESULTS.md as it is")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows, notes = [], []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ZOO_CACHE"] = f"{folder}/cache"
        for name in ("resnet152", "vgg16"):
            found, note = compare(name, Path(folder), arguments.repeats)
            rows += found
            notes.append(note)
    headers = ["model", "way", "ready, ms", "first logits, ms", "ready: times zoo", "first logits: times zoo"]
    text = "\n\n".join(
        [
            f"`python benchmarks/loading.py --repeats {arguments.repeats} --threads {arguments.threads}`",
            f"{machine()}. Medians of {arguments.repeats} interleaved rounds, {arguments.threads} threads.",
            table(headers, rows),
            *notes,
        ]
    )
    print(text)
    if not arguments.dry_run:
        write_section("Loading from zoo's cache", text)


def compare(name: str, folder: Path, repeats: int) -> tuple[list[list[object]], str]:
    """Rows of the table for one architecture, and what its entry into the cache took."""
    ways, logits = prepare(name, folder)
    started = time.perf_counter()
    ways["zoo"]()
    entry_s = time.perf_counter() - started
    for way in ways.values():
        run(way)
    times: dict[str, list[tuple[float, float]]] = {label: [] for label in ways}
    for _ in range(repeats):
        for label, way in ways.items():
            ready_s, first_s, found = run(way)
            times[label].append((ready_s, first_s))
            expected = logits["timm" if label == "timm" else "torchvision"]
            assert torch.equal(found, expected), f"{name} by {label} gives other logits"
    medians = {label: [median(column) for column in zip(*pairs, strict=True)] for label, pairs in times.items()}
    rows = [
        [name, label, f"{1e3 * ready:.1f}", f"{1e3 * first:.1f}", f"{ready / medians['zoo'][0]:.1f}×",
         f"{first / medians['zoo'][1]:.1f}×"]
        for label, (ready, first) in medians.items()
    ]  # fmt: skip
    size = (folder / f"{name}.safetensors").stat().st_size
    return (
        rows,
        f"{name}: {size / 1e6:.0f} MB; the file's first entry into zoo's cache (hash and copy): {entry_s:.2f} s.",
    )


def prepare(name: str, folder: Path) -> tuple[dict[str, Way], dict[str, torch.Tensor]]:
    """The files, the ways to load them, and the logits that each has to give."""
    build = getattr(torchvision.models, name)
    torch.manual_seed(0)
    model = settled(build().eval())
    safetensors, pth, own = (folder / f"{name}{suffix}" for suffix in (".safetensors", ".pth", ".timm.safetensors"))
    save_file(model.state_dict(), safetensors)
    torch.save(model.state_dict(), pth)
    other = settled(timm.create_model(name).eval())
    save_file(other.state_dict(), own)  # timm lays vgg16 out in its own way

    def by_torchvision() -> nn.Module:
        loaded = build()
        loaded.load_state_dict(torch.load(pth, map_location="cpu", weights_only=True))
        return loaded.eval()

    ways: dict[str, Way] = {
        "zoo": lambda: zoo.create_model(name, weights=str(safetensors), num_classes=1000),
        "timm": lambda: timm.create_model(name, checkpoint_path=str(own)).eval(),
        "torchvision": by_torchvision,
    }
    with torch.inference_mode():
        return ways, {"torchvision": model(IMAGE), "timm": other(IMAGE)}


def settled(model: nn.Module) -> nn.Module:
    """A model whose untrained values neither vanish nor overflow over 152 layers, as trained ones do not."""
    for name, module in model.named_modules():
        if name.endswith("bn3"):
            nn.init.constant_(module.weight, 0.1)
    return model


def run(way: Way) -> tuple[float, float, torch.Tensor]:
    """Seconds to a ready model and to its first logits, and those."""
    gc.collect()
    started = time.perf_counter()
    model = way()
    ready = time.perf_counter()
    with torch.inference_mode():
        logits = model(IMAGE)
    return ready - started, time.perf_counter() - started, logits


if __name__ == "__main__":
    main()
