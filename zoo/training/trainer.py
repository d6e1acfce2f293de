"""The training loop.

The trainer sees a module, a criterion and batches. What freezes, where batches come from and what happens to an image
before the module are the caller's: see :meth:`zoo.chain.Chain.freeze` and the ``front``.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import nn

from zoo.errors import DataError, TrainingError, UsageError
from zoo.faults import fault
from zoo.progress import Progress, Silent
from zoo.recipes import Phase
from zoo.training.allocator import kept_memory
from zoo.training.batches import Batches
from zoo.training.best import BestState
from zoo.training.callbacks import Callback, TrainerState
from zoo.training.checkpoint import Snapshot
from zoo.training.ema import MovingAverage, decay_at
from zoo.training.engine import Engine, make_optimizer
from zoo.training.fit_state import FitState
from zoo.training.inference import Front, infer, inputs_of
from zoo.training.losses import Criterion, summed_losses
from zoo.training.schedule import factor, metric_of, plateau_factor, warmup_of
from zoo.training.scoring import OneClass, Scoring
from zoo.training.signals import StopRequest
from zoo.training.step import Stepper
from zoo.training.totals import TrainingTotals

# How many steps may run on a GPU before a loss that is not finite is noticed: reading it makes the processor wait.
_STEPS_BETWEEN_CHECKS = 50
# So many steps in a row that are not finite end the run.
_BAD_STEPS = 5


class Saver(Protocol):
    """Where checkpoints of a phase go."""

    def due(self, step: int) -> bool:
        """Whether one should be written after so many steps of the run."""

    def save(self, step: int, snapshot: Snapshot) -> None:
        """Write one."""


class Stopped(Exception):  # noqa: N818  # never leaves zoo: the caller says how to go on
    """Training was asked to stop; it can be resumed where a saver was given."""


@dataclass(frozen=True)
class FitResult:
    """What a phase came to.

    Attributes:
        history: A row an epoch: ``phase`` and ``epoch`` from 0, ``step`` taken by its end, ``lr`` of the head at its
            last step, ``train_loss``, ``train_accuracy``, ``val_loss`` and ``val_accuracy`` (0–1; None without
            validation), ``seconds``. Losses are the criterion's, auxiliary heads left out.
        best_epoch: The epoch whose tensors the module holds now; ``first_epoch - 1`` where no epoch of a later phase
            was better than the state it began with.
        best: That epoch's row; without ``lr``, ``seconds`` and the training figures for a state before the first.
    """

    history: list[dict[str, Any]]
    best_epoch: int
    best: dict[str, Any]


class Trainer:
    """Trains one module.

    Args:
        module: What trains, for example ``chain.part(k)``. It maps features to logits ``(N, K)``; in training mode it
            may return ``(logits, auxiliary logits, …)`` and then has ``auxiliary_weights``.
        engine: Device and numerics; the module is placed on it.
        criterion: Losses of a batch, one a sample or their mean.
        scoring: What counts as right, and the validation's figures.
        front: What happens to a batch before the module.
        seed: Decides dropout, together with the step.
        callbacks: Told where training stands, in this order.
        names_of: Words for training samples by their positions, for messages.
        stop: Looked at after every step.
        progress: Where to say so.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        engine: Engine,
        criterion: Criterion,
        scoring: Scoring = OneClass(),
        front: Front = inputs_of,
        seed: int = 0,
        callbacks: Sequence[Callback] = (),
        names_of: Callable[[Sequence[int]], str] = lambda samples: f"samples {', '.join(map(str, samples))}",
        stop: StopRequest | None = None,
        progress: Progress = Silent(),
    ) -> None:
        self.module = module
        self.engine = engine
        self.criterion = criterion
        self.scoring = scoring
        self.front = front
        self.seed = seed
        self.callbacks = tuple(callbacks)
        self.names_of = names_of
        self.stop = StopRequest() if stop is None else stop
        self.progress = progress
        engine.place(module)
        if isinstance(criterion, nn.Module):
            criterion.to(engine.device)

    def fit(
        self,
        train: Batches,
        val: Batches | None = None,
        *,
        phase: Phase,
        groups: Sequence[dict[str, Any]],
        set_mode: Callable[[], None],
        phase_index: int = 0,
        first_epoch: int = 0,
        first_step: int = 0,
        resume: Snapshot | None = None,
        saver: Saver | None = None,
    ) -> FitResult:
        """Run one phase and leave the module in eval mode with the tensors of its best epoch.

        The best epoch has the best monitored metric, then the lowest validation loss; without validation it is the
        last. In a later phase the state before its first epoch competes too, so no phase ends worse than it began.

        Args:
            train: Training batches.
            val: Validation batches, or None.
            phase: Epochs, optimizer, schedule, clipping, mixing, average and patience; what else it says is the
                caller's to follow. Its learning rates are those of ``groups``.
            groups: Parameters with their learning rates and decays, the head last.
            set_mode: Puts every layer into the mode it trains in; called before each epoch.
            phase_index: Position in the recipe, from 0.
            first_epoch: Epochs of the phases before.
            first_step: Optimizer steps of the phases before.
            resume: Where in this phase to go on, from a snapshot that ``saver`` was given; the module's tensors are
                those of that moment already.
            saver: Given snapshots when it says that one is due, and when training is asked to stop.

        Raises:
            TrainingError: The loss was not finite in several steps one after the other.
            UsageError: There is nothing to train, or the phase needs validation that there is not.
            Stopped: Training was asked to stop; ``saver`` has what is needed to go on.
        """
        _check_validation(phase, val)
        fit = self._begin(train, phase, groups, phase_index=phase_index, first_epoch=first_epoch, first_step=first_step)
        last_epoch = first_epoch + phase.epochs - 1
        stopping = self.stop.finishing(self.progress.note) if saver is not None else nullcontext()
        with (
            self.engine.reproducible(),
            kept_memory() if self.engine.device.type == "cpu" else nullcontext(),
            stopping,
            self.progress.task("training", phase.epochs, unit="epochs") as advance,
        ):
            if resume is not None:
                fit.load(resume)
                advance(len(fit.history))
            elif val is not None and phase_index > 0:
                before = {"phase": phase_index, "epoch": first_epoch - 1, "step": first_step}
                fit.best.offer({**before, **self._validate(val, fit, saver=None)})
            self._tell("on_phase_start", fit.state)
            while fit.state.epoch <= last_epoch and not self._stops_early(fit, first_epoch):
                set_mode()
                self._train_epoch(train, fit, saver)
                row = self._end_epoch(val, fit, saver)
                self.progress.note(_in_words(row, first_epoch, phase.epochs, fit.bottleneck.words()))
                advance(1)
                self._tell("on_epoch_end", fit.state, row)
                fit.state.epoch += 1
                fit.next_epoch(TrainingTotals(self.engine))
                if saver is not None and fit.state.epoch <= last_epoch and saver.due(fit.state.step):
                    saver.save(fit.state.step, fit.snapshot())
            if fit.average is not None:
                fit.average.apply()
            fit.best.restore()
            self.module.eval()
            self._tell("on_phase_end", fit.state)
        return FitResult(fit.history, fit.best.row["epoch"], fit.best.row)

    def _begin(
        self,
        train: Batches,
        phase: Phase,
        groups: Sequence[dict[str, Any]],
        *,
        phase_index: int,
        first_epoch: int,
        first_step: int,
    ) -> FitState:
        steps = phase.epochs * len(train)
        if not steps:
            raise DataError("there are no images in these batches.")
        _say_if_unreached(phase, steps, self.progress)
        optimizer = make_optimizer([{**group, "peak_lr": group["lr"]} for group in groups], phase)
        return FitState(
            state=TrainerState(phase, phase_index, self.module, steps, epoch=first_epoch, step=first_step),
            optimizer=optimizer,
            stepper=self.stepper(optimizer, phase),
            best=BestState(self.module, optimizer, monitor=phase.monitor),
            average=None if phase.ema is None else MovingAverage(self.module, optimizer, decay=phase.ema),
            totals=TrainingTotals(self.engine),
        )

    def stepper(self, optimizer: torch.optim.Optimizer, phase: Phase) -> Stepper:
        """What takes the steps of a phase."""
        return Stepper(
            self.module,
            optimizer,
            engine=self.engine,
            criterion=self.criterion,
            front=self.front,
            phase=phase,
            seed=self.seed,
            scoring=self.scoring,
            progress=self.progress,
        )

    def _train_epoch(self, train: Batches, fit: FitState, saver: Saver | None) -> None:
        state, phase = fit.state, fit.state.phase
        lowered = plateau_factor(phase, fit.history)
        with self.progress.task(f"epoch {state.epoch + 1}", len(train), unit="steps") as advance:
            advance(fit.step_in_epoch)
            batches = train.epoch(state.epoch, start=fit.step_in_epoch)
            for batch in fit.bottleneck.timed(iter(batches)):
                share = lowered * factor(
                    phase.schedule, state.step_in_phase, state.steps_in_phase, warmup=warmup_of(phase)
                )
                for group in fit.optimizer.param_groups:
                    group["lr"] = group["peak_lr"] * share
                    state.lr = group["lr"]
                fault("step")
                with fit.bottleneck.measuring("copy"):
                    batch = self.engine.to_device(replace(batch, epoch=state.epoch))
                with fit.bottleneck.measuring("compute"):
                    fit.totals.add(fit.stepper(batch, step=state.step, stop=self.stop.signal))
                    state.step += 1
                    state.step_in_phase += 1
                    fit.step_in_epoch += 1
                    if fit.average is not None:
                        fit.average.update(state.step_in_phase)
                    advance(1)
                    self._after_step(train, fit, saver)
        self._notice_bad_steps(train, fit, saver)

    def _after_step(self, train: Batches, fit: FitState, saver: Saver | None) -> None:
        stops = fit.stepper.stop != 0 and saver is not None
        # The last step's checkpoint is that of the next epoch's beginning, with this one's row.
        due = saver is not None and fit.step_in_epoch < len(train) and saver.due(fit.state.step)
        if stops or due or self.engine.device.type != "cuda" or fit.step_in_epoch % _STEPS_BETWEEN_CHECKS == 0:
            self._notice_bad_steps(train, fit, saver)
        if saver is not None and (stops or due):
            saver.save(fit.state.step, fit.snapshot())
        if stops:
            self.stop.signal = fit.stepper.stop
            raise Stopped

    def _notice_bad_steps(self, train: Batches, fit: FitState, saver: Saver | None) -> None:
        """Say which steps were skipped because something was not finite; save and give up after several in a row."""
        flags = fit.totals.new_finite_flags()
        for step, finite in enumerate(flags, start=len(fit.totals) - len(flags)):
            if finite:
                fit.bad_steps = 0
                continue
            fit.bad_steps += 1
            batch = next(iter(train.epoch(fit.state.epoch, start=step)))
            names = self.names_of(batch.indices[: batch.count].tolist())
            if self.engine.world_size > 1:
                names += ", or on those of another process"
            what = (
                f"the loss or its gradient was not finite at step {step + 1} of epoch {fit.state.epoch + 1}, on {names}"
            )
            if fit.bad_steps >= _BAD_STEPS:
                fit.bad_steps = 0
                if saver is not None:
                    saver.save(fit.state.step, fit.snapshot())
                raise TrainingError(
                    f"{what}; so were the {_BAD_STEPS - 1} steps before it, and training ends here. None of them "
                    "changed the model"
                    + (", which is saved; resumed, the run goes on after them" if saver is not None else "")
                    + ". Look at these images, or lower the learning rate."
                )
            self.progress.warn(f"{what}: this step is skipped.")

    def _end_epoch(self, val: Batches | None, fit: FitState, saver: Saver | None) -> dict[str, Any]:
        """Validate, offer the state as the best, and add the epoch's row to the history."""
        state = fit.state
        try:
            with fit.average.applied() if fit.average is not None else nullcontext():
                validated = _NOT_VALIDATED if val is None else self._validate(val, fit, saver=saver)
                row: dict[str, Any] = {"phase": state.phase_index, "epoch": state.epoch, "step": state.step}
                row |= {"lr": state.lr, **fit.totals.row(), **validated, "seconds": fit.seconds()}
                fit.best.offer(row)
        except Stopped:
            if saver is not None:  # the epoch's steps are taken, its validation is not
                saver.save(state.step, fit.snapshot())
            raise
        fit.history.append(row)
        return row

    def _validate(self, val: Batches, fit: FitState, *, saver: Saver | None) -> dict[str, float]:
        self.module.eval()
        totals = self.scoring.totals(self.engine)
        for batch in val.epoch(0):
            fault("validation")
            if saver is not None and self.stop and self.engine.world_size == 1:
                raise Stopped
            logits, targets = infer(self.module, batch, engine=self.engine, front=self.front)
            with torch.inference_mode():
                totals.add(summed_losses(self.criterion, logits, targets), logits, targets)
        row = totals.row()
        names = ["val_loss", "val_accuracy", f"val_{metric_of(fit.state.phase.monitor)}"]
        return {name: row[name] for name in dict.fromkeys(names)}

    def _stops_early(self, fit: FitState, first_epoch: int) -> bool:
        patience = fit.state.phase.patience
        if patience is None or not fit.history:
            return False
        waited = fit.history[-1]["epoch"] - fit.best.row.get("epoch", first_epoch - 1)
        if waited >= patience:
            self.progress.note(f"stopped early: no better epoch in the last {waited}.")
        return bool(waited >= patience)

    def _tell(self, event: str, *arguments: object) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(*arguments)


