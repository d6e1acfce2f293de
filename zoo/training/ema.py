"""A moving average of the weights while they train (Polyak and Juditsky 1992), which often generalises better."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def decay_at(steps: int) -> float:
    """The largest decay after so many steps."""
    return (1 + steps) / (10 + steps)


class MovingAverage:
    """The average of what trains in a module and of its buffers.

    Early on the average follows faster, with decay ``(1 + steps) / (10 + steps)``, so that the first values are soon
    forgotten; whole numbers among the buffers are copied.

    Args:
        module: Its buffers are averaged.
        optimizer: Its parameters are averaged.
        decay: Share of the average that a step keeps, above 0 and below 1.
    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, *, decay: float) -> None:
        self._module = module
        self._parameters: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
        self._decay = decay
        self._average = [tensor.detach().clone() for tensor in self._tensors()]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take in the module's present tensors.

        Args:
            steps: Optimizer steps taken since the phase began, at least 1.
        """
        decay = min(self._decay, decay_at(steps))
        pairs = list(zip(self._average, self._tensors(), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([average for average, _ in floats], [tensor for _, tensor in floats], 1 - decay)
        for average, tensor in pairs:
            if not average.is_floating_point():
                average.copy_(tensor)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the module while the block runs."""
        kept = [tensor.detach().clone() for tensor in self._tensors()]
        self.apply()
        try:
            yield
        finally:
            self._write(kept)

    def apply(self) -> None:
        """Put the average into the module for good."""
        self._write(self._average)

    def tensors(self) -> dict[str, Tensor]:
        """The average for a checkpoint."""
        return {f"{i:05d}": tensor for i, tensor in enumerate(self._average)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what a checkpoint holds."""
        for average, name in zip(self._average, sorted(tensors), strict=True):
            average.copy_(tensors[name])

    def _write(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for tensor, value in zip(self._tensors(), values, strict=True):
                tensor.copy_(value)

    def _tensors(self) -> list[Tensor]:
        return [*self._parameters, *self._module.buffers()]
