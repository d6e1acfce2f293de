"""Models with several classifiers: how to end their features in one vector an image.

timm pools within ``forward_head``, before it runs the classifiers. Here the features are reduced to what the
classifiers see; the head then puts that back where ``forward_head`` looks for it, in maps and sequences of length one,
whose mean is the same value.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from zoo.chain import Features


class _Function(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Any], Features]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Features) -> Features:
        return self.function(x)


class _Split(nn.Module):
    """A vector into the vectors of several streams, each with a further axis of length one."""

    def __init__(self, sizes: tuple[int, ...], axis: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.axis = axis

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.unsqueeze(self.axis) for part in torch.split(x, list(self.sizes), dim=1))


def several_classifiers(model: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """What reduces the features of a model to a vector, and what brings it into the form that ``forward_head`` takes.

    Returns:
        None for a model of which neither is known.
    """
    kind = type(model).__name__
    net = cast(Any, model)
    if kind == "VisionTransformerDistilled":
        return _Function(_first_two_tokens), nn.Unflatten(1, (2, -1))
    if kind == "CrossVit" and net.global_pool == "token":
        return _Function(_class_tokens), _Split(tuple(net.embed_dim), axis=1)
    if kind in ("EfficientViM", "EfficientViMDistilled"):
        return _Function(_means), _Split(tuple(head.in_features for head in net.heads), axis=-1)
    if getattr(net, "global_pool", "") != "avg":
        return None
    if kind == "EfficientFormer" or (kind == "LevitDistilled" and not net.use_conv):
        return _Function(_mean_of_tokens), nn.Unflatten(1, (1, -1))
    if kind in ("EfficientFormerV2", "IFormer", "LevitDistilled"):
        return _Function(_mean_of_map), nn.Unflatten(1, (-1, 1, 1))
    return None


def _first_two_tokens(x: Tensor) -> Tensor:
    return x[:, :2].flatten(1)


def _class_tokens(streams: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([tokens[:, 0] for tokens in streams], dim=1)


def _means(streams: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([tokens.mean(-1) for tokens in streams], dim=1)


def _mean_of_tokens(x: Tensor) -> Tensor:
    return x.mean(dim=1)


def _mean_of_map(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3))
