"""Losses one a sample."""

import pytest
import torch
from torch import nn

from zoo.training.losses import CrossEntropy, balanced_class_weights, correct_predictions, summed_losses

LOGITS = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(12) % 4


def test_the_mean_equals_torchs_loss() -> None:
    losses = CrossEntropy(label_smoothing=0.1)(LOGITS, TARGETS)
    assert losses.shape == (12,)
    torch.testing.assert_close(losses.mean(), nn.CrossEntropyLoss(label_smoothing=0.1)(LOGITS, TARGETS))


def test_soft_targets_that_are_certain_equal_hard_ones() -> None:
    certain = nn.functional.one_hot(TARGETS, 4).float()
    torch.testing.assert_close(CrossEntropy()(LOGITS, certain), CrossEntropy()(LOGITS, TARGETS))
    assert correct_predictions(LOGITS, certain) == correct_predictions(LOGITS, TARGETS)


def test_a_criterion_that_averages_sums_to_the_same() -> None:
    torch.testing.assert_close(
        summed_losses(nn.CrossEntropyLoss(), LOGITS, TARGETS), summed_losses(CrossEntropy(), LOGITS, TARGETS)
    )


def test_losses_are_taken_in_float32() -> None:
    assert summed_losses(CrossEntropy(), LOGITS.bfloat16(), TARGETS).dtype == torch.float32


def test_balanced_weights_give_every_class_the_same_say() -> None:
    labels = [0] * 6 + [1] * 3 + [3]
    weights = balanced_class_weights(labels, 4)
    assert weights.tolist() == pytest.approx([10 / 18, 10 / 9, 1.0, 10 / 3])
    assert weights[torch.tensor(labels)].mean().item() == pytest.approx(1)
    losses = CrossEntropy(class_weights=weights)(LOGITS[:10], torch.tensor(labels))
    torch.testing.assert_close(
        losses, weights[torch.tensor(labels)] * CrossEntropy()(LOGITS[:10], torch.tensor(labels))
    )


def test_right_answers_are_counted() -> None:
    assert correct_predictions(LOGITS, TARGETS) == int((LOGITS.argmax(1) == TARGETS).sum())
