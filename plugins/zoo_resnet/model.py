"""The networks of the plugin ``resnet``: torchvision's, for any number of channels, cut into stages."""

from typing import cast

from torch import nn
from torchvision import models

from zoo.chain import Stage


def resnet(name: str, *, num_classes: int, in_channels: int) -> nn.Module:
    """Build a residual network with random values.

    Args:
        name: Its name in torchvision, for example ``"resnet50"``.
        num_classes: Outputs of the linear layer ``fc``.
        in_channels: Channels of the input.

    Returns:
        ``torchvision.models.ResNet``; input ``(N, in_channels, H, W)``, logits ``(N, num_classes)``.
    """
    net: models.ResNet = models.get_model(name, weights=None, num_classes=num_classes)
    if in_channels != 3:
        net.conv1 = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    return cast(nn.Module, net)


def stages(model: nn.Module) -> list[Stage]:
    """Cut a ``torchvision.models.ResNet`` at its four groups of blocks."""
    net = cast(models.ResNet, model)
    return [
        Stage("stem", nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)),
        Stage("layer1", net.layer1),
        Stage("layer2", net.layer2),
        Stage("layer3", net.layer3),
        Stage("layer4", nn.Sequential(net.layer4, net.avgpool, nn.Flatten(1))),
        Stage("head", net.fc),
    ]
