"""Frozen fine-tuning from process start to artifact, against the loops that people use.

    python benchmarks/frozen.py [--quick] [--architectures resnet50,resnet18] [--peers torchvision,timm,hf,expert]

Peers run their start and two epochs on a part of the images, three times over, and are extrapolated to ten epochs of
all of them; ``--whole`` runs the torchvision loop once in full as the check. With ``--views`` images change at random:
in the loops anew in each epoch, in zoo so many times. ``fastai`` and ``keras`` are made into environments of their own
when named.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import HERE, WORK, environment, interleaved, median, photos, run, table, weights, write_section
from results import machine

# As the command imports them and ends.
IMPORTS = """import gc
gc.set_threshold(700, 10, 1000)
import torch, torchvision, zoo.jobs.finetuning
print("{}")
gc.freeze()"""
PEERS: dict[str, tuple[list[str], list[str]]] = {
    "torchvision": (["peers/loop.py"], []),
    "timm": (["peers/loop.py", "--library", "timm"], []),
    "hf": (["peers/hf_trainer.py"], ["transformers", "accelerate"]),
    "fastai": (["peers/fastai_learner.py"], ["fastai"]),
    "keras": (["peers/keras_model.py"], ["keras", "tensorflow-cpu"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few images, one repeat: under five minutes")
    parser.add_argument("--architectures", default="resnet50,resnet18")
    parser.add_argument("--peers", default="torchvision,timm,hf,expert")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--part", type=int, default=128, help="images that the slow peers run on")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--views", type=int, default=0, help="random versions that zoo stores of each training image")
    parser.add_argument("--whole", action="store_true", help="run the torchvision loop once in full too")
    options = parser.parse_args()
    if options.quick:
        options.images, options.repeats, options.architectures, options.peers = 96, 1, "resnet18", "torchvision,expert"
    sections = [
        f"`python benchmarks/frozen.py {' '.join(sys.argv[1:])}`\n\n{machine()}. {options.images} JPEGs of 500×375, "
        f"{options.epochs} epochs, medians of {options.repeats} interleaved repeats, seconds from process start. zoo "
        "splits off validation and test and measures both; the others train on every image and measure nothing."
    ]
    for architecture in options.architectures.split(","):
        sections.append(compare(architecture, options))
    if options.views and not {"torchvision", "timm"}.issuperset(options.peers.split(",")):
        parser.error("--views is for --peers torchvision,timm: the others' scripts change no images")
    title = f"Frozen fine-tuning, {options.architectures}, against {options.peers}"
    title += f", {options.views} stored views" * bool(options.views)
    write_section(title + " (quick)" * options.quick, "\n\n".join(sections))


def compare(architecture: str, options: argparse.Namespace) -> str:
    data, file = photos(options.images), weights(architecture)
    names = [
        name for name in options.peers.split(",") if name in PEERS and (name, architecture) != ("keras", "resnet18")
    ]
    part = min(options.images, options.part)
    first = iter([True])
    runs: dict[str, Any] = {
        "zoo": lambda: ours(
            architecture, data, file, options.epochs, views=options.views, measure_one=next(first, False)
        )
    }
    for name in names:
        script, packages = PEERS[name]
        python = environment(name, packages)
        words = [python, HERE / script[0], *script[1:], "--architecture", architecture, "--data", data]
        words += ["--weights", file, "--epochs", 2, "--images", part, *["--augment"] * bool(options.views)]
        runs[name] = lambda words=words: run(words)
    if "expert" in options.peers.split(","):
        words = [sys.executable, HERE / "peers/expert.py", "--architecture", architecture, "--data", data]
        words += ["--weights", file, "--epochs", options.epochs]
        runs["expert"] = lambda words=words: run(words)
    found = interleaved(runs, options.repeats)

    total, single = median(found["zoo"], "wall_s"), found["zoo"][0]["one_epoch_s"]
    rows = [["zoo, first run", f"{total:.1f}", "1", f"{single:.1f}", "measured"]]
    slow = 0.0
    for name in names:
        per_epoch = statistics.median(result["epochs_s"][-1] for result in found[name]) * options.images / part
        first = statistics.median(result["epochs_s"][0] for result in found[name]) * options.images / part
        setup = median(found[name], "setup_s")
        whole = setup + first + (options.epochs - 1) * per_epoch
        # zoo's one epoch was run in the first repeat, so it is compared with that one's.
        one = found[name][0]["setup_s"] + found[name][0]["epochs_s"][0] * options.images / part
        slow = whole if name == "torchvision" else slow
        figures = [f"{whole:.0f}", f"{whole / total:.1f}×", f"{one:.0f} ({one / single:.1f}×)"]
        rows.append([name, *figures, f"extrapolated from {part} images"])
    if "expert" in found:
        whole = median(found["expert"], "wall_s")
        rows.append(["expert script, 40 lines", f"{whole:.1f}", f"{whole / total:.2f}×", "", "measured"])
    if options.whole:
        words = [sys.executable, HERE / "peers/loop.py", "--architecture", architecture, "--data", data]
        result = run([*words, "--weights", file, "--epochs", options.epochs])
        rows.append(
            ["torchvision, whole", f"{result['wall_s']:.0f}", f"{result['wall_s'] / total:.1f}×", "", "measured"]
        )
    again, inside = median(found["zoo"], "second_s"), median(found["zoo"], "second_in_process_s")
    imports = median(found["zoo"], "import_s")
    against = f" Against the torchvision loop: {slow / again:.0f}× and {slow / inside:.0f}×." if slow else ""
    elsewhere = max(result["elsewhere"] for results in found.values() for result in results)
    busy = f"Other processes took up to {elsewhere:.0%} of the machine during a measured run."
    return (
        f"### {architecture}\n\n"
        + table(["", f"{options.epochs} epochs, s", "zoo is faster by", "1 epoch (first repeat), s", ""], rows)
        + f"\n\nA second run with another learning rate: {again:.1f} s from process start, of which imports are "
        f"{imports:.1f} s; {inside:.2f} s within one process.{against} {busy} "
        + same_results(architecture, data, found["zoo"][-1])
    )


def ours(architecture: str, data: Path, file: Path, epochs: int, *, views: int, measure_one: bool) -> dict[str, Any]:
    """A first run with an empty cache, a second one with another learning rate, and one within a warm process."""
    folder = Path(tempfile.mkdtemp(dir=WORK))
    cache = {"ZOO_CACHE": str(folder / "cache")}
    words = [Path(sys.executable).with_name("zoo"), "finetune", data, "--model", architecture, "--weights", file]
    words += ["--recipe", "frozen", "--batch-size", "32", "--quiet", "--json"]
    several = ["--augment", "standard", "--views", views] if views else []
    words, single = [*words, *several], [*words, *several[:-1], *[1] * bool(views), "--epochs", 1]
    first = run([*words, "--epochs", epochs, "--lr", "1e-3", "--output", folder / "first"], **cache)
    second = run([*words, "--epochs", epochs, "--lr", "3e-3", "--output", folder / "second"], **cache)
    one = {"wall_s": 0.0}
    if measure_one:
        one = run([*single, "--output", folder / "one"], ZOO_CACHE=str(folder / "another-cache"))
    twice = [sys.executable, HERE / "peers/zoo_twice.py", architecture, data, file, epochs, views, folder / "inside"]
    inside = run(twice, **cache)
    imports = run([sys.executable, "-c", IMPORTS])
    kept = WORK / f"{architecture}-artifact.safetensors"
    shutil.copy(folder / "first" / "model.safetensors", kept)
    shutil.rmtree(folder)
    return {
        "wall_s": first["wall_s"],
        "elsewhere": max(result["elsewhere"] for result in (first, second, inside)),
        "one_epoch_s": one["wall_s"],
        "second_s": second["wall_s"],
        "second_in_process_s": inside["second_s"],
        "import_s": imports["wall_s"],
        "artifact": str(kept),
    }


def same_results(architecture: str, data: Path, result: dict[str, Any]) -> str:
    """Our artifact's logits against torchvision's network with the same tensors, on both ways to prepare images."""
    import torch
    from PIL import Image
    from safetensors.torch import load_file
    from torchvision import models, transforms

    import zoo
    from zoo.data import ImageReader, normalise

    model = zoo.load(result["artifact"])
    net = models.get_model(architecture, num_classes=len(model.classes)).eval()
    net.load_state_dict(load_file(result["artifact"]))
    paths = sorted(data.rglob("*.jpg"))[:16]
    steps = [transforms.Resize(model.preprocessing.resize), transforms.CenterCrop(224), transforms.ToTensor()]
    prepare = transforms.Compose([*steps, transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    theirs = torch.stack([prepare(Image.open(path).convert("RGB")) for path in paths])
    pixels = normalise(ImageReader(paths, model.preprocessing).read(range(len(paths))), model.preprocessing)
    with torch.inference_mode():
        ours, same_pixels, other_pixels = model.module(pixels), net(pixels), net(theirs)
    exact = float((ours - same_pixels).norm() / same_pixels.norm())
    near = float((ours - other_pixels).norm() / other_pixels.norm())
    assert exact < 1e-4, f"the logits differ by {exact}"
    assert near < 0.2, f"the logits differ by {near}"
    return (
        f"Logits of the trained model in float32 differ from torchvision's network with the same tensors by "
        f"{exact:.0e} on the same pixels and by {near:.1%} on those that its own transforms make (relative norms)."
    )


if __name__ == "__main__":
    print(json.dumps({"results": str(main() or "benchmarks/RESULTS.md")}))
