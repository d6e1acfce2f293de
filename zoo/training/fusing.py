"""Joining convolutions with what follows them: activations and sums are computed while a result is still in cache."""

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from zoo.training.engine import Precision

# What oneDNN computes on a convolution's result before it is written: its name there, and its numbers.
_ACTIVATIONS: dict[object, tuple[str, Sequence[float]]] = {
    nn.ReLU: ("relu", ()),
    nn.ReLU6: ("hardtanh", (0.0, 6.0)),
    nn.SiLU: ("swish", ()),
    nn.Hardswish: ("hardswish", ()),
    functional.relu: ("relu", ()),
    torch.relu: ("relu", ()),
}
_SUMS = (operator.add, operator.iadd, torch.add)
_NOTHING_IN_EVAL = (nn.Identity, nn.Dropout, nn.Dropout2d)


def can_fuse(precision: Precision) -> bool:
    """Whether this build of torch and this processor have the operations, which torch's own compiler uses."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not (available and hasattr(torch.ops.mkldnn, "_convolution_pointwise")):
        return False
    return precision == "float32" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class FusedConvolution(nn.Module):
    """A convolution, a sum and an activation as one operation, with weights in the order that the processor reads.

    Args:
        convolution: Padded with zeros by whole numbers; its weight is read when inputs have another shape or precision
            than those before.

    Attributes:
        activation: Its name in oneDNN, and its numbers; None for none.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution
        self.activation: tuple[str, Sequence[float]] | None = None
        self._packed: Tensor | None = None
        self._packed_for: object = None

    def forward(self, x: Tensor, summand: Tensor | None = None) -> Tensor:
        """Convolve, add ``summand`` and apply the activation, in the precision of the weights.

        Args:
            x: ``(N, C, H, W)``.
            summand: What to add, in the shape of the result, which takes its memory; None for nothing.
        """
        layer = self.convolution
        geometry = (layer.padding, layer.stride, layer.dilation, layer.groups)
        x = x.to(layer.weight.dtype)
        if self._packed_for != (x.shape, x.dtype):
            weight = layer.weight.detach()
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *geometry, list(x.shape))
            self._packed_for = (x.shape, x.dtype)
        weights = (self._packed, layer.bias, *geometry)
        name, numbers = self.activation or (None, ())
        result: Tensor
        if summand is None:
            result = torch.ops.mkldnn._convolution_pointwise(x, *weights, name or "none", numbers, None)
        else:
            # Into fresh memory a sum takes longer than it does as an operation of its own.
            result = torch.ops.mkldnn._convolution_pointwise_.binary(
                summand.to(x.dtype), x, *weights, "add", 1.0, name, numbers, None
            )
        return result


def fuse_convolutions(module: nn.Module, example: Tensor) -> tuple[nn.Module, int]:
    """The same function with convolutions joined to the activations and sums that alone read their results.

    Args:
        module: In eval mode; its layers are shared with what is returned.
        example: Two or more of its inputs, ``(N, C, H, W)``, so that what is the same for all of them is told apart.

    Returns:
        The fused module, and how many activations and sums were joined to convolutions. In-place operations may come in
        another order than before, so compare the results.

    Raises:
        Exception: Whatever the module's forward method raises where it does more with tensors than pass them on: a
            condition on a tensor's values, for one, cannot be traced.
    """
    fusion = _Fusion(fx.symbolic_trace(module), example)
    fusion.fuse()
    return fusion.traced, fusion.joined


