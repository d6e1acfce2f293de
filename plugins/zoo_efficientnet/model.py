"""The networks of the plugin ``efficientnet``: torchvision's, for any number of channels, cut into stages."""

from typing import cast

from torch import nn
from torchvision import models

from zoo.chain import Stage


def efficientnet(
    name: str, *, num_classes: int, in_channels: int, dropout: float = 0.2, stochastic_depth: float = 0.2
) -> nn.Module:
    """Build an EfficientNet with random values.

    Args:
        name: Its name in torchvision, for example ``"efficientnet_b0"``.
        num_classes: Outputs of the last linear layer.
        in_channels: Channels of the input.
        dropout: Share of the pooled features dropped before the last layer, 0–1.
        stochastic_depth: Chance of skipping the last block in training, falling to 0 at the first.

    Returns:
        ``torchvision.models.EfficientNet``; input ``(N, in_channels, H, W)``, logits ``(N, num_classes)``.
    """
    net: models.EfficientNet = models.get_model(
        name, weights=None, num_classes=num_classes, dropout=dropout, stochastic_depth_prob=stochastic_depth
    )
    # torchvision drops in place, which would overwrite features that are kept for later epochs.
    net.classifier[0].inplace = False
    if in_channels != 3:
        stem = net.features[0]
        stem[0] = nn.Conv2d(in_channels, stem[0].out_channels, kernel_size=3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(stem[0].weight, mode="fan_out")
    return cast(nn.Module, net)


def stages(model: nn.Module) -> list[Stage]:
    """Cut a ``torchvision.models.EfficientNet`` at its groups of blocks."""
    net = cast(models.EfficientNet, model)
    stem, *groups, last = net.features
    return [
        Stage("stem", stem),
        *(Stage(f"block{i}", group) for i, group in enumerate(groups, start=1)),
        Stage("pool", nn.Sequential(last, net.avgpool, nn.Flatten(1))),
        Stage("head", net.classifier),
    ]
