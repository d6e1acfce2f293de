"""Running a recipe's phases on a model, with proof that what each phase froze stayed as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from zoo.architecture import Preprocessing
from zoo.chain import Chain, Cut, StageSequence, combined_digest
from zoo.data import augment_batch, normalise
from zoo.errors import FreezeError
from zoo.features.frozen import FeatureCache
from zoo.phases.feed import Feed, with_features
from zoo.phases.saving import FrozenPart, PhaseSaver, RunState, changeable
from zoo.progress import Progress, Silent
from zoo.recipes import Augment, Phase, Recipe, Sampling
from zoo.tasks import SingleLabel, Task
from zoo.training.batches import Batch, Batches
from zoo.training.callbacks import Callback
from zoo.training.checkpoint import Checkpoints, Snapshot
from zoo.training.engine import Engine, Features
from zoo.training.losses import Criterion
from zoo.training.lr_finder import find_lr
from zoo.training.signals import StopRequest
from zoo.training.solver import solve
from zoo.training.trainer import Stopped, Trainer

# What is taken where none can be measured.
_USUAL_LR = 1e-3


class TrainingImages(Protocol):
    """Where a phase's batches come from."""

    def batches(
        self,
        split: str,
        *,
        batch_size: int,
        augment: Augment = "none",
        sampling: Sampling = "shuffle",
        train: bool = False,
    ) -> Batches:
        """Batches of a split, shuffled for training and in the data's order otherwise."""

    def targets(self, split: str) -> Tensor:
        """What the model should say about each image of a split: int64 ``(N,)``, or float32 ``(N, classes)``."""

    def has(self, split: str) -> bool:
        """Whether the split has images."""

    def names_of(self, samples: Sequence[int]) -> str:
        """Words for training images by their positions, for messages."""


