"""What every benchmark needs: photos, weights, processes that are timed, and the page the figures go to."""

import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from results import RESULTS

HERE = Path(__file__).resolve().parent
WORK = HERE / ".work"
CLASSES = 10


def photos(count: int, *, size: tuple[int, int] = (500, 375), folder: Path = WORK) -> Path:
    """A folder of seeded, photo-like JPEGs with one folder a class, made at its first use: 500×375 are about 45 KiB.

    Smooth colour fields with shapes of the class on them and the noise of a sensor, so that files compress and decode
    as photos do.
    """
    target = folder / f"photos-{count}-{size[0]}x{size[1]}"
    if (target / "done").is_file():
        return target / "images"
    import numpy as np
    from PIL import Image, ImageDraw, ImageFilter

    for i in range(count):
        label = i % CLASSES
        generator = np.random.default_rng(i)
        small = generator.uniform(0, 255, (6, 8, 3)).astype(np.uint8)
        image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(image)
        for _ in range(6 + 3 * label):
            x, y = (int(generator.integers(0, edge)) for edge in size)
            r = int(generator.integers(min(size) // 40, min(size) // 6))
            colour = tuple(int(v) for v in generator.integers(0, 256, 3))
            (draw.ellipse if label % 2 else draw.rectangle)((x - r, y - r, x + r, y + r), fill=colour)
        image = image.filter(ImageFilter.GaussianBlur(min(size) / 400))
        noisy = np.asarray(image).astype(np.float32) + generator.normal(0, 5.5, (size[1], size[0], 3))
        path = target / "images" / f"class{label}" / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    (target / "done").touch()
    return target / "images"


def weights(architecture: str, folder: Path = WORK) -> Path:
    """Random values of a torchvision network in one safetensors file, the same for every peer."""
    target = folder / f"{architecture}.safetensors"
    if not target.is_file():
        import torch
        from safetensors.torch import save_file
        from torchvision import models

        torch.manual_seed(0)
        net = models.get_model(architecture).train()
        with torch.no_grad():
            for _ in range(4):  # statistics that keep activations in range
                net(torch.randn(16, 3, 128, 128))
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, target)
    return target


def run(command: Sequence[object], *, timeout_s: float = 7200, **environment: str) -> dict[str, Any]:
    """Run a process whose output, or its last line, is one JSON document.

    Returns:
        The document with ``wall_s``, from its start to its end, and ``elsewhere``, the share of the machine that other
        processes took meanwhile.
    """
    variables = {**os.environ, **environment}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # as on anyone's machine
    started, busy, own = time.perf_counter(), _busy_s(), _children_s()
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=variables,
        cwd=HERE.parent,
    )
    wall = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    text = done.stdout.strip()
    try:
        result = json.loads(text)
    except ValueError:  # a library printed lines of its own before
        result = json.loads(text.splitlines()[-1])
    elsewhere = (_busy_s() - busy - (_children_s() - own)) / wall / (os.cpu_count() or 1)
    return {**result, "wall_s": wall, "elsewhere": max(0.0, elsewhere)}


def _busy_s() -> float:
    """Processor seconds that all processes have used, where Linux counts them."""
    if not (stat := Path("/proc/stat")).is_file():
        return 0.0
    user, nice, system, _, _, interrupt, soft = map(int, stat.read_text().split("\n")[0].split()[1:8])
    return (user + nice + system + interrupt + soft) / os.sysconf("SC_CLK_TCK")


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def interleaved(
    runs: dict[str, Callable[[], dict[str, Any]]], repeats: int, *, report: Callable[[str], None] = print
) -> dict[str, list[dict[str, Any]]]:
    """Each run in turn, ``repeats`` times over, so that a slow spell of the machine meets all of them."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
    for repeat in range(repeats):
        for name, once in runs.items():
            result = once()
            found[name].append(result)
            report(f"{name} ({repeat + 1}/{repeats}): {json.dumps(result)[:300]}")
    return found


def median(results: Sequence[dict[str, Any]], key: str) -> float:
    """The median of one figure."""
    return statistics.median(result[key] for result in results)


def environment(peer: str, packages: Sequence[str]) -> Path:
    """The interpreter of an environment with a peer's packages over those of this one, made at its first use."""
    if not packages:
        return Path(sys.executable)
    folder = WORK / "environments" / peer
    python = folder / "bin" / "python"
    if not (folder / "done").is_file():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        site = next((folder / "lib").glob("python*/site-packages"))
        # torch and what else is here is found through this, so that all peers run on the same builds.
        here = next(path for path in sys.path if path.endswith("site-packages"))
        (site / "zoo-benchmarks.pth").write_text(here + "\n")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "done").touch()
    return python


def with_cifar_resnet(folder: Path) -> tuple[Path, dict[str, str]]:
    """A registry.toml in ``folder`` that names the plugin of examples/zoo-cifar-resnet, and the environment for it."""
    registry = folder / "registry.toml"
    registry.write_text('schema = 1\n[plugins.cifar_resnet]\nmodule = "zoo_cifar_resnet"\n')
    example = str(HERE.parent / "examples" / "zoo-cifar-resnet")
    return registry, {"PYTHONPATH": os.pathsep.join(filter(None, [example, os.environ.get("PYTHONPATH", "")]))}


def gemm_gflops(precision: str, *, size: int = 3072, repeats: int = 5) -> float:
    """The best rate of this machine's matrix product, a bound of what a network can reach."""
    import torch

    kind = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    a, b = (torch.randn(size, size).to(kind) for _ in range(2))
    a @ b
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e9


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def write_section(title: str, text: str) -> None:
    """Put a section into RESULTS.md, in place of the one with the same title."""
    page = RESULTS.read_text(encoding="utf-8") if RESULTS.is_file() else "# Benchmarks\n"
    head, *sections = page.split("\n## ")
    kept = [section for section in sections if section.partition("\n")[0] != title]
    kept.append(f"{title}\n\n{text.strip()}\n")
    RESULTS.write_text(
        head.rstrip() + "\n" + "".join(f"\n## {section.strip()}\n" for section in kept), encoding="utf-8"
    )


def digest(path: Path) -> str:
    """The first characters of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
