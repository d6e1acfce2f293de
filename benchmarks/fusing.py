"""The pass over a frozen backbone in memory: layer by layer, fused, and compiled with frozen weights.

python benchmarks/fusing.py [--quick] [--architectures resnet50,timm/regnety_002]
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from common import table, write_section
from results import machine
from torch import Tensor

from zoo.models import build_model, request_model
from zoo.plugins.catalogue import open_plugins
from zoo.training.allocator import kept_memory
from zoo.training.engine import Engine, choose_device, choose_numerics
from zoo.training.extraction import FrozenPass, choose_pass_numerics, choose_pass_precision

ARCHITECTURES = "resnet50,resnet18,googlenet,efficientnet_b0,timm/mobilenetv3_small_100,timm/regnety_002"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--architectures", default=ARCHITECTURES)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.quick:
        options.architectures, options.repeats = "resnet18", 2
    rows = []
    for architecture in options.architectures.split(","):
        rows.append([architecture, *compare(architecture, options.repeats)])
        print(rows[-1])
    headers = [
        "",
        "layer by layer",
        "fused",
        "compiled",
        "compiling, s",
        "fused: times as fast",
        "images until compiling pays",
    ]
    write_section(
        "Fused and compiled" + " (quick)" * options.quick,
        f"`python benchmarks/fusing.py {' '.join(sys.argv[1:])}`\n\n{machine()}. Images per second of the backbone, "
        "BatchNorm folded, random values, in batches by zoo's rule at the architecture's own size; medians of "
        f"{options.repeats} interleaved repeats. Compiled is torch's inductor with frozen weights, from an empty "
        f"cache; it pays against the fused pass.\n\n{table(headers, rows)}",
    )


def compare(architecture: str, repeats: int) -> list[str]:
    """A row of the table."""
    plugins = open_plugins()
    model = build_model(plugins, request_model(plugins, architecture, weights=None), num_classes=10)
    device = choose_device("cpu")
    engine = Engine(device, choose_numerics(model.module, device))
    chain = model.chain()
    part = chain.part(0, chain.cut("head").frozen_stages).eval()
    size = model.preprocessing.input_size
    chosen = choose_pass_numerics(part, engine, precision=choose_pass_precision(part, device)[0], input_size=size)
    images = torch.randn(chosen.numerics.batch_size, *size)
    plain, fused = (
        FrozenPass(part, engine=engine, chosen=replace(chosen, fusing=fusing), example=images[:1])
        for fusing in (False, True)
    )
    compiled, compiling_s = compile_pass(plain, images)
    ways: list[Callable[[Tensor], object]] = [plain, fused, compiled]
    rates: list[list[float]] = [[] for _ in ways]
    with kept_memory():
        for _ in range(repeats):
            for way, found in zip(ways, rates, strict=True):
                way(images)
                started = time.perf_counter()
                for _ in range(3):
                    way(images)
                found.append(3 * len(images) / (time.perf_counter() - started))
    one, two, three = (statistics.median(found) for found in rates)
    pays = f"{compiling_s / (1 / two - 1 / three):,.0f}" if three > two else "never"
    return [f"{one:.1f}", f"{two:.1f}", f"{three:.1f}", f"{compiling_s:.0f}", f"{two / one:.2f}×", pays]


def compile_pass(plain: FrozenPass, images: Tensor) -> tuple[Callable[[Tensor], object], float]:
    """The plain pass's folded copy compiled, and the seconds until its first result."""
    import torch._inductor.config

    torch._dynamo.reset()
    function = torch.compile(plain._module)

    def run(batch: Tensor) -> object:
        settings = {"freezing": True, "force_disable_caches": True}
        with torch._inductor.config.patch(settings), torch.no_grad(), plain.engine.autocast():
            return function(plain.engine.lay_out(batch))

    started = time.perf_counter()
    run(images)
    return run, time.perf_counter() - started


if __name__ == "__main__":
    main()
