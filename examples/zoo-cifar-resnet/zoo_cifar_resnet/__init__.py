"""Residual networks for 32×32 images, as a plugin of zoo.

The family of He et al. 2015 (https://arxiv.org/abs/1512.03385), section 4.2 and table 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.architecture import Architecture, Preprocessing
from zoo.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import nn

    from zoo.chain import Stage

ZOO_HOOK_API = 1

_BLOCKS_PER_GROUP = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18}


@hookimpl
def zoo_architectures() -> Sequence[Architecture]:
    """The five depths of the paper's table 6."""
    return [
        Architecture(
            name=name,
            family="cifar_resnet",
            preprocessing=Preprocessing(input_size=(3, 32, 32)),
            source="https://arxiv.org/abs/1512.03385",
        )
        for name in _BLOCKS_PER_GROUP
    ]


@hookimpl
def zoo_build_model(architecture: Architecture, num_classes: int, in_channels: int) -> nn.Module:
    """Build the network with random values."""
    from zoo_cifar_resnet.model import CifarResNet

    return CifarResNet(_BLOCKS_PER_GROUP[architecture.name], num_classes=num_classes, in_channels=in_channels)


@hookimpl
def zoo_stages(model: nn.Module) -> Sequence[Stage]:
    """The stem, the three groups of blocks, the last of them with the pooling, and the linear layer as the head."""
    from zoo_cifar_resnet.model import stages

    return stages(model)
