"""What a training would do and cost, without doing it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from zoo.labelled import LabelledImages
from zoo.models import Model
from zoo.recipes import Phase, Recipe
from zoo.training.engine import Engine

_TIMED_IMAGES = 8


@dataclass(frozen=True)
class PlannedPhase:
    """What one phase would do.

    Attributes:
        train: What it trains.
        epochs: Epochs at most.
        steps: Optimizer steps at most.
        trained_parameters: Values that train.
        frozen_stages: Names of the stages that are frozen.
        seconds: Estimated time, reading of images left out.
    """

    train: str
    epochs: int
    steps: int
    trained_parameters: int
    frozen_stages: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What a training would do.

    Attributes:
        folder: Where the run would go.
        architecture: Full name.
        weights: Where its values come from.
        images: Number of images in each split.
        recipe: The recipe's name.
        phases: What each phase would do.
    """

    folder: Path
    architecture: str
    weights: str
    images: dict[str, int]
    recipe: str
    phases: tuple[PlannedPhase, ...]

    def summary(self) -> dict[str, Any]:
        """The document that ``zoo finetune --dry-run --json`` prints."""
        return {
            "folder": str(self.folder),
            "architecture": self.architecture,
            "weights": self.weights,
            "images": self.images,
            "recipe": self.recipe,
            "phases": [phase.__dict__ | {"seconds": round(phase.seconds, 1)} for phase in self.phases],
            "seconds": round(sum(phase.seconds for phase in self.phases), 1),
        }

    def text(self) -> str:
        """The same for a person."""
        lines = [
            f"would train {self.architecture} ({self.weights}) with recipe {self.recipe!r} into {self.folder}",
            f"  images: {', '.join(f'{split} {count}' for split, count in self.images.items())}",
        ]
        lines += [
            f"  phase {i}: trains {phase.train} ({phase.trained_parameters:,} parameters) for {phase.epochs} epochs of "
            f"{phase.steps // phase.epochs} steps; frozen: {', '.join(phase.frozen_stages) or 'nothing'}; "
            f"about {phase.seconds:.0f} s"
            for i, phase in enumerate(self.phases, start=1)
        ]
        return "\n".join([*lines, "nothing was written."])


def estimate(
    model: Model, images: LabelledImages, recipe: Recipe, *, engine: Engine, folder: Path, cache: bool = True
) -> Plan:
    """Plan a training; its cost is estimated from one step on a few made-up images.

    Args:
        model: What would train.
        images: On what.
        recipe: How.
        engine: Device and numerics.
        folder: Where the run would go.
        cache: Whether features of frozen parts would be kept.
    """
    chain = model.chain()
    phases = []
    for phase in recipe.phases:
        cut = chain.cut(phase.train)
        parameters = dict(chain.model.named_parameters())
        steps = phase.epochs * len(images.batches("train", batch_size=phase.batch_size, train=True))
        count = len(images.targets("train"))
        phases.append(
            PlannedPhase(
                train=phase.train,
                epochs=phase.epochs,
                steps=steps,
                trained_parameters=sum(parameters[name].numel() for name in cut.trained),
                frozen_stages=chain.names[: cut.frozen_stages],
                seconds=_seconds(
                    model, phase, engine, images=count, all_images=sum(images.counts().values()), cache=cache
                ),
            )
        )
    weights = model.source.spec or "random values"
    return Plan(folder, model.architecture.full_name, weights, images.counts(), recipe.name, tuple(phases))


def _seconds(model: Model, phase: Phase, engine: Engine, *, images: int, all_images: int, cache: bool) -> float:
    """Of a whole phase; a frozen part whose features are kept runs once over the images of all splits."""
    frozen, trained = _seconds_an_image(model, phase, engine)
    runs_once = cache and (phase.augment == "none" or phase.views > 0)
    passes = all_images + max(0, phase.views - 1) * images if runs_once else phase.epochs * images
    return passes * frozen + phase.epochs * images * trained


def _seconds_an_image(model: Model, phase: Phase, engine: Engine) -> tuple[float, float]:
    """Of the frozen part, and of the part that trains, forward and backward."""
    module: nn.Module = copy.deepcopy(model.module)
    chain = model.hooks.chain(model.architecture, module)
    cut = chain.cut(phase.train)
    chain.freeze(cut, batch_norm=phase.batch_norm)
    engine.place(module)
    frozen, trained = chain.part(0, cut.frozen_stages), chain.part(cut.frozen_stages)
    inputs = engine.lay_out(torch.zeros(_TIMED_IMAGES, *model.preprocessing.input_size, device=engine.device))
    seconds: list[tuple[float, float]] = []
    for _ in range(2):
        started = perf_counter()
        with engine.autocast():
            with torch.no_grad():
                features = frozen(inputs)
            first = features[0] if isinstance(features, tuple) else features
            float(first.float().flatten()[0])
            halfway = perf_counter()
            outputs = trained(features)
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        float(logits.float().sum().detach())
        logits.float().sum().backward()
        seconds.append((halfway - started, perf_counter() - halfway))
    quickest = min(seconds, key=sum)
    return quickest[0] / _TIMED_IMAGES, quickest[1] / _TIMED_IMAGES
