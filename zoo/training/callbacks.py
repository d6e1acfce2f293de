"""What a plugin or a programmer can hook into a run, and what it is told there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from zoo.recipes import Phase


@dataclass(frozen=True)
class RunInfo:
    """The run that a plugin's callbacks follow.

    Attributes:
        folder: The run folder, which does not exist yet unless the run goes on.
        config: What its ``config.toml`` says.
        resumed: Whether a stopped run goes on: epochs after its last checkpoint come again.
    """

    folder: Path
    config: Mapping[str, object]
    resumed: bool = False


@dataclass
class TrainerState:
    """Where training stands. The trainer updates it in place.

    Attributes:
        phase: The phase that runs.
        phase_index: Its position in the recipe, from 0.
        module: What trains.
        steps_in_phase: Optimizer steps of the whole phase.
        epoch: The epoch under way, from 0 over the whole run.
        step: Optimizer steps taken since the run began.
        step_in_phase: Optimizer steps taken since the phase began.
        lr: The head's learning rate at the last step.
    """

    phase: Phase
    phase_index: int
    module: nn.Module
    steps_in_phase: int
    epoch: int = 0
    step: int = 0
    step_in_phase: int = 0
    lr: float = 0.0


class Callback:
    """Override what is needed; everything else does nothing.

    An exception ends the run, unless the callback comes from a plugin: a tracker that fails is left out.
    """

    def on_phase_start(self, state: TrainerState) -> None:
        """Before a phase's first step."""

    def on_epoch_end(self, state: TrainerState, row: Mapping[str, object]) -> None:
        """After an epoch and its validation.

        Args:
            state: Where training stands.
            row: The epoch's line of the history: see :class:`zoo.training.trainer.FitResult`.
        """

    def on_phase_end(self, state: TrainerState) -> None:
        """After a phase, when ``state.module`` holds its best epoch again."""

    def on_finish(self, metrics: Mapping[str, object]) -> None:
        """Once, when the whole run is done. Called by who runs the phases, with the figures of the artifact."""
