"""The training loop.

The trainer sees a module, a criterion and batches. What freezes, where batches come from and what happens to an image
before the module are the caller's: see :meth:`zoo.chain.Chain.freeze` and the ``front``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import DataError, TrainingError
from zoo.progress import Progress, Silent
from zoo.recipes import Phase
from zoo.training.batches import Batch, Batches
from zoo.training.best import BestState
from zoo.training.callbacks import Callback, TrainerState
from zoo.training.engine import Engine, Features, make_optimizer, mix
from zoo.training.losses import Criterion, correct_predictions, summed_losses
from zoo.training.schedule import factor

Front = Callable[[Batch, bool], Features]
"""Maps a batch on the device, and whether it trains, to what the module is fed; applied without gradients."""

# How many steps may run before a loss that is not finite is noticed: reading it makes the processor wait for the GPU.
_STEPS_BETWEEN_CHECKS = 50


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


def inputs_of(batch: Batch, training: bool) -> Features:
    """The front for batches that are ready for the module: their inputs as they are."""
    return batch.inputs


class Trainer:
    """Trains one module.

    Args:
        module: What trains, for example ``chain.part(k)``. It maps features to logits ``(N, K)``; in training mode it
            may return ``(logits, auxiliary logits, …)`` and then has ``auxiliary_weights``.
        engine: Device and numerics; the module is placed on it.
        criterion: Losses of a batch, one a sample or their mean.
        front: What happens to a batch before the module.
        seed: Decides dropout, together with the step.
        callbacks: Told where training stands, in this order.
        progress: Where to say so.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        engine: Engine,
        criterion: Criterion,
        front: Front = inputs_of,
        seed: int = 0,
        callbacks: Sequence[Callback] = (),
        progress: Progress = Silent(),  # noqa: B008 - it has no state
    ) -> None:
        self.module = module
        self.engine = engine
        self.criterion = criterion
        self.front = front
        self.seed = seed
        self.callbacks = tuple(callbacks)
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
    ) -> FitResult:
        """Run one phase and leave the module in eval mode with the tensors of its best epoch.

        The best epoch has the highest validation accuracy, then the lowest validation loss; without validation it is
        the last. In a later phase the state before its first epoch competes too, so no phase ends worse than it began.

        Args:
            train: Training batches.
            val: Validation batches, or None.
            phase: Epochs, optimizer, schedule, clipping and patience; what else it says is the caller's to follow.
            groups: Parameters with their learning rates and decays, the head last.
            set_mode: Puts every layer into the mode it trains in; called before each epoch.
            phase_index: Position in the recipe, from 0.
            first_epoch: Epochs of the phases before.
            first_step: Optimizer steps of the phases before.

        Raises:
            TrainingError: A loss or a gradient was not finite.
            UsageError: There is nothing to train.
        """
        last_epoch = first_epoch + phase.epochs - 1
        steps = phase.epochs * len(train)
        state = TrainerState(phase, phase_index, self.module, steps, epoch=first_epoch, step=first_step)
        optimizer = make_optimizer([{**group, "peak_lr": group["lr"]} for group in groups], phase)
        best = BestState(self.module, optimizer)
        history: list[dict[str, Any]] = []
        if val is None and phase.patience is not None:
            self.progress.warn("without validation images training cannot stop early: every epoch runs.")

        with self.engine.reproducible(), self.progress.task("training", phase.epochs, unit="epochs") as advance:
            if val is not None and phase_index > 0:
                before = {"phase": phase_index, "epoch": first_epoch - 1, "step": first_step}
                best.offer({**before, **self._validate(val)})
            self._tell("on_phase_start", state)
            for epoch in range(first_epoch, last_epoch + 1):
                started = perf_counter()
                state.epoch = epoch
                set_mode()
                trained = self._train_epoch(train, optimizer, state)
                validated = {"val_loss": None, "val_accuracy": None} if val is None else self._validate(val)
                row = {"phase": phase_index, "epoch": epoch, "step": state.step, "lr": state.lr, **trained, **validated}
                row["seconds"] = perf_counter() - started

                best.offer(row)
                history.append(row)
                self.progress.note(_in_words(row, last_epoch))
                advance(1)
                self._tell("on_epoch_end", state, row)
                epochs_since_best = epoch - best.row.get("epoch", first_epoch - 1)
                if phase.patience is not None and epochs_since_best >= phase.patience:
                    self.progress.note(f"stopped early: no better epoch in the last {epochs_since_best}.")
                    break
            best.restore()
            self.module.eval()
            self._tell("on_phase_end", state)
        return FitResult(history, best.row["epoch"], best.row)

    def _train_epoch(
        self, train: Batches, optimizer: torch.optim.Optimizer, state: TrainerState
    ) -> dict[str, float | None]:
        totals = _Totals(self.engine)
        with self.progress.task(f"epoch {state.epoch + 1}", len(train), unit="steps") as advance:
            for batch in train.epoch(state.epoch):
                share = factor(
                    state.phase.schedule, state.step_in_phase, state.steps_in_phase, warmup=state.phase.warmup
                )
                for group in optimizer.param_groups:
                    group["lr"] = group["peak_lr"] * share
                    state.lr = group["lr"]
                self._step(batch, optimizer, state, totals)
                state.step += 1
                state.step_in_phase += 1
                if totals.steps % _STEPS_BETWEEN_CHECKS == 0:
                    self._check_finite(totals, train, state)
                advance(1)
        self._check_finite(totals, train, state)
        loss, accuracy = totals.means()
        return {"train_loss": loss, "train_accuracy": accuracy}

    def _step(self, batch: Batch, optimizer: torch.optim.Optimizer, state: TrainerState, totals: "_Totals") -> None:
        # Dropout depends on where training stands alone, so a run can be entered at any step.
        self.engine.seed(mix(self.seed, state.step, 0, self.engine.rank))
        batch = self.engine.to_device(replace(batch, epoch=state.epoch))
        targets = batch.targets[: batch.count]
        with torch.no_grad(), self.engine.autocast():
            features = self.engine.lay_out(self.front(batch, True))
        with self.engine.autocast():
            outputs = self.module(features)
        logits, *auxiliary = [x[: batch.count] for x in (outputs if isinstance(outputs, tuple) else (outputs,))]

        loss = objective = summed_losses(self.criterion, logits, targets)
        for weight, x in zip(getattr(self.module, "auxiliary_weights", ()), auxiliary, strict=True):
            objective = objective + weight * summed_losses(self.criterion, x, targets)
        torch.autograd.backward(objective / batch.count)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if state.phase.clip is not None:
            nn.utils.clip_grads_with_norm_(parameters, state.phase.clip, norm)
        optimizer.step()
        optimizer.zero_grad()
        totals.add(loss, correct_predictions(logits, targets), batch.count, watched=objective.detach() + norm)

    def _validate(self, val: Batches) -> dict[str, float | None]:
        self.module.eval()
        totals = _Totals(self.engine)
        for batch in val.epoch(0):
            logits, targets = _infer(self.module, batch, engine=self.engine, front=self.front)
            with torch.inference_mode():
                totals.add(
                    summed_losses(self.criterion, logits, targets), correct_predictions(logits, targets), batch.count
                )
        loss, accuracy = totals.means()
        return {"val_loss": loss, "val_accuracy": accuracy}

    def _check_finite(self, totals: "_Totals", train: Batches, state: TrainerState) -> None:
        step = totals.first_not_finite()
        if step is None:
            return
        batch = next(iter(train.epoch(state.epoch, start=step)))
        samples = ", ".join(map(str, batch.indices[: batch.count].tolist()))
        raise TrainingError(
            f"the loss or its gradient was not finite at step {step + 1} of epoch {state.epoch + 1}, on the training "
            f"samples {samples}: look at these images, or lower the learning rate."
        )

    def _tell(self, event: str, *arguments: object) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(*arguments)


