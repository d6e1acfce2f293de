"""The built-in plugin ``simple_cnn``: a small convolutional network to train from scratch.

The shape is the textbook one (LeCun et al. 1998, "Gradient-based learning applied to document recognition"): blocks of
convolution, activation and pooling, then a hidden layer and the classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.architecture import Architecture, Option, OptionValue, Preprocessing
from zoo.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import nn

    from zoo.chain import Stage

ZOO_HOOK_API = 1

_IMAGE_SIZE = 64
_ACTIVATIONS = ("relu", "leaky_relu")


@hookimpl
def zoo_architectures() -> Sequence[Architecture]:
    """One architecture, with a knob for everything."""
    return [
        Architecture(
            name="simple_cnn",
            family="simple_cnn",
            preprocessing=Preprocessing(input_size=(3, _IMAGE_SIZE, _IMAGE_SIZE)),
            options=(
                Option(
                    name="image_size",
                    default=_IMAGE_SIZE,
                    minimum=8,
                    maximum=512,
                    help="height and width of the input in pixels; the classifier is sized for it",
                ),
                Option(
                    name="widths",
                    default=(16, 32, 64),
                    minimum=1,
                    maximum=1024,
                    help="channels of each block, in order",
                ),
                Option(
                    name="activation",
                    default="relu",
                    choices=_ACTIVATIONS,
                    help="after every convolution and the hidden layer",
                ),
                Option(
                    name="negative_slope", default=0.01, minimum=0.0, maximum=1.0, help="slope of leaky_relu below zero"
                ),
                Option(name="batch_norm", default=False, help="batch normalisation after every convolution"),
                Option(
                    name="block_dropout",
                    default=0.0,
                    minimum=0.0,
                    maximum=0.9,
                    help="share of the channels dropped after each block",
                ),
                Option(
                    name="classifier_dropout",
                    default=0.0,
                    minimum=0.0,
                    maximum=0.9,
                    help="share of the hidden layer's outputs dropped",
                ),
                Option(name="hidden", default=128, minimum=1, maximum=8192, help="size of the hidden layer"),
            ),
            smallest_input=8,
            smallest_training_input=8,
            source="http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf",
            note="An image size below 2 to the power of the number of blocks leaves nothing to classify.",
        )
    ]


@hookimpl
def zoo_build_model(num_classes: int, in_channels: int, options: Mapping[str, OptionValue]) -> nn.Module:
    """Build the network with random values."""
    from zoo_simple_cnn.model import simple_cnn

    return simple_cnn(num_classes=num_classes, in_channels=in_channels, options=options)


@hookimpl
def zoo_stages(model: nn.Module) -> Sequence[Stage]:
    """Each block, the flattening, and the whole classifier as the head."""
    from zoo_simple_cnn.model import stages

    return stages(model)
