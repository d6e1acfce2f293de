"""The built-in plugin ``vgg``: torchvision's VGG networks with all their published weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from zoo.architecture import Architecture, Option, OptionValue
from zoo.hookspecs import hookimpl
from zoo_vgg.facts import DEFAULTS, WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.chain import Stage

ZOO_HOOK_API = 1

# Five poolings halve 32 pixels to one.
_SMALLEST = 32


@hookimpl
def zoo_architectures() -> Sequence[Architecture]:
    """11 to 19 layers, with and without batch normalisation."""
    return [_architecture(name) for name in WEIGHTS]


@hookimpl
def zoo_build_model(
    architecture: Architecture, num_classes: int, in_channels: int, options: Mapping[str, OptionValue]
) -> nn.Module:
    """Build torchvision's network with random values."""
    from zoo_vgg.model import vgg

    return vgg(
        architecture.name,
        num_classes=num_classes,
        in_channels=in_channels,
        dropout=cast(float, options["dropout"]),
    )


@hookimpl
def zoo_stages(model: nn.Module) -> Sequence[Stage]:
    """Five blocks of convolutions, the last with the pooling, the two hidden layers, the last linear layer."""
    from zoo_vgg.model import stages

    return stages(model)


@hookimpl
def zoo_import_state(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The published names, without the NaNs that stand for the missing classifier of ``imagenet1k_features``."""
    return {name: tensor for name, tensor in state.items() if not (name.startswith("classifier.") and _is_nan(tensor))}


def _is_nan(tensor: Tensor) -> bool:
    # The first value says enough about almost every tensor, and looking at all of them takes longer than loading them.
    return bool(tensor.flatten()[:1].isnan().all()) and bool(tensor.isnan().all())


def _architecture(name: str) -> Architecture:
    default = next(weights for weights in WEIGHTS[name] if weights.tag == DEFAULTS[name])
    assert default.preprocessing is not None
    return Architecture(
        name=name,
        family="vgg",
        preprocessing=default.preprocessing,
        options=(
            Option(
                name="dropout",
                default=0.5,
                minimum=0.0,
                maximum=0.9,
                help="share of the hidden layers' outputs dropped",
            ),
        ),
        weights=WEIGHTS[name],
        default_weights=default.tag,
        smallest_input=_SMALLEST,
        smallest_training_input=_SMALLEST,
        scratch_recipe="" if name.endswith("_bn") else "full-gentle",
        source="https://arxiv.org/abs/1409.1556",
    )
