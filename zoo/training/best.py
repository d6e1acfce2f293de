"""The best state of a phase, kept in memory until the phase ends."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import TrainingError


class BestState:
    """What trains in a module, and its buffers, as they were at the best epoch: copies on the CPU.

    Args:
        module: Its buffers are kept.
        optimizer: Its parameters are kept.
    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._module = module
        self._parameters: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
        self._saved: list[Tensor] = []
        self._rank = (0.0, float("-inf"))
        self.row: dict[str, Any] = {}

    def offer(self, row: Mapping[str, Any]) -> None:
        """Keep the present state if it is the best so far.

        Args:
            row: Its ``val_accuracy``, then its ``val_loss``, decide; one that is not finite never wins. Where they are
                None the latest state is the best.
        """
        accuracy, loss = row["val_accuracy"], row["val_loss"]
        if accuracy is None:
            self.row = dict(row)
            return
        rank = (accuracy, -loss)
        if isfinite(loss) and rank > self._rank:
            self._rank = rank
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

    def _tensors(self) -> list[Tensor]:
        # Buffers are looked up each time, since a module may replace its own.
        return [*self._parameters, *self._module.buffers()]
