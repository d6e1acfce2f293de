"""The pass over a frozen backbone, decoding included, against this machine's matrix product.

python benchmarks/roofline.py [--quick] [--architectures resnet50,resnet18]
"""

import argparse
import hashlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import gemm_gflops, photos, table, weights, write_section
from results import machine

from zoo.data import ImageReader
from zoo.features.frozen import FrozenFeatures
from zoo.models import build_model, request_model
from zoo.plugins.catalogue import open_plugins
from zoo.training.engine import Engine, choose_device, choose_numerics
from zoo.training.extraction import multiply_adds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--architectures", default="resnet50,resnet18")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precisions", default="bfloat16,float32")
    options = parser.parse_args()
    if options.quick:
        options.images, options.repeats = 64, 2
    data = photos(options.images)
    rows = []
    for architecture in options.architectures.split(","):
        for precision in options.precisions.split(","):
            peaks, rates, flops = [], [], 0.0
            for _ in range(options.repeats):
                peaks.append(gemm_gflops(precision))
                rate, flops = one_pass(architecture, data, precision)
                rates.append(rate)
            rate, peak = statistics.median(rates), statistics.median(peaks)
            bound = peak / flops
            rows.append(
                [
                    architecture,
                    precision,
                    f"{rate:.1f}",
                    f"{rate * flops:.0f}",
                    f"{peak:.0f}",
                    f"{bound:.1f}",
                    f"{rate / bound:.2f}",
                ]
            )
            print(rows[-1])
    headers = ["", "precision", "images/s", "GFLOP/s", "matrix product, GFLOP/s", "bound, images/s", "share"]
    text = (
        f"`python benchmarks/roofline.py {' '.join(sys.argv[1:])}`\n\n{machine()}. {options.images} JPEGs of 500×375 "
    )
    text += f"to features on disk, medians of {options.repeats}, making the fast copy left out.\n\n" + table(
        headers, rows
    )
    write_section("The pass against the roofline" + " (quick)" * options.quick, text)


def one_pass(architecture: str, data: Path, precision: str) -> tuple[float, float]:
    """Images a second from files to stored features, and billions of operations an image."""
    plugins = open_plugins()
    model = build_model(
        plugins, request_model(plugins, architecture, weights=str(weights(architecture))), num_classes=10
    )
    device = choose_device()
    engine = Engine(device, choose_numerics(model.module, device, precision=precision))  # type: ignore[arg-type]
    chain = model.chain()
    cut = chain.cut("head")
    engine.place(model.module)
    paths = sorted(data.rglob("*.jpg"))
    digests = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    with tempfile.TemporaryDirectory() as folder:
        from dataclasses import replace

        cache = replace(model.feature_cache(digests, device=device, precision=precision), folder=Path(folder))  # type: ignore[arg-type]
        features = FrozenFeatures(chain.part(0, cut.frozen_stages), digest="-", cache=cache, engine=engine)
        features.images_per_s(batches=1)  # makes the fast copy
        reader = ImageReader(paths, model.preprocessing, memory_limit_bytes=0)
        started = time.perf_counter()
        features.rows(reader, paths)
        seconds = time.perf_counter() - started
    image = torch.zeros(1, *model.preprocessing.input_size, device=device)
    return len(paths) / seconds, 2e-9 * multiply_adds(chain.part(0, cut.frozen_stages), engine.lay_out(image))


if __name__ == "__main__":
    main()
