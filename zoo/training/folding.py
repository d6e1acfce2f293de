"""Folding BatchNorm into the convolution before it: one operation in place of two, for layers that rest."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.nn.utils.parametrize import is_parametrized

from zoo.chain import Features


def fold_batch_norm(module: nn.Module, example: Features) -> int:
    """Fold every BatchNorm that reads a convolution's output, in place.

    Which convolution a BatchNorm reads is seen from one run and not from the order of the layers, so any forward
    method will do. A convolution whose output something else reads too would now give it other values; compare the
    results.

    Args:
        module: In eval mode; made of plain layers or of any others.
        example: A small batch of its inputs.

    Returns:
        How many were folded.
    """
    pairs = [(convolution, norm) for convolution, norm in _pairs(module, example) if _rest_of(norm) is not None]
    for convolution, norm in pairs:
        weight, bias = _folded(convolution, norm)
        convolution.weight = nn.Parameter(weight, requires_grad=False)
        convolution.bias = nn.Parameter(bias, requires_grad=False)
        _replace(module, norm, _rest_of(norm))
    return len(pairs)


def _pairs(module: nn.Module, example: Features) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions and the BatchNorms that read them, each used once in the run."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensor is held so that its id is not used again
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    uses: dict[int, int] = {}

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        uses[id(layer)] = uses.get(id(layer), 0) + 1
        if isinstance(layer, nn.Conv2d):
            made[id(output)] = (layer, output)
        elif isinstance(layer, nn.BatchNorm2d) and id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])][0], layer))

    layers: list[nn.Module] = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    with _hooked(layers, watch), torch.inference_mode():
        module(example)
    return [
        (convolution, norm)
        for convolution, norm in pairs
        if uses[id(convolution)] == uses[id(norm)] == 1
        and norm.running_mean is not None
        and not is_parametrized(convolution)
    ]


@contextmanager
def _hooked(layers: list[nn.Module], hook) -> Iterator[None]:  # type: ignore[no-untyped-def]  # torch's hook type
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the folded convolution, computed in float64."""
    weight, bias, mean, variance, scale, shift = (
        None if tensor is None else tensor.detach().double()
        for tensor in (
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.weight,
            norm.bias,
        )
    )
    folded = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, scale, shift)  # type: ignore[arg-type]
    kind = convolution.weight.dtype
    return folded[0].detach().to(kind), folded[1].detach().to(kind)


def _rest_of(norm: nn.BatchNorm2d) -> nn.Module | None:
    """What a BatchNorm does besides normalising; None where that is not known."""
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    drop, activation = getattr(norm, "drop", None), getattr(norm, "act", None)
    if isinstance(drop, nn.Module) and isinstance(activation, nn.Module):  # timm's BatchNormAct2d
        return nn.Sequential(drop, activation)
    return None


def _replace(module: nn.Module, old: nn.Module, new: nn.Module | None) -> None:
    for parent in module.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)
