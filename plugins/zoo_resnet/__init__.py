"""The built-in plugin ``resnet``: torchvision's residual networks with all their published weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.architecture import Architecture
from zoo.hookspecs import hookimpl
from zoo_resnet.facts import DEFAULTS, WEIGHTS

if TYPE_CHECKING:
    from torch import nn

    from zoo.chain import Stage

ZOO_HOOK_API = 1

_PAPERS = {
    "resnet": "https://arxiv.org/abs/1512.03385",
    "resnext": "https://arxiv.org/abs/1611.05431",
    "wide_resnet": "https://arxiv.org/abs/1605.07146",
}


@hookimpl
def zoo_architectures() -> Sequence[Architecture]:
    """The plain, the wide and the grouped residual networks."""
    return [_architecture(name) for name in WEIGHTS]


@hookimpl
def zoo_build_model(architecture: Architecture, num_classes: int, in_channels: int) -> nn.Module:
    """Build torchvision's network with random values."""
    from zoo_resnet.model import resnet

    return resnet(architecture.name, num_classes=num_classes, in_channels=in_channels)


@hookimpl
def zoo_stages(model: nn.Module) -> Sequence[Stage]:
    """The stem, the four groups of blocks, the last of them with the pooling, and the linear layer as the head."""
    from zoo_resnet.model import stages

    return stages(model)


def _architecture(name: str) -> Architecture:
    kind = next(kind for kind in _PAPERS if name.startswith(kind))
    default = next(weights for weights in WEIGHTS[name] if weights.tag == DEFAULTS[name])
    assert default.preprocessing is not None
    return Architecture(
        name=name,
        family="resnet",
        preprocessing=default.preprocessing,
        weights=WEIGHTS[name],
        default_weights=default.tag,
        source=_PAPERS[kind],
    )
