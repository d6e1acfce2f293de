"""The built-in plugin ``efficientnet``: torchvision's EfficientNets with all their published weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from zoo.architecture import Architecture, Option, OptionValue
from zoo.hookspecs import hookimpl
from zoo_efficientnet.facts import DEFAULTS, WEIGHTS

if TYPE_CHECKING:
    from torch import nn

    from zoo.chain import Stage

ZOO_HOOK_API = 1

# Dropout before the last layer: Tan and Le 2019, section 5.2, and Tan and Le 2021, table 6, as torchvision builds them.
_DROPOUT = {
    "efficientnet_b0": 0.2,
    "efficientnet_b1": 0.2,
    "efficientnet_b2": 0.3,
    "efficientnet_b3": 0.3,
    "efficientnet_b4": 0.4,
    "efficientnet_b5": 0.4,
    "efficientnet_b6": 0.5,
    "efficientnet_b7": 0.5,
    "efficientnet_v2_s": 0.2,
    "efficientnet_v2_m": 0.3,
    "efficientnet_v2_l": 0.4,
}


@hookimpl
def zoo_architectures() -> Sequence[Architecture]:
    """Sizes b0 to b7 of the first version, s, m and l of the second."""
    return [_architecture(name) for name in WEIGHTS]


@hookimpl
def zoo_build_model(
    architecture: Architecture, num_classes: int, in_channels: int, options: Mapping[str, OptionValue]
) -> nn.Module:
    """Build torchvision's network with random values."""
    from zoo_efficientnet.model import efficientnet

    return efficientnet(
        architecture.name,
        num_classes=num_classes,
        in_channels=in_channels,
        dropout=cast(float, options["dropout"]),
        stochastic_depth=cast(float, options["stochastic_depth"]),
    )


@hookimpl
def zoo_stages(model: nn.Module) -> Sequence[Stage]:
    """The stem, each group of blocks, the last convolution with the pooling, the linear layer as the head."""
    from zoo_efficientnet.model import stages

    return stages(model)


def _architecture(name: str) -> Architecture:
    default = next(weights for weights in WEIGHTS[name] if weights.tag == DEFAULTS[name])
    assert default.preprocessing is not None
    return Architecture(
        name=name,
        family="efficientnet",
        preprocessing=default.preprocessing,
        options=(
            Option(
                name="dropout",
                default=_DROPOUT[name],
                minimum=0.0,
                maximum=0.9,
                help="share of the pooled features dropped before the last layer",
            ),
            Option(
                name="stochastic_depth",
                default=0.2,
                minimum=0.0,
                maximum=0.9,
                help="chance of skipping the last block in training, falling to zero at the first",
            ),
        ),
        weights=WEIGHTS[name],
        default_weights=default.tag,
        source="https://arxiv.org/abs/2104.00298" if "_v2_" in name else "https://arxiv.org/abs/1905.11946",
    )