def predict_logits(
    module: nn.Module,
    batches: Batches,
    *,
    engine: Engine,
    front: Front = inputs_of,
    label: str = "predicting",
    progress: Progress = Silent(),  # noqa: B008 - it has no state
) -> tuple[Tensor, Tensor]:
    """The logits of every sample, in the order of the batches and without padding.

    Args:
        module: Maps features to logits; put into eval mode and left there.
        batches: Their epoch 0 is run.
        engine: Device and numerics; the module is placed on it.
        front: What happens to a batch before the module.
        label: What to call the work.
        label: What to call the work.
        progress: Told of each batch.

    Returns:
        Logits, float32 ``(N, K)``, and targets, int64 ``(N,)`` or float ``(N, K)``, both on the CPU.

    Raises:
        DataError: There are no batches.
    """
    engine.place(module)
    module.eval()
    results: list[tuple[Tensor, Tensor]] = []
    with engine.reproducible(), progress.task(label, len(batches), unit="batches") as advance:
        for batch in batches.epoch(0):
            results.append(_infer(module, batch, engine=engine, front=front))
            advance(1)
    if not results:
        raise DataError("there are no images to predict.")
    logits, targets = zip(*results, strict=True)
    return torch.cat(logits).cpu(), torch.cat(targets).cpu()


def _infer(module: nn.Module, batch: Batch, *, engine: Engine, front: Front) -> tuple[Tensor, Tensor]:
    """Float32 logits and targets of a batch's samples, on the device."""
    batch = engine.to_device(batch)
    with torch.inference_mode(), engine.autocast():
        logits = module(engine.lay_out(front(batch, False)))
    return logits[: batch.count].float(), batch.targets[: batch.count]


class _Totals:
    """An epoch's losses and counts, left on the device until they are asked for."""

    def __init__(self, engine: Engine) -> None:
        self.steps = 0
        self._engine = engine
        self._count = 0
        self._losses: list[Tensor] = []
        self._correct: list[Tensor] = []
        self._watched: list[Tensor] = []

    def add(self, loss: Tensor, correct: Tensor, count: int, *, watched: Tensor | None = None) -> None:
        """Add a batch: the sum of its losses, its right answers, its samples, and what has to be finite."""
        self.steps += 1
        self._count += count
        self._losses.append(loss.detach())
        self._correct.append(correct)
        if watched is not None:
            self._watched.append(watched)

    def first_not_finite(self) -> int | None:
        """The first step, from 0, whose watched value was not finite. Waits for the device."""
        if not self._watched:
            return None
        bad = torch.stack(self._watched).isfinite().logical_not().nonzero()
        return int(bad[0]) if len(bad) else None

    def means(self) -> tuple[float, float]:
        """Mean loss and accuracy over all processes' samples. Waits for the device."""
        if not self._count:
            raise DataError("there are no images in these batches.")
        loss = torch.stack(self._losses).cpu().double().sum()
        sums = torch.stack([loss, torch.stack(self._correct).cpu().sum().double(), torch.tensor(float(self._count))])
        loss_sum, correct, count = self._engine.all_sum(sums).tolist()
        return loss_sum / count, correct / count


def _in_words(row: dict[str, Any], last_epoch: int) -> str:
    text = f"epoch {row['epoch'] + 1}/{last_epoch + 1}  training loss {row['train_loss']:.4f}"
    text += f", accuracy {row['train_accuracy']:.1%}"
    if row["val_loss"] is not None:
        text += f"; validation loss {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.1%}"
    return f"{text}; {row['seconds']:.1f} s"
