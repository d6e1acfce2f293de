"""The best state of a phase, kept in memory until the phase ends."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import TrainingError
from zoo.recipes import Monitor
from zoo.training.schedule import goodness


class BestState:
    """What trains in a module, and its buffers, as they were at the best epoch: copies on the CPU.

    Args:
        module: Its buffers are kept.
        optimizer: Its parameters are kept.
        monitor: The validation metric that decides, then the loss.

    Attributes:
        row: The best epoch's row of the history; empty before one was good.
    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, *, monitor: Monitor = "accuracy") -> None:
        self._module = module
        self._parameters: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
        self._monitor = monitor
        self._saved: list[Tensor] = []
        self.row: dict[str, Any] = {}

    def offer(self, row: Mapping[str, Any]) -> None:
        """Keep the present state if it is the best so far.

        Args:
            row: One whose monitored metric or ``val_loss`` is not finite never wins. Where they are None the latest
                state is the best.
        """
        if row["val_loss"] is None:
            self.row = dict(row)
        elif isfinite(goodness(row, self._monitor)) and (not self.row or self._rank(row) > self._rank(self.row)):
            self.row = dict(row)
            self._saved = [tensor.detach().to("cpu", copy=True) for tensor in self._tensors()]

    def restore(self) -> None:
        """Put the best state back.

        Raises:
            TrainingError: No state gave a finite validation loss.
        """
        if not self.row:
            raise TrainingError("the validation loss was not finite after any epoch: lower the learning rate.")
        if self._saved:
            with torch.inference_mode():
                for tensor, saved in zip(self._tensors(), self._saved, strict=True):
                    tensor.copy_(saved)

    def tensors(self) -> dict[str, Tensor]:
        """The kept tensors for a checkpoint; the row is apart."""
        return {f"{i:05d}": tensor for i, tensor in enumerate(self._saved)}

    def load(self, row: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Take back what a checkpoint holds."""
        self.row = dict(row)
        self._saved = [tensors[name] for name in sorted(tensors)]

    def _rank(self, row: Mapping[str, Any]) -> tuple[float, float]:
        return goodness(row, self._monitor), -row["val_loss"]

    def _tensors(self) -> list[Tensor]:
        # Buffers are looked up each time, since a module may replace its own.
        return [*self._parameters, *self._module.buffers()]
