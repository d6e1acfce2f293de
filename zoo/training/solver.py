"""A linear head fitted to convergence: regularised logistic regression by L-BFGS, the penalty chosen on validation."""

from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import DataError, OptionError, TrainingError
from zoo.recipes import Phase
from zoo.training.batches import Batches
from zoo.training.best import BestState
from zoo.training.callbacks import TrainerState
from zoo.training.engine import Engine
from zoo.training.inference import infer
from zoo.training.losses import Criterion, summed_losses
from zoo.training.schedule import metric_of
from zoo.training.trainer import FitResult, Trainer

# Penalties on standardised features between which every data set of the transfer literature has its best one.
_STRONGEST, _WEAKEST = 1.0, 1e-6
_ONLY = 1e-3
_MOST_ITERATIONS = 500
# The largest partial derivative of the mean loss at which it counts as converged.
_CONVERGED = 1e-5
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class LinearFit:
    """A linear layer that minimises mean loss plus ``penalty / 2`` times its squared weights.

    The weights that are penalised are those for features brought to mean 0 and standard deviation 1, so one grid of
    penalties fits all backbones; what is stored here is for the features as they are.

    Attributes:
        penalty: As above.
        weight: float32 ``(K, D)``.
        bias: float32 ``(K,)``, or None for a layer without.
        iterations: Steps of L-BFGS.
        gradient: Largest partial derivative at the end, by magnitude.
    """

    penalty: float
    weight: Tensor
    bias: Tensor | None
    iterations: int
    gradient: float


def penalties(count: int) -> list[float]:
    """So many penalties from strong to weak, evenly spaced by ratio."""
    if count == 1:
        return [_ONLY]
    ratio = (_WEAKEST / _STRONGEST) ** (1 / (count - 1))
    return [float(f"{_STRONGEST * ratio**i:.6g}") for i in range(count)]


