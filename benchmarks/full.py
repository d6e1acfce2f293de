"""Full fine-tuning steps on a processor: zoo's trainer against the plain float32 loop, and both loss curves.

python benchmarks/full.py [--quick] [--architectures resnet18,resnet50]
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from common import CLASSES, HERE, gemm_gflops, photos, table, weights, write_section
from results import machine
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models

from zoo.data import ImageBatches, ImageReader, training_steps
from zoo.models import request_model
from zoo.phases import Front
from zoo.plugins.catalogue import open_plugins
from zoo.recipes import Phase
from zoo.training.allocator import kept_memory
from zoo.training.engine import Engine, choose_device, choose_numerics, make_optimizer
from zoo.training.losses import CrossEntropy
from zoo.training.step import Stepper

BATCH = 32
# Multiplications and additions of a forward pass, an image.
GFLOP = {"resnet18": 3.64, "resnet50": 8.18}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--architectures", default="resnet18,resnet50")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--curve-steps", type=int, default=30)
    options = parser.parse_args()
    if options.quick:
        options.architectures, options.steps, options.repeats, options.curve_steps = "resnet18", 2, 1, 0
    rows = []
    for architecture in options.architectures.split(","):
        rates: dict[str, list[float]] = {"plain": [], "zoo": []}
        for _ in range(options.repeats):
            for name in rates:
                seconds, _ = train(name, architecture, options.steps + 1)
                rates[name] += [BATCH / second for second in seconds[1:]]
        plain, ours = (statistics.median(rates[name]) for name in ("plain", "zoo"))
        spread = f"{ours:.2f} ({min(rates['zoo']):.2f}–{max(rates['zoo']):.2f})"
        # Forward, and the gradients of inputs and of weights.
        bound = gemm_gflops("bfloat16") / (3 * GFLOP[architecture])
        rows.append(
            [
                architecture,
                f"{plain:.2f} ({min(rates['plain']):.2f}–{max(rates['plain']):.2f})",
                spread,
                f"{ours / plain:.2f}×",
                f"{bound:.1f}",
                f"{bound / plain:.2f}×",
            ]
        )
        print(rows[-1])
    text = f"`python benchmarks/full.py {' '.join(sys.argv[1:])}`\n\n{machine()}. "
    text += (
        f"Batches of {BATCH} at 224 pixels in memory, SGD with momentum, medians and range over the steps of "
        f"{options.repeats} interleaved repeats of {options.steps} steps after one. The bound is this machine's "
        "bfloat16 matrix product (3072³).\n\n"
    )
    text += table(["", "float32 loop, images/s", "zoo, images/s", "ratio", "bound, images/s", "bound's ratio"], rows)
    if options.curve_steps:
        text += f"\n\n![loss]({curves(options.architectures.split(','), options.curve_steps).name})"
    write_section("Full fine-tuning" + " (quick)" * options.quick, text)


def train(name: str, architecture: str, steps: int) -> tuple[list[float], list[float]]:
    """Seconds and loss of each step."""
    if name == "plain":
        return plain(architecture, steps)
    with kept_memory():  # as the trainer does
        return ours(architecture, steps)


def batches(steps: int) -> tuple[ImageReader, list[Path], list[int]]:
    paths = sorted(photos(256).rglob("*.jpg"))
    classes = sorted({path.parent.name for path in paths})
    plugins = open_plugins()
    reader = ImageReader(paths, request_model(plugins, "resnet18", weights=None).architecture.preprocessing)
    reader.scan()
    return reader, paths, [classes.index(path.parent.name) for path in paths]


def order(labels: list[int], steps: int) -> list[Tensor]:
    rows = training_steps(len(labels), BATCH, seed=0)
    indices = [torch.from_numpy(step) for epoch in range(-(-steps * BATCH // len(labels))) for step in rows(epoch)]
    return indices[:steps]


def plain(architecture: str, steps: int) -> tuple[list[float], list[float]]:
    reader, _, labels = batches(steps)
    net = start(architecture).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2, momentum=0.9, nesterov=True)
    front = Front(reader.preprocessing, engine=engine_of(net, "float32"))
    seconds, losses = [], []
    for rows in order(labels, steps):
        images = reader.read(rows.tolist())
        inputs = front_of(front, images).contiguous()
        began = time.perf_counter()
        loss = nn.functional.cross_entropy(net(inputs), torch.tensor(labels)[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - began)
    return seconds, losses


def ours(architecture: str, steps: int) -> tuple[list[float], list[float]]:
    reader, _, labels = batches(steps)
    net = start(architecture).train()
    engine = engine_of(net, "auto")
    engine.place(net)
    phase = Phase(epochs=1, optimizer="sgd", lr=1e-2, weight_decay=0.0, clip=None)
    groups = [{"params": list(net.parameters()), "lr": 1e-2, "weight_decay": 0.0, "peak_lr": 1e-2}]
    optimizer = make_optimizer(groups, phase)
    stepper = Stepper(
        net,
        optimizer,
        engine=engine,
        criterion=CrossEntropy(),
        front=Front(reader.preprocessing, engine=engine),
        phase=phase,
        seed=0,
    )
    images = ImageBatches(reader, range(len(labels)), labels, steps=training_steps(len(labels), BATCH, seed=0))
    seconds, losses = [], []
    epoch = 0
    while len(losses) < steps:
        for batch in images.epoch(epoch):
            began = time.perf_counter()
            figures = stepper(batch, step=len(losses))
            losses.append(float(figures[0] / figures[2]))
            seconds.append(time.perf_counter() - began)
            if len(losses) == steps:
                break
        epoch += 1
    return seconds, losses


def start(architecture: str) -> nn.Module:
    torch.manual_seed(0)
    net = models.get_model(architecture)
    net.load_state_dict(load_file(weights(architecture)))
    net.fc = nn.Linear(net.fc.in_features, CLASSES)
    return net


def engine_of(net: nn.Module, precision: str) -> Engine:
    device = choose_device("cpu")
    return Engine(device, choose_numerics(net, device, precision=precision))  # type: ignore[arg-type]


def front_of(front: Front, images: Tensor) -> Tensor:
    from zoo.training.batches import Batch

    found = front(Batch(images, torch.zeros(len(images)), torch.arange(len(images)), len(images)), False)
    assert isinstance(found, Tensor)
    return found


def curves(architectures: list[str], steps: int) -> Path:
    """Both loss curves over the same data in the same order, as one picture."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(architectures), figsize=(6 * len(architectures), 4), squeeze=False)
    for architecture, axes in zip(architectures, panels[0], strict=True):
        for name, label in (("plain", "float32 loop"), ("zoo", "zoo")):
            axes.plot(train(name, architecture, steps)[1], label=label)
        axes.set(xlabel="step", ylabel="training loss", title=f"{architecture}, same images in the same order")
        axes.legend()
    target = HERE / "loss.svg"
    figure.savefig(target, bbox_inches="tight")
    return target


if __name__ == "__main__":
    main()
