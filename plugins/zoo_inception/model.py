"""The networks of the plugin ``inception``: torchvision's behind an input transform, cut into stages."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torchvision import models

from zoo.chain import Stage

# The published weights were ported from TensorFlow, which normalised with 0.5 and 0.5; images arrive with ImageNet's.
_IMAGENET = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))
_IMAGENET_AVERAGE = (sum(mean for mean, _ in _IMAGENET) / 3, sum(std for _, std in _IMAGENET) / 3)
# 0.3 is from Szegedy et al. 2014, section 5. The paper of Inception v3 states none: 0.4 is the value in use on PyTorch,
# https://discuss.pytorch.org/t/how-to-optimize-inception-model-with-auxiliary-classifiers/7958.
_GOOGLENET_AUXILIARY_WEIGHT = 0.3
_INCEPTION_V3_AUXILIARY_WEIGHT = 0.4
_AUXILIARY_PREFIXES = ("aux1.", "aux2.", "AuxLogits.")


class InputTransform(nn.Module):
    """From ImageNet's normalisation to that of mean 0.5 and deviation 0.5, channel by channel.

    A grey or a fourth channel counts as normalised with the average of the three colours' values, which is how zoo
    normalises it.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        colours = {1: (_IMAGENET_AVERAGE,), 3: _IMAGENET, 4: (*_IMAGENET, _IMAGENET_AVERAGE)}[in_channels]
        self.scales_and_shifts = tuple((std / 0.5, (mean - 0.5) / 0.5) for mean, std in colours)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to the same shape."""
        channels = [x[:, i : i + 1] * scale + shift for i, (scale, shift) in enumerate(self.scales_and_shifts)]
        return torch.cat(channels, 1)


class GoogLeNet(models.GoogLeNet):  # type: ignore[misc]  # torchvision has no types
    """GoogLeNet, Szegedy et al. 2014 (https://arxiv.org/abs/1409.4842).

    Args:
        num_classes: Outputs of the last linear layer and of the auxiliary heads.
        in_channels: Channels of the input: 1, 3 or 4.
        aux: With two auxiliary heads.
        dropout: Share of the pooled features dropped before the last layer, 0–1.
    """

    def __init__(self, *, num_classes: int, in_channels: int, aux: bool, dropout: float = 0.2) -> None:
        super().__init__(num_classes, aux_logits=aux, init_weights=False, dropout=dropout)
        self.transform = InputTransform(in_channels)
        if in_channels != 3:
            self.conv1.conv = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        _initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, in_channels, H, W)`` to logits ``(N, num_classes)``, in training with the auxiliary ones."""
        return cast(Tensor, super().forward(self.transform(x)))


class InceptionV3(models.Inception3):  # type: ignore[misc]  # torchvision has no types
    """Inception v3, Szegedy et al. 2015 (https://arxiv.org/abs/1512.00567).

    Args:
        num_classes: Outputs of the last linear layer and of the auxiliary head.
        in_channels: Channels of the input: 1, 3 or 4.
        aux: With its auxiliary head, which trains on images of at least 299 pixels.
        dropout: Share of the pooled features dropped before the last layer, 0–1.
    """

    def __init__(self, *, num_classes: int, in_channels: int, aux: bool, dropout: float = 0.5) -> None:
        super().__init__(num_classes, aux_logits=aux, init_weights=False, dropout=dropout)
        self.transform = InputTransform(in_channels)
        if in_channels != 3:
            self.Conv2d_1a_3x3.conv = nn.Conv2d(in_channels, 32, kernel_size=3, stride=2, bias=False)
        _initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, in_channels, H, W)`` to logits ``(N, num_classes)``, in training with the auxiliary ones."""
        return cast(Tensor, super().forward(self.transform(x)))


def stages(model: nn.Module) -> list[Stage]:
    """Cut either network into stages, its auxiliary heads on those that feed them."""
    return _googlenet_stages(model) if isinstance(model, GoogLeNet) else _inception_v3_stages(cast(InceptionV3, model))


def without_absent_auxiliaries(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the tensors of auxiliary heads that the model does not have."""
    known = model.state_dict().keys()
    return {name: tensor for name, tensor in state.items() if name in known or not name.startswith(_AUXILIARY_PREFIXES)}


def _initialise_convolutions(model: nn.Module) -> None:
    # He et al. 2015 (arXiv:1502.01852). torchvision's values for these two, of one spread whatever the layer's size,
    # make features vanish or explode until the BatchNorm statistics have followed.
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


def _googlenet_stages(net: GoogLeNet) -> list[Stage]:
    weight = _GOOGLENET_AUXILIARY_WEIGHT
    stem = nn.Sequential(net.conv1, net.maxpool1, net.conv2, net.conv3, net.maxpool2)
    middle = nn.Sequential(net.inception4b, net.inception4c, net.inception4d)
    last = nn.Sequential(net.inception5a, net.inception5b, net.avgpool, nn.Flatten(1))
    return [
        Stage("transform", net.transform),
        Stage("stem", stem),
        Stage("inception3", nn.Sequential(net.inception3a, net.inception3b, net.maxpool3)),
        Stage("inception4a", net.inception4a, net.aux1, weight if net.aux1 is not None else 0.0),
        Stage("inception4d", middle, net.aux2, weight if net.aux2 is not None else 0.0),
        Stage("inception4e", nn.Sequential(net.inception4e, net.maxpool4)),
        Stage("inception5", last),
        Stage("head", nn.Sequential(net.dropout, net.fc)),
    ]


def _inception_v3_stages(net: InceptionV3) -> list[Stage]:
    stem = nn.Sequential(
        net.Conv2d_1a_3x3,
        net.Conv2d_2a_3x3,
        net.Conv2d_2b_3x3,
        net.maxpool1,
        net.Conv2d_3b_1x1,
        net.Conv2d_4a_3x3,
        net.maxpool2,
    )
    mixed6 = nn.Sequential(net.Mixed_6a, net.Mixed_6b, net.Mixed_6c, net.Mixed_6d, net.Mixed_6e)
    weight = _INCEPTION_V3_AUXILIARY_WEIGHT if net.AuxLogits is not None else 0.0
    # torchvision drops before flattening, on maps of one pixel: the same values, but not a vector at the head.
    last = nn.Sequential(net.Mixed_7a, net.Mixed_7b, net.Mixed_7c, net.avgpool, nn.Flatten(1))
    return [
        Stage("transform", net.transform),
        Stage("stem", stem),
        Stage("mixed5", nn.Sequential(net.Mixed_5b, net.Mixed_5c, net.Mixed_5d)),
        Stage("mixed6", mixed6, net.AuxLogits, weight),
        Stage("mixed7", last),
        Stage("head", nn.Sequential(net.dropout, net.fc)),
    ]