class LogisticRegression:
    """Fits a linear layer for one penalty after the other, each from the solution of the one before.

    With several processes each holds its own samples, and all find the same layer.

    Args:
        features: float32 ``(N, D)`` on the engine's device; standardised in place.
        targets: int64 ``(N,)`` or float32 ``(N, K)``.
        num_classes: K.
        criterion: Losses of logits and targets.
        engine: Device and processes.
        has_bias: Whether the layer has one.
    """

    def __init__(
        self,
        features: Tensor,
        targets: Tensor,
        *,
        num_classes: int,
        criterion: Criterion,
        engine: Engine,
        has_bias: bool = True,
    ) -> None:
        self._targets = targets
        self._criterion = criterion
        self._engine = engine
        sums = torch.cat([features.sum(0, dtype=torch.float64), features.new_tensor([len(features)]).double()])
        sums = engine.all_sum(sums.cpu())
        self._count = float(sums[-1])
        if not self._count:
            raise DataError("there are no images in these batches.")
        self._mean = (sums[:-1] / self._count).to(features) if has_bias else torch.zeros_like(features[0])
        features -= self._mean
        squares = engine.all_sum(features.square().sum(0, dtype=torch.float64).cpu())
        deviation = (squares / self._count).sqrt().to(features)
        # A feature that never changes says nothing; dividing by its rounding errors would make it say something.
        self._scale = torch.where(deviation > 1e-6 * (self._mean.abs() + 1), deviation, torch.inf).reciprocal()
        self._features = features.mul_(self._scale)
        shape = (num_classes, features.shape[1])
        self._weight = torch.zeros(shape, device=features.device, requires_grad=True)
        self._bias = torch.zeros(num_classes, device=features.device, requires_grad=has_bias)
        self._parameters = [self._weight, self._bias] if has_bias else [self._weight]

    def fit(self, penalty: float) -> LinearFit:
        """The layer for one penalty.

        Raises:
            TrainingError: The loss is not finite.
        """
        optimizer = torch.optim.LBFGS(
            self._parameters,
            max_iter=_MOST_ITERATIONS,
            tolerance_grad=_CONVERGED,
            tolerance_change=1e-9,
            history_size=20,
            line_search_fn="strong_wolfe",
        )
        optimizer.step(lambda: self._objective(penalty))  # type: ignore[no-untyped-call]
        gradient = max(float(p.grad.abs().max()) for p in self._parameters if p.grad is not None)
        with torch.no_grad():
            weight = self._weight * self._scale
            bias = self._bias - weight @ self._mean if len(self._parameters) > 1 else None
        if not weight.isfinite().all():
            raise TrainingError("the loss of the linear head was not finite: are the features?")
        iterations = int(optimizer.state[self._weight]["n_iter"])
        return LinearFit(penalty, weight, bias, iterations, gradient)

    def logits(self) -> Tensor:
        """Those of this process's samples under the last fit, ``(N, K)``."""
        with torch.no_grad():
            return self._features @ self._weight.T + self._bias

    def _objective(self, penalty: float) -> Tensor:
        sizes = [p.numel() for p in self._parameters]
        for parameter in self._parameters:
            parameter.grad = None
        total = torch.zeros((), dtype=torch.float64, device=self._features.device)
        for start in range(0, len(self._features), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            loss = summed_losses(
                self._criterion, self._features[rows] @ self._weight.T + self._bias, self._targets[rows]
            )
            torch.autograd.backward(loss)
            total += loss.detach()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        joined = torch.cat([total.reshape(1), *(g.double().flatten() for g in gradients)])
        if self._engine.world_size > 1:
            joined = self._engine.all_sum(joined.cpu()).to(joined.device)
        joined /= self._count
        for parameter, gradient in zip(self._parameters, torch.split(joined[1:], sizes), strict=True):
            parameter.grad = gradient.view_as(parameter).to(parameter.dtype)
        with torch.no_grad():
            assert self._weight.grad is not None
            self._weight.grad += penalty * self._weight
            return joined[0] + penalty / 2 * self._weight.double().square().sum()


def solve(
    trainer: Trainer,
    train: Batches,
    val: Batches | None = None,
    *,
    phase: Phase,
    views: int = 1,
    phase_index: int = 0,
    first_epoch: int = 0,
    first_step: int = 0,
) -> FitResult:
    """Fit the one linear layer that trains, in place of :meth:`Trainer.fit`; a penalty is what an epoch is there.

    Args:
        trainer: Of a module whose only trainable parameters are those of one linear layer, the last.
        train: Training batches.
        val: Validation batches, which choose the penalty; without them it is 1e-3.
        phase: ``epochs`` is the number of penalties, ``monitor`` and ``patience`` count as in training.
        views: Epochs of ``train`` whose samples differ; all are used.
        phase_index: Position in the recipe, from 0.
        first_epoch: Epochs of the phases before.
        first_step: Steps of the phases before.

    Raises:
        OptionError: Something else than one linear layer trains.
        TrainingError: The loss was not finite.
    """
    layer = linear_layer(trainer.module)
    choices = penalties(phase.epochs if val is not None else 1)
    state = TrainerState(phase, phase_index, trainer.module, len(choices), epoch=first_epoch, step=first_step)
    best = BestState(trainer.module, torch.optim.SGD(list(layer.parameters()), lr=0.0), monitor=phase.monitor)
    history: list[dict[str, Any]] = []
    with trainer.engine.reproducible():
        trainer.module.eval()
        if val is not None and phase_index > 0:
            before = {"phase": phase_index, "epoch": first_epoch - 1, "step": first_step}
            best.offer({**before, **_validated(trainer, val, phase)})
        features, targets = _inputs_of(trainer, train, layer, views)
        regression = LogisticRegression(
            features,
            targets,
            num_classes=layer.out_features,
            criterion=trainer.criterion,
            engine=trainer.engine,
            has_bias=layer.bias is not None,
        )
        _tell(trainer, "on_phase_start", state)
        with trainer.progress.task("fitting", len(choices), unit="penalties") as advance:
            for penalty in choices:
                started = perf_counter()
                fit = regression.fit(penalty)
                _put(fit, layer)
                state.step += 1
                state.step_in_phase += 1
                row: dict[str, Any] = {"phase": phase_index, "epoch": state.epoch, "step": state.step, "lr": 0.0}
                row |= {"penalty": penalty, **_trained(trainer, regression, targets)}
                row |= {"val_loss": None, "val_accuracy": None} if val is None else _validated(trainer, val, phase)
                row["seconds"] = perf_counter() - started
                best.offer(row)
                history.append(row)
                trainer.progress.note(_in_words(row, fit))
                advance(1)
                _tell(trainer, "on_epoch_end", state, row)
                state.epoch += 1
                if phase.patience is not None and row["epoch"] - best.row.get("epoch", -1) >= phase.patience:
                    break
        best.restore()
        _tell(trainer, "on_phase_end", state)
    return FitResult(history, best.row["epoch"], best.row)


def linear_layer(module: nn.Module) -> nn.Linear:
    """The one linear layer that trains in a module.

    Raises:
        OptionError: There is another number of them, or something else trains too.
    """
    training = {id(p) for p in module.parameters() if p.requires_grad}
    layers = [m for m in module.modules() if isinstance(m, nn.Linear) and id(m.weight) in training]
    if len(layers) != 1 or {id(p) for p in layers[0].parameters()} != training:
        raise OptionError(
            f'solver = "lbfgs" fits one linear layer, and {len(layers)} linear layers with {len(training)} tensors '
            'train here; use it with train = "head" on a model whose head is one linear layer, or the usual optimizer.'
        )
    return layers[0]


def _inputs_of(trainer: Trainer, train: Batches, layer: nn.Linear, views: int) -> tuple[Tensor, Tensor]:
    """What enters the layer for every training sample, float32 ``(N, D)``, and the targets."""
    seen: list[Tensor] = []
    given: list[Tensor] = []

    def watch(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(inputs[0])
        given.append(output)

    features: list[Tensor] = []
    targets: list[Tensor] = []
    handle = layer.register_forward_hook(watch)
    try:
        for epoch in range(views):
            for batch in train.epoch(epoch):
                seen.clear()
                logits, labels = infer(
                    trainer.module, replace(batch, epoch=epoch), engine=trainer.engine, front=trainer.front
                )
                inputs = torch.cat(seen)[: batch.count].float()
                if inputs.ndim != 2 or given[-1].shape[1:] != logits.shape[1:]:
                    raise OptionError(
                        'solver = "lbfgs" needs a model whose last layer is linear and reads one vector an image.'
                    )
                features.append(inputs)
                targets.append(labels)
    finally:
        handle.remove()
    if not features:
        return torch.empty(0, layer.in_features, device=trainer.engine.device), torch.empty(0, dtype=torch.int64)
    # Copies out of inference mode, whose tensors cannot enter a gradient.
    return torch.cat(features).clone(), torch.cat(targets).clone()


def _put(fit: LinearFit, layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight.copy_(fit.weight)
        if fit.bias is not None:
            layer.bias.copy_(fit.bias)


def _trained(trainer: Trainer, regression: LogisticRegression, targets: Tensor) -> dict[str, float]:
    logits = regression.logits()
    figures = [summed_losses(trainer.criterion, logits, targets), trainer.scoring.right(logits, targets)]
    sums = torch.stack([*(x.detach().cpu().double() for x in figures), torch.tensor(float(len(targets))).double()])
    loss, right, count = trainer.engine.all_sum(sums).tolist()
    return {"train_loss": loss / count, "train_accuracy": right / count}


def _validated(trainer: Trainer, val: Batches, phase: Phase) -> dict[str, float]:
    totals = trainer.scoring.totals(trainer.engine)
    for batch in val.epoch(0):
        logits, targets = infer(trainer.module, batch, engine=trainer.engine, front=trainer.front)
        with torch.inference_mode():
            totals.add(summed_losses(trainer.criterion, logits, targets), logits, targets)
    row = totals.row()
    return {name: row[name] for name in ("val_loss", "val_accuracy", f"val_{metric_of(phase.monitor)}")}


def _tell(trainer: Trainer, event: str, *arguments: object) -> None:
    for callback in trainer.callbacks:
        getattr(callback, event)(*arguments)


def _in_words(row: dict[str, Any], fit: LinearFit) -> str:
    text = f"penalty {fit.penalty:.0e}  training loss {row['train_loss']:.4f}, accuracy {row['train_accuracy']:.1%}"
    if row["val_loss"] is not None:
        text += f"; validation loss {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.1%}"
    converged = "" if fit.iterations < _MOST_ITERATIONS else ", not converged"
    return f"{text}; {fit.iterations} iterations{converged}, {row['seconds']:.1f} s"