_NOT_VALIDATED = {"val_loss": None, "val_accuracy": None}


def _check_validation(phase: Phase, val: Batches | None) -> None:
    if val is not None:
        return
    if phase.schedule == "plateau" or phase.patience is not None or metric_of(phase.monitor) not in ("accuracy", "map"):
        raise UsageError(
            'schedule = "plateau", patience and monitor need validation images, and there are none; add a val folder, '
            "or leave them out."
        )


def _say_if_unreached(phase: Phase, steps: int, progress: Progress) -> None:
    if phase.ema is not None and phase.ema > decay_at(steps):
        progress.warn(
            f"ema = {phase.ema:g} is not reached in {steps} steps: the average follows faster, with at most "
            f"{decay_at(steps):.4f}; a smaller value or more epochs would be used as given."
        )


def _in_words(row: dict[str, Any], first_epoch: int, epochs: int, bottleneck: str) -> str:
    text = f"epoch {row['epoch'] + 1 - first_epoch}/{epochs}"
    if first_epoch:
        text += f" ({row['epoch'] + 1} in all)"
    text += f"  training loss {row['train_loss']:.4f}"
    text += f", accuracy {row['train_accuracy']:.1%}"
    if row["val_loss"] is not None:
        text += f"; validation loss {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.1%}"
    if row.get("skipped_steps"):
        text += f"; {row['skipped_steps']} step(s) skipped"
    return f"{text}; {row['seconds']:.1f} s" + (f", {bottleneck}" if bottleneck else "")
