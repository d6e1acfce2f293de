"""How the module that trains is run forward: as it is, compiled, or with activations computed again."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from zoo.chain import StageSequence
from zoo.errors import TrainingError
from zoo.recipes import Phase
from zoo.training.engine import Features

Forward = Callable[[Features], Any]


def forward_of(module: nn.Module, phase: Phase) -> Forward:
    """What runs a module in a phase's training steps.

    Args:
        module: What trains.
        phase: Whether it is compiled or its activations are computed again; the latter needs a
            :class:`~zoo.chain.StageSequence`.
    """
    if phase.recompute:
        cast(StageSequence, module).recompute = True
    return _compiled(module) if phase.compile else module


def _compiled(module: nn.Module) -> Forward:
    run = torch.compile(module)

    def forward(features: Features) -> Any:
        try:
            return run(features)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            raise TrainingError(f"what trains could not be compiled: {reason}. Leave out --compile.") from error

    return forward