class _Fusion:
    """The graph of a module while its convolutions are being fused."""

    def __init__(self, traced: fx.GraphModule, example: Tensor) -> None:
        self.traced = traced
        self.joined = 0
        self._graph = traced.graph
        self._layers = dict(traced.named_modules())
        shapes = _Shapes(traced)
        shapes.run(example)
        self._shapes = shapes.of
        self._fused: dict[fx.Node, FusedConvolution] = {}
        self._overwritten: set[fx.Node] = set()

    def fuse(self) -> None:
        nodes = list(self._graph.nodes)
        for node in nodes:
            if type(self._layer(node)) in _NOTHING_IN_EVAL and (inputs := _inputs(node, 1)):
                self._replace(node, *inputs)
        for node in nodes:
            layer = self._layer(node)
            if isinstance(layer, nn.Conv2d) and _can_be_fused(layer) and (inputs := _inputs(node, 1)):
                self._join_activation(self._call(FusedConvolution(layer), node, inputs))
        for node in nodes:
            if node.op == "call_function" and node.target in _SUMS and not node.kwargs and (inputs := _inputs(node, 2)):
                self._join_sum(node, inputs)
        self._graph.lint()
        self.traced.recompile()

    def _layer(self, node: fx.Node) -> nn.Module | None:
        """The layer that a node calls; None for any other node."""
        return self._layers.get(str(node.target)) if node.op == "call_module" else None

    def _call(self, fused: FusedConvolution, at: fx.Node, inputs: Sequence[fx.Node]) -> fx.Node:
        """Call a fused convolution in place of a node."""
        target = f"fused_{at.name}"
        self.traced.add_submodule(target, fused)
        with self._graph.inserting_before(at):
            node = self._graph.call_module(target, tuple(inputs))
        self._shapes[node] = self._shapes[at]
        self._fused[node] = fused
        self._replace(at, node)
        return node

    def _replace(self, old: fx.Node, new: fx.Node) -> None:
        old.replace_all_uses_with(new)
        self._graph.erase_node(old)

    def _join_activation(self, node: fx.Node) -> None:
        reader = _only_reader(node)
        if reader is None or len(reader.args) != 1 or not reader.kwargs.keys() <= {"inplace"}:
            return
        activation = _ACTIVATIONS.get(type(self._layer(reader)) if reader.op == "call_module" else reader.target)
        # oneDNN follows a sum by no other activation.
        if activation is not None and (len(node.args) == 1 or activation[0] == "relu"):
            self._fused[node].activation = activation
            self._replace(reader, node)
            self.joined += 1

    def _join_sum(self, total: fx.Node, terms: Sequence[fx.Node]) -> None:
        for result, summand in (terms, terms[::-1]):
            fused = self._fused.get(result)
            if fused is None or fused.activation is not None or _only_reader(result) is None:
                continue
            inputs = _inputs(result, 1)
            # The convolution now comes where the sum was, and takes the summand's memory.
            if not inputs or inputs[0] in self._overwritten or summand in (result, *inputs):
                continue
            if self._shapes.get(summand) == self._shapes[result] and self._can_be_overwritten(summand, total):
                self._overwritten.add(summand)
                node = self._call(fused, total, (*inputs, summand))
                self._graph.erase_node(result)
                self.joined += 1
                self._join_activation(node)
                return

    def _can_be_overwritten(self, node: fx.Node, total: fx.Node) -> bool:
        """Whether a node's memory is its own, and only convolutions read it, all of them before the sum."""
        if node not in self._fused and type(self._layer(node)) is not nn.MaxPool2d:
            return False
        return all(reader is total or (reader in self._fused and reader < total) for reader in node.users)


class _Shapes(fx.Interpreter):
    """Runs a traced module and keeps the shape of what each node gives."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.of: dict[fx.Node, torch.Size] = {}

    def run_node(self, n: fx.Node) -> object:
        result: object = super().run_node(n)
        if isinstance(result, Tensor):
            self.of[n] = result.shape
        return result


def _can_be_fused(layer: nn.Module) -> bool:
    return type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _inputs(node: fx.Node, count: int) -> list[fx.Node]:
    """What a node reads, where that is as many tensors and nothing else; empty otherwise."""
    found = [argument for argument in node.args if isinstance(argument, fx.Node)]
    return found if len(found) == len(node.args) == count else []


def _only_reader(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None
