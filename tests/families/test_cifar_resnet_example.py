"""The example package of ``examples/zoo-cifar-resnet`` on real images with real weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pluggy
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

EXAMPLE = Path(__file__).parents[2] / "examples" / "zoo-cifar-resnet"


def test_published_weights_get_776_of_846_right(
    hooks_of: Callable[[str], pluggy.HookRelay],
    shared_data: Path,
    shared_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(EXAMPLE)
    hooks = hooks_of("zoo_cifar_resnet")
    architecture = hooks.zoo_architectures()[0]
    model = hooks.zoo_build_model(architecture=architecture, num_classes=10, in_channels=3, options={}).eval()
    model.load_state_dict(load_file(shared_weights / "cifar_resnet20.safetensors"))
    preprocessing = architecture.preprocessing
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    right = total = 0
    for target, folder in enumerate(sorted((shared_data / "cifar10-test-846").iterdir())):
        pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255)
        with torch.no_grad():
            right += int((model((images - mean) / std).argmax(1) == target).sum())
        total += len(images)
    assert (right, total) == (776, 846)
