"""The network of the plugin ``simple_cnn``."""

from collections.abc import Mapping, Sequence
from typing import Literal, cast

from torch import Tensor, nn

from zoo.architecture import OptionValue
from zoo.chain import Stage
from zoo.errors import OptionError

Activation = Literal["relu", "leaky_relu"]


class SimpleCNN(nn.Module):
    """Blocks of 3×3 convolution, activation and 2×2 max pooling, then flatten, a hidden layer and the classes.

    Args:
        num_classes: Outputs, at least 1.
        in_channels: Channels of the input.
        image_size: Height and width of the input in pixels; the classifier is sized for it.
        widths: Channels of each block.
        activation: ``"relu"`` or ``"leaky_relu"``.
        negative_slope: Slope of ``"leaky_relu"`` below zero.
        batch_norm: Normalise after every convolution, which then has no bias.
        block_dropout: Share of the channels dropped after each block (whole maps: Tompson et al. 2015,
            arXiv:1411.4280).
        classifier_dropout: Share of the hidden layer's outputs dropped.
        hidden: Size of the hidden layer.

    Raises:
        OptionError: The image is too small for so many poolings.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        image_size: int = 64,
        widths: Sequence[int] = (16, 32, 64),
        activation: Activation = "relu",
        negative_slope: float = 0.01,
        batch_norm: bool = False,
        block_dropout: float = 0.0,
        classifier_dropout: float = 0.0,
        hidden: int = 128,
    ) -> None:
        super().__init__()
        edge = image_size >> len(widths)
        if edge < 1:
            raise OptionError(
                f"option image_size={image_size} is too small for {len(widths)} blocks, each of which halves it: "
                f"use {2 ** len(widths)} or more, or fewer widths."
            )
        self.blocks = nn.ModuleList()
        for width in widths:
            self.blocks.append(
                _block(
                    in_channels,
                    width,
                    activation=_activation(activation, negative_slope),
                    batch_norm=batch_norm,
                    dropout=block_dropout,
                )
            )
            in_channels = width
        self.flatten = nn.Flatten(1)
        self.classifier = nn.Sequential(
            nn.Linear(in_channels * edge * edge, hidden),
            _activation(activation, negative_slope),
            nn.Dropout(classifier_dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, in_channels, image_size, image_size)`` to logits ``(N, num_classes)``."""
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.classifier(self.flatten(x))
        return logits


def simple_cnn(*, num_classes: int, in_channels: int, options: Mapping[str, OptionValue]) -> SimpleCNN:
    """Build the network from checked options of the architecture ``simple_cnn``."""
    return SimpleCNN(
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=cast(int, options["image_size"]),
        widths=cast(tuple[int, ...], options["widths"]),
        activation=cast(Activation, options["activation"]),
        negative_slope=cast(float, options["negative_slope"]),
        batch_norm=cast(bool, options["batch_norm"]),
        block_dropout=cast(float, options["block_dropout"]),
        classifier_dropout=cast(float, options["classifier_dropout"]),
        hidden=cast(int, options["hidden"]),
    )


def stages(model: nn.Module) -> list[Stage]:
    """Cut a :class:`SimpleCNN` into its blocks, the flattening and the classifier."""
    model = cast(SimpleCNN, model)
    blocks = [Stage(f"block{i}", block) for i, block in enumerate(model.blocks, start=1)]
    return [*blocks, Stage("flatten", model.flatten), Stage("head", model.classifier)]


def _block(in_channels: int, width: int, *, activation: nn.Module, batch_norm: bool, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1, bias=not batch_norm)]
    if batch_norm:
        layers.append(nn.BatchNorm2d(width))
    layers += [activation, nn.MaxPool2d(2)]
    if dropout > 0:
        layers.append(nn.Dropout2d(dropout))
    return nn.Sequential(*layers)


def _activation(name: Activation, negative_slope: float) -> nn.Module:
    return nn.ReLU() if name == "relu" else nn.LeakyReLU(negative_slope)
