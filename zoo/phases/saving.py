"""A run's state between two steps: what the trainer holds, the model's tensors, and what the phases before came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from zoo.chain import Chain, Cut, combined_digest, tensor_digest
from zoo.errors import CheckpointError
from zoo.training.checkpoint import Checkpoints, Snapshot
from zoo.training.trainer import FitResult


@dataclass(frozen=True)
class FrozenPart:
    """What a phase froze, and its digest around the phase.

    Attributes:
        phase: Position in the recipe, from 0.
        train: What the phase trained.
        frozen_stages: Leading stages of the chain that were frozen.
        frozen_tensors: Parameters and buffers that were frozen.
        before: SHA-256 over them before the phase.
        after: The same after it; equal, or the run fails.
    """

    phase: int
    train: str
    frozen_stages: int
    frozen_tensors: int
    before: str
    after: str


@dataclass
class RunState:
    """What the phases so far came to.

    Attributes:
        phase: The phase under way, from 0; as many as there are when all are done.
        history: A row an epoch over the phases that are done.
        best: The row of the epoch whose tensors the model held when the last of them ended.
        frozen: One entry for each of them.
        rates: Learning rate that was measured for a phase with ``lr = "auto"``, by its position.
        trained: Names of the model's tensors that have been free to change so far. The others are those that the model
            was built with, so a checkpoint leaves them out.
        step: Optimizer steps taken by the end of the phases that are done.
        feature_stages: Leading stages whose features the last phases that are done took from the store.
        trainer: Where in the phase under way training stands; None at its beginning.
    """

    phase: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: Mapping[str, Any] = field(default_factory=dict)
    frozen: list[FrozenPart] = field(default_factory=list)
    rates: dict[int, float] = field(default_factory=dict)
    trained: frozenset[str] = frozenset()
    step: int = 0
    feature_stages: int = 0
    trainer: Snapshot | None = None

    @classmethod
    def load(cls, snapshot: Snapshot, chain: Chain) -> RunState:
        """Take back what a checkpoint holds, the model's tensors included.

        Args:
            snapshot: As :class:`PhaseSaver` saved it.
            chain: The model as it was built for the run, on its device.

        Raises:
            CheckpointError: It belongs to a model with other tensors, or with other values where nothing was trained.
        """
        facts, model = snapshot.facts, snapshot.group("model")
        present = _tensors(chain)
        unknown = [name for name, t in model.items() if name not in present or present[name].shape != t.shape]
        if unknown:
            raise CheckpointError(
                f"the checkpoint does not fit the model: {', '.join(unknown[:3])}{' …' * (len(unknown) > 3)}. Was the "
                "plugin or a registry.toml changed since the run began?"
            )
        untouched = combined_digest({name: tensor_digest(t) for name, t in present.items() if name not in model})
        if untouched != facts["untouched"]:
            raise CheckpointError(
                "the weights that training started from are not those of the run any more: what was never trained has "
                "other values. Put the old weights back, or train again into another --output."
            )
        with torch.no_grad():
            for name, tensor in model.items():
                present[name].copy_(tensor)
        trainer = facts["trainer"]
        return cls(
            phase=facts["phase"],
            history=list(facts["history"]),
            best=facts["best"],
            frozen=[FrozenPart(**part) for part in facts["frozen"]],
            rates={int(phase): rate for phase, rate in facts["rates"].items()},
            trained=frozenset(model),
            step=facts["step"],
            feature_stages=facts["feature_stages"],
            trainer=None if trainer is None else Snapshot(trainer, snapshot.group("trainer")),
        )

    def end_phase(self, result: FitResult) -> None:
        """Take in what the phase under way came to; the next one begins."""
        self.history += result.history
        self.step = result.history[-1]["step"]
        if self.phase == 0 or result.best_epoch >= result.history[0]["epoch"]:
            self.best = result.best
        self.phase, self.trainer = self.phase + 1, None


class PhaseSaver:
    """Writes checkpoints of one phase (:class:`zoo.training.trainer.Saver`).

    Args:
        checkpoints: Where they go; None writes none.
        chain: The model's stages.
        state: What the phases before came to, and what was free to change in them and in this one.
        digests: Of what the phase freezes, by name: :meth:`zoo.chain.Chain.digests`.
    """

    def __init__(
        self, checkpoints: Checkpoints | None, chain: Chain, state: RunState, digests: Mapping[str, str]
    ) -> None:
        self._checkpoints = checkpoints
        self._chain = chain
        self._state = state
        self._untouched = combined_digest({name: d for name, d in digests.items() if name not in state.trained})

    def due(self, step: int) -> bool:
        """Whether it is time for one after so many steps."""
        return self._checkpoints is not None and self._checkpoints.due(step)

    def save(self, step: int, trainer: Snapshot | None) -> None:
        """Write one.

        Args:
            step: Optimizer steps taken since the run began.
            trainer: Where in the phase training stands; None at its beginning.
        """
        if self._checkpoints is None:
            return
        state = self._state
        facts = {
            "phase": state.phase,
            "history": state.history,
            "best": dict(state.best),
            "frozen": [asdict(part) for part in state.frozen],
            "rates": state.rates,
            "step": state.step,
            "feature_stages": state.feature_stages,
            "untouched": self._untouched,
            "trainer": None if trainer is None else dict(trainer.facts),
        }
        tensors = {f"model/{name}": t for name, t in _tensors(self._chain).items() if name in state.trained}
        tensors |= {f"trainer/{name}": t for name, t in (trainer.tensors if trainer else {}).items()}
        self._checkpoints.save(step, Snapshot(facts, tensors))


def changeable(chain: Chain, cut: Cut) -> frozenset[str]:
    """Names of the model's parameters and buffers that training with a cut may change."""
    return frozenset(_tensors(chain)) - frozenset(chain.frozen_tensors(cut))


def _tensors(chain: Chain) -> dict[str, Tensor]:
    model = chain.model
    return {**{n: p.detach() for n, p in model.named_parameters()}, **dict(model.named_buffers())}
