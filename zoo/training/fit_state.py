"""Everything that a phase holds between two steps, apart from the model's own tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from zoo.training.best import BestState
from zoo.training.bottleneck import Bottleneck
from zoo.training.callbacks import TrainerState
from zoo.training.checkpoint import Snapshot
from zoo.training.ema import MovingAverage
from zoo.training.step import Stepper
from zoo.training.totals import TrainingTotals


@dataclass
class FitState:
    """A phase under way.

    Random numbers depend on seed and step, and learning rates on the step and the history, so neither generators nor
    schedules are part of it.

    Attributes:
        state: Where training stands.
        optimizer: The phase's optimizer.
        stepper: Takes the steps.
        best: The best state so far.
        average: The moving average of the weights, where the phase has one.
        totals: Figures of the epoch under way.
        history: A row an epoch.
        step_in_epoch: Steps of the epoch under way that are taken.
        bad_steps: How many steps in a row were not finite.
        bottleneck: What the time of the epoch under way goes into, in this process.
        seconds_before: Time that earlier processes spent in the epoch under way.
    """

    state: TrainerState
    optimizer: torch.optim.Optimizer
    stepper: Stepper
    best: BestState
    average: MovingAverage | None
    totals: TrainingTotals
    history: list[dict[str, Any]] = field(default_factory=list)
    step_in_epoch: int = 0
    bad_steps: int = 0
    bottleneck: Bottleneck = field(default_factory=Bottleneck)
    seconds_before: float = 0.0
    epoch_began: float = field(default_factory=perf_counter)

    def seconds(self) -> float:
        """Time spent in the epoch under way."""
        return self.seconds_before + perf_counter() - self.epoch_began

    def next_epoch(self, totals: TrainingTotals) -> None:
        """Begin an epoch."""
        self.totals = totals
        self.step_in_epoch = 0
        self.bottleneck = Bottleneck()
        self.seconds_before, self.epoch_began = 0.0, perf_counter()

    def snapshot(self) -> Snapshot:
        """All of it, for a checkpoint."""
        state = self.state
        groups = {
            "optimizer": self._optimizer_tensors(),
            "best": self.best.tensors(),
            "average": self.average.tensors() if self.average else {},
            "epoch": self.totals.tensors(),
        }
        facts = {
            "epoch": state.epoch,
            "step": state.step,
            "step_in_phase": state.step_in_phase,
            "step_in_epoch": self.step_in_epoch,
            "lr": state.lr,
            "history": self.history,
            "best": self.best.row,
            "bad_steps": self.bad_steps,
            "micro_batch": self.stepper.micro_batch,
            "seconds": self.seconds(),
        }
        return Snapshot(
            facts, {f"{group}/{name}": tensor for group, members in groups.items() for name, tensor in members.items()}
        )

    def load(self, snapshot: Snapshot) -> None:
        """Take back what :meth:`snapshot` gave."""
        facts, state = snapshot.facts, self.state
        state.epoch, state.step, state.step_in_phase = facts["epoch"], facts["step"], facts["step_in_phase"]
        state.lr = facts["lr"]
        self.step_in_epoch = facts["step_in_epoch"]
        self.history[:] = facts["history"]
        self.bad_steps = facts["bad_steps"]
        self.stepper.micro_batch = facts["micro_batch"]
        self.seconds_before, self.epoch_began = facts["seconds"], perf_counter()
        self.best.load(facts["best"], snapshot.group("best"))
        if self.average is not None:
            self.average.load(snapshot.group("average"))
        self.totals.load(snapshot.group("epoch"))
        self._load_optimizer(snapshot.group("optimizer"))

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        return {
            f"{i:05d}/{key}": value
            for i, parameter in enumerate(self._parameters())
            for key, value in self.optimizer.state[parameter].items()
            if isinstance(value, Tensor)
        }

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        parameters = self._parameters()
        for name, tensor in tensors.items():
            i, _, key = name.partition("/")
            parameter = parameters[int(i)]
            # In the memory layout of the parameter, which fused optimizers take for granted.
            like = parameter if tensor.shape == parameter.shape else tensor
            device = parameter.device if key != "step" or self.optimizer.defaults.get("fused") else None
            value = torch.empty_like(like, dtype=tensor.dtype, device=device, requires_grad=False)
            self.optimizer.state[parameter][key] = value.copy_(tensor)