@dataclass(frozen=True)
class Outcome:
    """What the phases came to: the model's own tensors are those of the best epoch.

    Attributes:
        history: A row an epoch over all phases.
        best: The row of the epoch whose tensors the model holds.
        frozen: One entry a phase.
        feature_stages: Leading stages that no phase trained and whose features are kept; 0 where there are none.
        rates: Learning rates that were measured for phases with ``lr = "auto"``, by position.
    """

    history: list[dict[str, Any]]
    best: Mapping[str, Any]
    frozen: list[FrozenPart]
    feature_stages: int = 0
    rates: Mapping[int, float] = field(default_factory=dict)

    def as_trained(self, recipe: Recipe) -> Recipe:
        """The recipe with the learning rates that were measured in their places."""
        phases = [replace(phase, lr=self.rates.get(i, phase.lr)) for i, phase in enumerate(recipe.phases)]
        return replace(recipe, phases=tuple(phases))


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
    task: Task = SingleLabel(),
    seed: int,
    criterion: Criterion | None = None,
    callbacks: Sequence[Callback] = (),
    features: FeatureCache | None = None,
    checkpoints: Checkpoints | None = None,
    resume: Snapshot | None = None,
    stop: StopRequest | None = None,
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
        task: Whose loss is minimised and whose right answers count.
        seed: Decides order, augmentation and dropout.
        criterion: In place of the task's loss with the phase's label smoothing and class weights.
        callbacks: Told where training stands.
        features: What features of frozen parts depend on; None runs frozen parts in every epoch.
        checkpoints: Where to save the run's state; None saves nothing.
        resume: A state that was saved, to go on from.
        stop: Looked at after every step, where there are checkpoints.
        progress: Where to say so.

    Raises:
        FreezeError: A parameter or buffer that a phase froze changed.
        TrainingError: The loss was not finite.
        CheckpointError: ``resume`` does not fit the chain.
        Stopped: ``stop`` asked for it; the checkpoints hold what is needed to go on.
    """
    engine.place(chain.model)
    run = RunState() if resume is None else RunState.load(resume, chain)
    fewest_frozen = min(chain.cut(phase.train).frozen_stages for phase in recipe.phases)
    for index, phase in list(enumerate(recipe.phases))[run.phase :]:
        cut = chain.cut(phase.train)
        chain.freeze(cut, batch_norm=phase.batch_norm)
        before = chain.digests(cut)
        run.trained |= changeable(chain, cut)
        saver = PhaseSaver(checkpoints, chain, run, before)
        if index and checkpoints is not None and run.trainer is None and (stop or saver.due(run.step)):
            saver.save(run.step, None)
            if stop:
                raise Stopped
        progress.note(_announcement(index, recipe, phase, chain, cut))
        part = chain.part(0, cut.frozen_stages) if cut.frozen_stages else None
        feed = with_features(
            Feed(
                images.batches(
                    "train", batch_size=phase.batch_size, augment=phase.augment, sampling=phase.sampling, train=True
                ),
                images.batches("val", batch_size=engine.numerics.batch_size) if images.has("val") else None,
                Front(preprocessing, engine=engine, frozen=part, augment=phase.augment, seed=seed),
                engine,
            ),
            chain,
            cut,
            phase,
            cache=features,
            digest=combined_digest(before),
            seed=seed,
            measured=cut.frozen_stages == fewest_frozen,
            progress=progress,
        )
        trainer = Trainer(
            chain.part(cut.frozen_stages),
            engine=feed.engine,
            criterion=criterion or task.criterion(phase, images.targets("train"), num_classes),
            scoring=task.scoring,
            front=feed.front,
            seed=seed,
            callbacks=callbacks,
            names_of=images.names_of,
            stop=stop,
            progress=progress,
        )
        set_mode = _mode_setter(chain, cut, phase)
        if phase.lr == "auto":
            if index not in run.rates:
                run.rates[index] = _measured_lr(trainer, feed.train, chain, cut, phase, set_mode, progress)
            phase = replace(phase, lr=run.rates[index])
        place: dict[str, Any] = {
            "phase": phase,
            "phase_index": index,
            "first_epoch": len(run.history),
            "first_step": run.step,
        }
        if phase.solver == "lbfgs":
            result = solve(trainer, feed.train, feed.val, views=max(1, phase.views), **place)
        else:
            result = trainer.fit(
                feed.train,
                feed.val,
                groups=_groups(chain, cut, phase, lr=float(phase.lr)),
                set_mode=set_mode,
                resume=run.trainer,
                saver=None if checkpoints is None else saver,
                **place,
            )
        run.frozen.append(_prove(index, phase, chain, cut, before))
        if cut.frozen_stages == fewest_frozen:
            run.feature_stages = cut.frozen_stages if feed.features is not None else 0
        run.end_phase(result)
    chain.model.eval().requires_grad_(True)
    return Outcome(run.history, run.best, run.frozen, run.feature_stages, run.rates)


def _groups(chain: Chain, cut: Cut, phase: Phase, *, lr: float) -> list[dict[str, Any]]:
    return chain.parameter_groups(cut, lr=lr, weight_decay=phase.weight_decay, layer_decay=phase.layer_decay)


def _measured_lr(
    trainer: Trainer,
    train: Batches,
    chain: Chain,
    cut: Cut,
    phase: Phase,
    set_mode: Callable[[], None],
    progress: Progress,
) -> float:
    curve = find_lr(trainer, train, phase=phase, groups=_groups(chain, cut, phase, lr=1.0), set_mode=set_mode)
    if curve.suggestion is None:
        progress.warn(f"no learning rate made the loss fall: {_USUAL_LR:g} is taken. Look at the data, or give --lr.")
        return _USUAL_LR
    # Of a measured figure more digits than these mean nothing.
    found = float(f"{curve.suggestion:.2g}")
    progress.note(f"learning rate {found:g}, measured in {len(curve.rates)} steps that were taken back")
    return found


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
