"""The network: three groups of residual blocks at 16, 32 and 64 channels."""

from typing import cast

from torch import Tensor, nn
from torch.nn.functional import pad, relu

from zoo.chain import Stage


class CifarResNet(nn.Module):
    """ResNet for CIFAR, He et al. 2015 (https://arxiv.org/abs/1512.03385), section 4.2.

    Args:
        blocks_per_group: The paper's n; the network has 6n + 2 layers.
        num_classes: Outputs.
        in_channels: Channels of the input.
    """

    def __init__(self, blocks_per_group: int, *, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _group(16, 16, blocks_per_group, stride=1)
        self.layer2 = _group(16, 32, blocks_per_group, stride=2)
        self.layer3 = _group(32, 64, blocks_per_group, stride=2)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        self.linear = nn.Linear(64, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, in_channels, H, W)`` to logits ``(N, num_classes)``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(self.pool(x))
        return logits


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut without parameters."""

    def __init__(self, in_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity() if stride == 1 and in_channels == channels else ZeroPadding(channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, channels, H / stride, W / stride)``."""
        y = relu(self.bn1(self.conv1(x)))
        return relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ZeroPadding(nn.Module):
    """The paper's shortcut of option A: every ``stride``-th pixel, the new channels zero."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Half of the new channels come before the old ones, half after."""
        before = (self.channels - x.shape[1]) // 2
        after = self.channels - x.shape[1] - before
        return pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, after))


def stages(model: nn.Module) -> list[Stage]:
    """Cut a :class:`CifarResNet` at its groups of blocks."""
    net = cast(CifarResNet, model)
    return [
        Stage("stem", nn.Sequential(net.conv1, net.bn1, net.relu)),
        Stage("layer1", net.layer1),
        Stage("layer2", net.layer2),
        Stage("layer3", nn.Sequential(net.layer3, net.pool)),
        Stage("head", net.linear),
    ]


def _group(in_channels: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = Block(in_channels, channels, stride=stride)
    return nn.Sequential(first, *(Block(channels, channels, stride=1) for _ in range(blocks - 1)))
