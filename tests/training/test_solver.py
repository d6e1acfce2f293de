"""The converged linear head."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as SklearnRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from zoo.errors import OptionError
from zoo.recipes import Phase, without_effect
from zoo.training import Trainer
from zoo.training.batches import Batch
from zoo.training.engine import Engine, Numerics
from zoo.training.losses import BinaryCrossEntropy, CrossEntropy, balanced_class_weights
from zoo.training.scoring import ManyLabels
from zoo.training.solver import LogisticRegression, penalties, solve

ENGINE = Engine(torch.device("cpu"), Numerics("float32", False, 16, torch.get_num_threads(), {}))


class Rows:
    """Batches of a tensor in memory."""

    def __init__(self, inputs: Tensor, targets: Tensor, size: int = 16) -> None:
        self.inputs, self.targets, self.size = inputs, targets, size

    def __len__(self) -> int:
        return -(-len(self.inputs) // self.size)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        for rows in torch.arange(len(self.inputs)).split(self.size)[start:]:
            yield Batch(self.inputs[rows], self.targets[rows], rows, len(rows))


def samples(n: int = 150, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Three overlapping clouds in 6 dimensions of very different scales."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 3, n)
    centres = np.random.default_rng(9).normal(0, 1, (3, 6))
    inputs = (centres[targets] + generator.normal(0, 1.5, (n, 6))) * [1, 10, 0.1, 1, 100, 1] + [0, 5, 0, 100, 0, 1]
    return torch.from_numpy(inputs).float(), torch.from_numpy(targets)


@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
@pytest.mark.parametrize("balanced", [False, True])
def test_it_finds_what_scikit_learn_finds(penalty: float, balanced: bool) -> None:
    inputs, targets = samples()
    weights = balanced_class_weights(targets, 3) if balanced else None
    fit = LogisticRegression(
        inputs.clone(), targets, num_classes=3, criterion=CrossEntropy(class_weights=weights), engine=ENGINE
    ).fit(penalty)
    scaler = StandardScaler().fit(inputs.double())
    reference = SklearnRegression(
        C=1 / (len(inputs) * penalty), tol=1e-10, max_iter=5000, class_weight="balanced" if balanced else None
    ).fit(scaler.transform(inputs.double()), targets)
    expected = reference.decision_function(scaler.transform(inputs.double()))
    found = inputs @ fit.weight.T + fit.bias
    centred = found - found.mean(1, keepdim=True)
    assert np.abs(centred.numpy() - expected).max() <= 2e-3 * np.abs(expected).max()
    assert fit.gradient <= 1e-4


def test_a_feature_that_never_changes_gets_no_weight() -> None:
    inputs, targets = samples()
    inputs[:, 2] = 7.1
    fit = LogisticRegression(inputs, targets, num_classes=3, criterion=CrossEntropy(), engine=ENGINE).fit(1e-3)
    assert torch.equal(fit.weight[:, 2], torch.zeros(3))


def solved(module: nn.Module, *, n: int = 150, **changes: Any) -> Any:
    train, val = samples(n), samples(60, seed=1)
    criterion = changes.pop("criterion", None) or CrossEntropy()
    trainer = Trainer(module, engine=ENGINE, criterion=criterion)
    phase = Phase(**{"epochs": 7, "train": "head", "solver": "lbfgs", **changes})
    return solve(trainer, Rows(*train), Rows(*val), phase=phase)


def test_validation_chooses_the_penalty_and_the_layer_holds_its_solution() -> None:
    layer = nn.Linear(6, 3)
    result = solved(nn.Sequential(nn.Dropout(0.5), layer))
    assert [row["penalty"] for row in result.history] == penalties(7)
    ranks = [(row["val_accuracy"], -row["val_loss"]) for row in result.history]
    assert ranks[result.best_epoch] == max(ranks)
    inputs, targets = samples(60, seed=1)
    with torch.inference_mode():
        logits = layer(inputs)
    assert nn.functional.cross_entropy(logits, targets).item() == pytest.approx(result.best["val_loss"], rel=1e-5)
    weak_to_strong = [row["train_loss"] for row in reversed(result.history)]
    assert weak_to_strong == sorted(weak_to_strong)


def test_equal_calls_give_equal_bytes() -> None:
    layers = [nn.Linear(6, 3), nn.Linear(6, 3)]
    for layer in layers:
        solved(layer)
    assert torch.equal(layers[0].weight, layers[1].weight)
    assert torch.equal(layers[0].bias, layers[1].bias)


def test_without_validation_there_is_one_penalty() -> None:
    layer = nn.Linear(6, 3)
    trainer = Trainer(layer, engine=ENGINE, criterion=CrossEntropy())
    result = solve(trainer, Rows(*samples()), phase=Phase(epochs=7, train="head", solver="lbfgs"))
    assert [row["penalty"] for row in result.history] == [1e-3]
    assert result.best["val_loss"] is None


def test_several_labels_an_image_are_fitted_too() -> None:
    inputs, classes = samples()
    targets = nn.functional.one_hot(classes, 3).float()
    layer = nn.Linear(6, 3)
    trainer = Trainer(layer, engine=ENGINE, criterion=BinaryCrossEntropy(), scoring=ManyLabels())
    rows = Rows(inputs, targets)
    result = solve(trainer, rows, rows, phase=Phase(epochs=3, train="head", solver="lbfgs", monitor="map"))
    assert result.best["train_accuracy"] > 0.4
    assert result.best["val_map"] > 0.7


def test_a_layer_without_bias_stays_without() -> None:
    layer = nn.Linear(6, 3, bias=False)
    result = solved(layer)
    assert result.best["val_accuracy"] > 0.5


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)),
        nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)),
        nn.Sequential(nn.Linear(6, 3), nn.Softplus(), nn.Flatten(), nn.Unflatten(1, (3, 1)), nn.Flatten(2)),
    ],
    ids=["two layers", "a norm too", "not the last"],
)
def test_anything_but_one_last_linear_layer_is_refused(module: nn.Module) -> None:
    with pytest.raises(OptionError, match="lbfgs"):
        solved(module)


def test_frozen_layers_before_it_are_no_hindrance() -> None:
    body = nn.Linear(6, 5).requires_grad_(False)
    before = body.weight.clone()
    result = solved(nn.Sequential(body, nn.Tanh(), nn.Linear(5, 3)))
    assert result.best["val_accuracy"] > 0.4
    assert torch.equal(body.weight, before)


def test_patience_ends_the_search() -> None:
    result = solved(nn.Linear(6, 3), n=30, epochs=20, patience=2)
    assert len(result.history) < 20
    assert len(result.history) == result.best_epoch + 3


@pytest.mark.parametrize(
    "changes",
    [{"train": "all"}, {"augment": "light"}, {"mixup": 0.2}, {"ema": 0.9}, {"lr": "auto"}],
    ids=lambda changes: next(iter(changes)),
)
def test_what_makes_no_sense_with_it_is_said(changes: dict[str, Any]) -> None:
    assert "lbfgs" in without_effect(Phase(**{"epochs": 3, "train": "head", "solver": "lbfgs", **changes}))
