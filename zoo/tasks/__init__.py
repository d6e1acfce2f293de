"""What a model answers with, one class an image or any number of labels, and all that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from zoo.data import Label
from zoo.errors import OptionError
from zoo.recipes import Phase, Recipe
from zoo.tasks.label_metrics import EVEN, best_thresholds, decisions, label_report
from zoo.tasks.metrics import classification_report
from zoo.training.losses import (
    BinaryCrossEntropy,
    Criterion,
    CrossEntropy,
    balanced_class_weights,
    balanced_label_weights,
)
from zoo.training.scoring import ManyLabels, OneClass, Scoring

TaskName = Literal["single-label", "multi-label"]


class Task(Protocol):
    """From labels to targets, from targets to a loss, and from logits to figures and answers."""

    @property
    def name(self) -> TaskName:
        """What artifacts and commands call it."""

    @property
    def scoring(self) -> Scoring:
        """What the trainer counts as right."""

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The probability of each label from which on it is given; empty where the largest decides."""

    def suited(self, recipe: Recipe) -> Recipe:
        """The recipe with what ``"auto"`` means for this task in its place.

        Raises:
            OptionError: A phase asks for what the task does not have.
        """

    def targets(self, labels: Sequence[Label], num_classes: int) -> Tensor:
        """The targets of images with these labels, with N first."""

    def aligned(self, targets: Tensor, positions: Sequence[int], num_classes: int) -> Tensor:
        """Targets for a model with other classes: class i of the targets is its class ``positions[i]``."""

    def criterion(self, phase: Phase, targets: Tensor, num_classes: int) -> Criterion:
        """The loss of a phase on training samples with these targets."""

    def decided_on(self, logits: Tensor, targets: Tensor) -> Task:
        """The task with what is to be decided on validation samples."""

    def report(self, logits: Tensor, targets: Tensor, classes: Sequence[str]) -> dict[str, Any]:
        """The figures, in plain values."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities ``(N, K)`` of logits ``(N, K)``."""

    def answers(self, probabilities: Tensor) -> list[list[int]]:
        """For each row of probabilities ``(N, K)`` the classes that it is given, the most probable first."""


@dataclass(frozen=True)
class SingleLabel:
    """One class an image: softmax, cross-entropy, and the largest logit decides."""

    name: TaskName = "single-label"
    scoring: Scoring = OneClass()
    thresholds: tuple[float, ...] = ()

    def suited(self, recipe: Recipe) -> Recipe:
        """See :class:`Task`."""
        if any(phase.monitor == "map" for phase in recipe.phases):
            raise OptionError(
                f'recipe {recipe.name!r} has monitor = "map", mean average precision, which is for data with several '
                "labels an image; these images have one class each."
            )
        return _monitoring(recipe, "accuracy")

    def targets(self, labels: Sequence[Label], num_classes: int) -> Tensor:
        """Class indices, int64 ``(N,)``."""
        return torch.tensor(labels, dtype=torch.int64)

    def aligned(self, targets: Tensor, positions: Sequence[int], num_classes: int) -> Tensor:
        """See :class:`Task`."""
        return torch.tensor(positions)[targets]

    def criterion(self, phase: Phase, targets: Tensor, num_classes: int) -> Criterion:
        """Cross-entropy."""
        weights = balanced_class_weights(targets, num_classes) if phase.class_weights == "balanced" else None
        return CrossEntropy(label_smoothing=phase.label_smoothing, class_weights=weights)

    def decided_on(self, logits: Tensor, targets: Tensor) -> Task:
        """Nothing is decided."""
        return self

    def report(self, logits: Tensor, targets: Tensor, classes: Sequence[str]) -> dict[str, Any]:
        """As :func:`zoo.tasks.metrics.classification_report` gives it."""
        return classification_report(logits, targets, classes)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Their softmax."""
        return logits.softmax(1)

    def answers(self, probabilities: Tensor) -> list[list[int]]:
        """One class each."""
        return probabilities.argmax(dim=1, keepdim=True).tolist()


@dataclass(frozen=True)
class MultiLabel:
    """Any number of labels an image: one sigmoid and one decision for each.

    Attributes:
        thresholds: The probability of each label from which on it is given; empty for one half everywhere.
    """

    thresholds: tuple[float, ...] = ()
    name: TaskName = "multi-label"
    scoring: Scoring = ManyLabels()

    def suited(self, recipe: Recipe) -> Recipe:
        """See :class:`Task`."""
        if any(phase.sampling == "balanced" for phase in recipe.phases):
            raise OptionError(
                f'recipe {recipe.name!r} has sampling = "balanced", which needs one class an image; these images have '
                'several labels: use class_weights = "balanced".'
            )
        return _monitoring(recipe, "map")

    def targets(self, labels: Sequence[Label], num_classes: int) -> Tensor:
        """float32 ``(N, K)`` of 0 and 1."""
        targets = torch.zeros(len(labels), num_classes)
        for row, label in zip(targets, labels, strict=True):
            row[list(label) if isinstance(label, tuple) else label] = 1
        return targets

    def aligned(self, targets: Tensor, positions: Sequence[int], num_classes: int) -> Tensor:
        """See :class:`Task`; a label that the targets do not have is absent."""
        aligned = torch.zeros(len(targets), num_classes)
        aligned[:, positions] = targets
        return aligned

    def criterion(self, phase: Phase, targets: Tensor, num_classes: int) -> Criterion:
        """Binary cross-entropy, the mean over the labels."""
        weights = balanced_label_weights(targets) if phase.class_weights == "balanced" else None
        return BinaryCrossEntropy(label_smoothing=phase.label_smoothing, positive_weights=weights)

    def decided_on(self, logits: Tensor, targets: Tensor) -> Task:
        """With the thresholds that maximise each label's F1."""
        return replace(self, thresholds=best_thresholds(logits, targets))

    def report(self, logits: Tensor, targets: Tensor, classes: Sequence[str]) -> dict[str, Any]:
        """As :func:`zoo.tasks.label_metrics.label_report` gives it."""
        return label_report(logits, targets, classes, self.thresholds or (EVEN,) * len(classes))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Their sigmoid, float64."""
        return logits.double().sigmoid()

    def answers(self, probabilities: Tensor) -> list[list[int]]:
        """The labels whose probabilities reach their thresholds."""
        given = decisions(probabilities, self.thresholds or (EVEN,) * probabilities.shape[1])
        order = probabilities.argsort(dim=1, descending=True, stable=True)
        return [[i for i in row.tolist() if chosen[i]] for row, chosen in zip(order, given, strict=True)]


def task_of(name: str, thresholds: Sequence[float] = ()) -> Task:
    """The task of an artifact or a data set.

    Args:
        name: ``"single-label"`` or ``"multi-label"``.
        thresholds: For ``"multi-label"``, one a label, or none for one half everywhere.
    """
    return MultiLabel(tuple(thresholds)) if name == "multi-label" else SingleLabel()


def _monitoring(recipe: Recipe, metric: Literal["accuracy", "map"]) -> Recipe:
    phases = (replace(phase, monitor=metric) if phase.monitor == "auto" else phase for phase in recipe.phases)
    return replace(recipe, phases=tuple(phases))
