"""Our multi-label figures against scikit-learn's."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    hamming_loss,
    log_loss,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
    roc_auc_score,
)

from zoo.errors import DataError, TrainingError
from zoo.tasks.label_metrics import best_thresholds, decisions, label_report


def sample(seed: int, size: int, labels: int, *, rounded: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = (torch.rand(size, labels, generator=generator) < torch.rand(labels, generator=generator)).float()
    logits = 2 * torch.randn(size, labels, generator=generator) + targets
    return (logits.round() if rounded else logits), targets


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 50), st.integers(1, 7), st.booleans())
def test_figures_equal_scikit_learns(seed: int, size: int, labels: int, rounded: bool) -> None:
    logits, targets = sample(seed, size, labels, rounded=rounded)
    thresholds = np.random.default_rng(seed).uniform(0.2, 0.8, labels).tolist()
    report = label_report(logits, targets, [str(i) for i in range(labels)], thresholds)
    probabilities, true = logits.double().sigmoid().numpy(), targets.int().numpy()
    predicted = (probabilities >= np.array(thresholds)).astype(int)

    assert report["count"] == size
    # With a single label scikit-learn takes the column for classes, whose accuracy is the same.
    assert report["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    assert report["label_accuracy"] == pytest.approx(1 - hamming_loss(true.ravel(), predicted.ravel()))
    loss = np.mean([log_loss(true[:, i], probabilities[:, i], labels=[0, 1]) for i in range(labels)])
    assert report["loss"] == pytest.approx(loss)
    each = [
        precision_recall_fscore_support(true[:, i], predicted[:, i], average="binary", zero_division=0)[:3]
        for i in range(labels)
    ]
    assert [[row["precision"], row["recall"], row["f1"]] for row in report["per_class"]] == [
        pytest.approx(list(row)) for row in each
    ]
    assert [report["precision"], report["recall"], report["f1"]] == pytest.approx(np.mean(each, axis=0).tolist())
    for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        micro = score(true.ravel(), predicted.ravel(), average="binary", zero_division=0)
        assert report[f"micro_{name}"] == pytest.approx(micro)
    averages = []
    for i, row in enumerate(report["per_class"]):
        assert row["support"] == true[:, i].sum()
        assert row["threshold"] == thresholds[i]
        if 0 < row["support"] < size:
            assert row["auroc"] == pytest.approx(roc_auc_score(true[:, i], logits[:, i]))
        else:
            assert row["auroc"] is None
        if row["support"]:
            averages.append(average_precision_score(true[:, i], logits[:, i]))
            assert row["average_precision"] == pytest.approx(averages[-1])
        else:
            assert row["average_precision"] is None
    assert report["map"] == (pytest.approx(np.mean(averages)) if averages else None)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.booleans())
def test_no_threshold_has_a_better_f1(seed: int, size: int, rounded: bool) -> None:
    logits, targets = sample(seed, size, 3, rounded=rounded)
    found = best_thresholds(logits, targets)
    probabilities = logits.double().sigmoid()
    given_labels = decisions(probabilities, found)
    for label, threshold in enumerate(found):
        true = targets[:, label]
        assert 0 < threshold < 1
        if true.sum() in (0, size):
            assert threshold == 0.5
            continue
        reached = f1_score(true, given_labels[:, label], zero_division=0)
        every = [f1_score(true, probabilities[:, label] >= p, zero_division=0) for p in probabilities[:, label]]
        assert reached == pytest.approx(max(every))


def test_a_threshold_lies_between_two_probabilities() -> None:
    logits = torch.tensor([[2.0], [1.0], [-1.0], [-2.0]])
    (threshold,) = best_thresholds(logits, torch.tensor([[1.0], [1], [0], [0]]))
    assert threshold == pytest.approx(0.5)
    (threshold,) = best_thresholds(logits, torch.tensor([[1.0], [0], [0], [0]]))
    assert threshold == pytest.approx(float(logits[:2].double().sigmoid().mean()))


def test_probabilities_that_cannot_be_told_apart_share_a_threshold() -> None:
    logits = torch.tensor([[90.0], [80.0], [-800.0]])
    (threshold,) = best_thresholds(logits, torch.tensor([[1.0], [0], [0]]))
    assert decisions(logits.double().sigmoid(), [threshold])[:, 0].tolist() == [True, True, False]


def test_what_cannot_be_scored_is_an_error() -> None:
    with pytest.raises(DataError, match="no images"):
        label_report(torch.zeros(0, 2), torch.zeros(0, 2), ["a", "b"], [0.5, 0.5])
    with pytest.raises(DataError, match="1 thresholds"):
        label_report(torch.zeros(2, 2), torch.zeros(2, 2), ["a", "b"], [0.5])
    with pytest.raises(TrainingError, match="1 of 2 images"):
        label_report(torch.tensor([[0.0], [float("nan")]]), torch.zeros(2, 1), ["a"], [0.5])
