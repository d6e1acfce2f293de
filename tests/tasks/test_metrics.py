"""Our figures against scikit-learn's."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)

from zoo.errors import DataError, TrainingError
from zoo.tasks.metrics import classification_report, expected_calibration_error, majority_accuracy


def sample(seed: int, size: int, num_classes: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, num_classes, (size,), generator=generator)
    logits = 3 * torch.randn(size, num_classes, generator=generator)
    logits[torch.arange(size), targets] += 2 * torch.rand(size, generator=generator)
    return logits, targets, [f"class {i}" for i in range(num_classes)]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.integers(1, 60), num_classes=st.integers(2, 12))
def test_figures_equal_scikit_learns(seed: int, size: int, num_classes: int) -> None:
    logits, targets, classes = sample(seed, size, num_classes)
    report = classification_report(logits, targets, classes)
    predictions = logits.argmax(dim=1)
    labels = list(range(num_classes))

    assert report["confusion"] == confusion_matrix(targets, predictions, labels=labels).tolist()
    assert report["accuracy"] == pytest.approx(accuracy_score(targets, predictions))
    each = precision_recall_fscore_support(targets, predictions, labels=labels, zero_division=0)
    for position, key in enumerate(["precision", "recall", "f1", "support"]):
        assert [row[key] for row in report["per_class"]] == pytest.approx(each[position].tolist())
    mean = precision_recall_fscore_support(targets, predictions, labels=labels, average="macro", zero_division=0)
    assert [report["precision"], report["recall"], report["f1"]] == pytest.approx(list(mean[:3]))
    probabilities = logits.double().softmax(dim=1).numpy()
    assert report["loss"] == pytest.approx(log_loss(targets, probabilities, labels=labels))
    if num_classes > 5:
        top5 = top_k_accuracy_score(targets, logits, k=5, labels=labels)
        assert report["top5"] == pytest.approx(top5)
    else:
        assert "top5" not in report


def test_the_report_is_plain_json() -> None:
    report = classification_report(*sample(0, 40, 7))
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["count"] == 40


def test_one_class_is_always_right() -> None:
    report = classification_report(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64), ["only"])
    assert (report["accuracy"], report["loss"], report["f1"], report["calibration_error"]) == (1, 0, 1, 0)


def test_soft_targets_count_by_their_largest() -> None:
    logits, targets, classes = sample(1, 30, 4)
    soft = 0.1 + torch.nn.functional.one_hot(targets, 4).float()
    assert classification_report(logits, soft, classes) == classification_report(logits, targets, classes)


def test_the_majority_is_the_share_of_the_most_frequent_class() -> None:
    assert majority_accuracy(torch.tensor([0, 2, 2, 1, 2])) == 0.6


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.integers(1, 80), num_classes=st.integers(2, 8))
def test_calibration_error_equals_its_definition(seed: int, size: int, num_classes: int) -> None:
    logits, targets, _ = sample(seed, size, num_classes)
    probabilities = logits.double().softmax(dim=1).numpy()
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets.numpy()
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert expected_calibration_error(logits, targets) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("logits", "targets", "error", "says"),
    [
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), DataError, "no images"),
        (torch.zeros(2, 3), torch.tensor([0, 1]), DataError, r"\(2, 3\) do not fit 2 images, 2 classes"),
        (torch.tensor([[0.0, float("nan")], [1, 0]]), torch.tensor([0, 1]), TrainingError, "1 of 2 images"),
    ],
)
def test_what_cannot_be_scored_is_an_error(logits: Any, targets: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        classification_report(logits, targets, ["a", "b"])
