"""The built-in plugin ``inception``: torchvision's GoogLeNet and Inception v3 with their published weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from zoo.architecture import Architecture, Option, OptionValue, Weights
from zoo.hookspecs import hookimpl
from zoo_inception.facts import DEFAULTS, WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.chain import Stage

ZOO_HOOK_API = 1

# The auxiliary head of Inception v3 pools and convolves a map of 17×17, which 299 pixels give.
_AUXILIARY_INPUT = 299


@hookimpl
def zoo_architectures() -> Sequence[Architecture]:
    """The first and the third Inception."""
    googlenet, inception_v3 = (_default(name) for name in ("googlenet", "inception_v3"))
    assert googlenet.preprocessing is not None
    assert inception_v3.preprocessing is not None
    return [
        Architecture(
            name="googlenet",
            family="inception",
            preprocessing=googlenet.preprocessing,
            options=(
                Option(name="aux", default=True, help="two auxiliary heads, which learn where their stages train"),
                _dropout(0.2),
            ),
            weights=WEIGHTS["googlenet"],
            default_weights=googlenet.tag,
            smallest_input=15,
            smallest_training_input=15,
            source="https://arxiv.org/abs/1409.4842",
            note="The auxiliary heads of its published weights were never trained.",
        ),
        Architecture(
            name="inception_v3",
            family="inception",
            preprocessing=inception_v3.preprocessing,
            options=(
                Option(name="aux", default=True, help="an auxiliary head, which learns where its stage trains"),
                Option(
                    name="image_size",
                    default=_AUXILIARY_INPUT,
                    minimum=75,
                    maximum=1024,
                    help=f"height and width of the input in pixels; below {_AUXILIARY_INPUT} without auxiliary head",
                ),
                _dropout(0.5),
            ),
            weights=WEIGHTS["inception_v3"],
            default_weights=inception_v3.tag,
            smallest_input=75,
            smallest_training_input=75,
            source="https://arxiv.org/abs/1512.00567",
            note=f"Its auxiliary head needs {_AUXILIARY_INPUT} pixels; for smaller images it is left out.",
        ),
    ]


@hookimpl
def zoo_build_model(
    architecture: Architecture, num_classes: int, in_channels: int, options: Mapping[str, OptionValue]
) -> nn.Module:
    """Build torchvision's network with random values."""
    from zoo_inception.model import GoogLeNet, InceptionV3

    aux, dropout = cast(bool, options["aux"]), cast(float, options["dropout"])
    if architecture.name == "googlenet":
        return GoogLeNet(num_classes=num_classes, in_channels=in_channels, aux=aux, dropout=dropout)
    aux = aux and cast(int, options["image_size"]) >= _AUXILIARY_INPUT
    return InceptionV3(num_classes=num_classes, in_channels=in_channels, aux=aux, dropout=dropout)


@hookimpl
def zoo_stages(model: nn.Module) -> Sequence[Stage]:
    """The input transform, the stem, the Inception blocks with their auxiliary heads, the linear layer as the head."""
    from zoo_inception.model import stages

    return stages(model)


@hookimpl
def zoo_import_state(model: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The published names, without auxiliary heads that the model lacks."""
    from zoo_inception.model import without_absent_auxiliaries

    return without_absent_auxiliaries(model, state)


def _default(name: str) -> Weights:
    return next(weights for weights in WEIGHTS[name] if weights.tag == DEFAULTS[name])


def _dropout(default: float) -> Option:
    return Option(
        name="dropout",
        default=default,
        minimum=0.0,
        maximum=0.9,
        help="share of the pooled features dropped before the last layer",
    )
