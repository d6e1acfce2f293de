"""The networks of the plugin ``vgg``: torchvision's, for any number of channels, cut into stages."""

from typing import cast

from torch import nn
from torchvision import models

from zoo.chain import Stage


def vgg(name: str, *, num_classes: int, in_channels: int, dropout: float = 0.5) -> nn.Module:
    """Build a VGG network with random values.

    Args:
        name: Its name in torchvision, for example ``"vgg16_bn"``.
        num_classes: Outputs of the last linear layer.
        in_channels: Channels of the input.
        dropout: Share of the hidden layers' outputs dropped, 0–1.

    Returns:
        ``torchvision.models.VGG``; input ``(N, in_channels, H, W)``, logits ``(N, num_classes)``.
    """
    net: models.VGG = models.get_model(name, weights=None, num_classes=num_classes, dropout=dropout)
    if in_channels != 3:
        net.features[0] = nn.Conv2d(in_channels, 64, kernel_size=3, padding=1)
        nn.init.kaiming_normal_(net.features[0].weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(net.features[0].bias)
    return cast(nn.Module, net)


def stages(model: nn.Module) -> list[Stage]:
    """Cut a ``torchvision.models.VGG`` after each pooling and each hidden layer."""
    net = cast(models.VGG, model)
    blocks: list[list[nn.Module]] = [[]]
    for layer in net.features:
        blocks[-1].append(layer)
        if isinstance(layer, nn.MaxPool2d):
            blocks.append([])
    blocks[-2] += [net.avgpool, nn.Flatten(1)]
    hidden1, relu1, dropout1, hidden2, relu2, dropout2, last = net.classifier
    return [
        *(Stage(f"block{i}", nn.Sequential(*layers)) for i, layers in enumerate(blocks[:-1], start=1)),
        Stage("hidden1", nn.Sequential(hidden1, relu1)),
        Stage("hidden2", nn.Sequential(dropout1, hidden2, relu2)),
        Stage("head", nn.Sequential(dropout2, last)),
    ]
