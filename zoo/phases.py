"""Running a recipe's phases on a model, with proof that what each phase froze stayed as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from zoo.architecture import Preprocessing
from zoo.chain import Chain, Cut, StageSequence, combined_digest
from zoo.data import augment_batch, normalise
from zoo.errors import FreezeError
from zoo.progress import Progress, Silent
from zoo.recipes import Augment, Phase, Recipe
from zoo.training.batches import Batch, Batches
from zoo.training.callbacks import Callback
from zoo.training.engine import Engine, Features
from zoo.training.losses import Criterion, CrossEntropy, balanced_class_weights
from zoo.training.trainer import Trainer

MakeCriterion = Callable[[Phase], Criterion]


class TrainingImages(Protocol):
    """Where a phase's batches come from."""

    def batches(self, split: str, *, batch_size: int, augment: Augment = "none", train: bool = False) -> Batches:
        """Batches of a split, shuffled for training and in the data's order otherwise."""

    def labels(self, split: str) -> Sequence[int]:
        """Class index of each image of a split."""

    def has(self, split: str) -> bool:
        """Whether the split has images."""


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


@dataclass(frozen=True)
class Outcome:
    """What the phases came to: the model's own tensors are those of the best epoch.

    Attributes:
        history: A row an epoch over all phases.
        best: The row of the epoch whose tensors the model holds.
        frozen: One entry a phase.
    """

    history: list[dict[str, Any]]
    best: Mapping[str, Any]
    frozen: list[FrozenPart]


class Front:
    """What happens to a batch of images before the stages that train.

    Args:
        preprocessing: Whose mean and standard deviation normalise.
        engine: Where the frozen stages are placed.
        frozen: Stages to run first, in eval mode; None for none.
        augment: What to change about training images.
        seed: Decides the changes, with the epoch and the image.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        *,
        engine: Engine,
        frozen: StageSequence | None = None,
        augment: Augment = "none",
        seed: int = 0,
    ) -> None:
        self._preprocessing = preprocessing
        self._engine = engine
        self._frozen = frozen
        self._augment = augment
        self._seed = seed
        if frozen is not None:
            engine.place(frozen)

    def __call__(self, batch: Batch, training: bool) -> Features:
        """Features of a batch of uint8 images ``(N, C, H, W)``."""
        images = batch.inputs
        assert isinstance(images, Tensor)
        if training:
            images = augment_batch(
                images, augment=self._augment, seed=self._seed, epoch=batch.epoch, indices=batch.indices
            )
        features: Features = self._engine.lay_out(normalise(images, self._preprocessing))
        return features if self._frozen is None else self._frozen(features)


def run_phases(
    chain: Chain,
    images: TrainingImages,
    recipe: Recipe,
    *,
    preprocessing: Preprocessing,
    engine: Engine,
    num_classes: int,
    seed: int,
    criterion: Criterion | None = None,
    callbacks: Sequence[Callback] = (),
    progress: Progress = Silent(),
) -> Outcome:
    """Train a chain phase by phase. Its model ends with the tensors of the best epoch, on the engine's device.

    Args:
        chain: The model's stages.
        images: Splits ``train`` and, where there is one, ``val``.
        recipe: The phases.
        preprocessing: Normalisation of the images.
        engine: Device and numerics.
        num_classes: Outputs of the head.
        seed: Decides order, augmentation and dropout.
        criterion: In place of cross-entropy with the phase's label smoothing and class weights.
        callbacks: Told where training stands.
        progress: Where to say so.

    Raises:
        FreezeError: A parameter or buffer that a phase froze changed.
        TrainingError: The loss was not finite.
    """
    history: list[dict[str, Any]] = []
    frozen: list[FrozenPart] = []
    best: Mapping[str, Any] = {}
    step = 0
    engine.place(chain.model)
    for index, phase in enumerate(recipe.phases):
        cut = chain.cut(phase.train)
        chain.freeze(cut, batch_norm=phase.batch_norm)
        before = chain.digests(cut)
        progress.note(_announcement(index, recipe, phase, chain, cut))
        trainer = Trainer(
            chain.part(cut.frozen_stages),
            engine=engine,
            criterion=criterion or _cross_entropy(phase, images.labels("train"), num_classes),
            front=Front(
                preprocessing,
                engine=engine,
                frozen=chain.part(0, cut.frozen_stages) if cut.frozen_stages else None,
                augment=phase.augment,
                seed=seed,
            ),
            seed=seed,
            callbacks=callbacks,
            progress=progress,
        )
        val_size = engine.numerics.batch_size
        result = trainer.fit(
            images.batches("train", batch_size=phase.batch_size, augment=phase.augment, train=True),
            images.batches("val", batch_size=val_size) if images.has("val") else None,
            phase=phase,
            groups=chain.parameter_groups(
                cut, lr=phase.lr, weight_decay=phase.weight_decay, layer_decay=phase.layer_decay
            ),
            set_mode=_mode_setter(chain, cut, phase),
            phase_index=index,
            first_epoch=len(history),
            first_step=step,
        )
        frozen.append(_prove(index, phase, chain, cut, before))
        history += result.history
        step = result.history[-1]["step"]
        if index == 0 or result.best_epoch >= result.history[0]["epoch"]:
            best = result.best
    chain.model.eval().requires_grad_(True)
    return Outcome(history, best, frozen)


def _mode_setter(chain: Chain, cut: Cut, phase: Phase) -> Callable[[], None]:
    return lambda: chain.freeze(cut, batch_norm=phase.batch_norm)


def _prove(index: int, phase: Phase, chain: Chain, cut: Cut, before: Mapping[str, str]) -> FrozenPart:
    after = chain.digests(cut)
    changed = [name for name in before if before[name] != after.get(name)]
    if changed:
        raise FreezeError(
            f"phase {index + 1} (train = {phase.train!r}) froze {len(before)} tensors and {len(changed)} of them "
            f"changed: {', '.join(changed[:5])}{' …' * (len(changed) > 5)}. The architecture changes its own frozen "
            f"parameters or buffers when it runs; no artifact was written."
        )
    return FrozenPart(
        index, phase.train, cut.frozen_stages, len(before), combined_digest(before), combined_digest(after)
    )


def _cross_entropy(phase: Phase, labels: Sequence[int], num_classes: int) -> nn.Module:
    weights = balanced_class_weights(labels, num_classes) if phase.class_weights == "balanced" else None
    return CrossEntropy(label_smoothing=phase.label_smoothing, class_weights=weights)


def _announcement(index: int, recipe: Recipe, phase: Phase, chain: Chain, cut: Cut) -> str:
    parameters = dict(chain.model.named_parameters())
    trained = sum(parameters[name].numel() for name in cut.trained)
    total = sum(parameter.numel() for parameter in parameters.values())
    frozen = ", ".join(chain.names[: cut.frozen_stages]) or "nothing"
    return (
        f"phase {index + 1}/{len(recipe.phases)}: {phase.epochs} epochs, trains {phase.train} "
        f"({trained:,} of {total:,} parameters), frozen: {frozen}"
    )


def restored_layout(module: nn.Module) -> None:
    """Bring a module back to the CPU and to plain memory layout, as artifacts hold it, in place."""
    module.to("cpu")
    for tensor in [*module.parameters(), *module.buffers()]:
        tensor.data = tensor.data.contiguous(memory_format=torch.contiguous_format)
