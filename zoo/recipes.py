"""Recipes: lists of training phases, as data.

A phase says what trains, for how long and how. ``registry.toml`` holds the shipped ones; a user adds more there. The
ranges in the annotations hold for both: :func:`zoo.registry.validate_phase` checks them.
"""

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Annotated, Literal

from msgspec import Meta

Schedule = Literal["cosine", "one-cycle", "constant", "plateau"]
Optimizer = Literal["adamw", "adam", "sgd"]
Augment = Literal["none", "light", "standard", "strong"]
Monitor = Literal["auto", "accuracy", "loss", "precision", "recall", "f1", "map"]
Sampling = Literal["shuffle", "balanced"]

HEAD_ALONE = ("head", "last 1")
"""What ``train`` says where only the last stage trains, whatever the model."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of training with one set of rules.

    Attributes:
        epochs: Passes over the training images, at least 1.
        train: What trains: ``"head"``, ``"all"``, ``"last K"`` (the last K stages, the head included), a stage's
            name, which trains that stage and all after it, or ``"stepwise"``: the head first, then stage after stage
            with it (Howard and Ruder 2018, arXiv:1801.06146), which becomes phases of its own once the model is known.
        lr: Peak learning rate of the head; ``"auto"`` measures one before the phase, see ``zoo lr-find``.
        schedule: ``"cosine"``, ``"one-cycle"`` (Smith and Topin 2017, arXiv:1708.07120), ``"constant"``, or
            ``"plateau"``: a tenth of the rate whenever the monitored metric stops getting better.
        warmup: Share of the phase's steps on which the rate rises linearly, 0–1; ``"auto"`` is 0.05 with ``"cosine"``
            and 0 with the others. ``"one-cycle"`` has a rise of its own.
        plateau: Epochs without a better metric after which ``"plateau"`` lowers the rate.
        weight_decay: Decay of weight matrices and kernels; biases and normalisation layers have none.
        layer_decay: Factor on the learning rate from the last stage to the first, by relative depth, above 0 and at
            most 1: a stage at relative depth d, 0 the first and 1 the head, learns at
            ``lr * layer_decay ** (12 * (1 - d))``,
            which is the rule of a 12-block transformer stretched over any number of stages.
        batch_norm: ``"train"`` lets the BatchNorm layers that train follow their batches, ``"eval"`` keeps their
            statistics.
        augment: ``"none"``, ``"light"`` (flip, rotation of up to 15°, colour jitter), ``"standard"`` (random resized
            crop, flip, colour jitter) or ``"strong"`` (random resized crop, flip, one change of TrivialAugment, random
            erasing).
        views: Versions of each image that ``augment`` makes for good, so that a frozen part runs once on each; epochs
            take turns. 0 makes new ones in every epoch.
        batch_size: Images a step, over all processes together.
        micro_batch: Most images in memory at once on a process; the gradients of a step's parts are added up. None
            takes the step whole.
        recompute: Gradient checkpointing: a stage's activations are dropped after the forward pass and computed again
            in the backward pass: about a third more time for the memory of one stage at once. The result is the same.
        compile: Whether what trains is compiled (``torch.compile``), which takes a minute or more at the first step and
            makes the others faster where there are many. Results differ in their last bits from those uncompiled.
        optimizer: ``"adamw"``, ``"adam"`` or ``"sgd"`` (momentum 0.9, Nesterov).
        solver: ``"gradient"`` takes steps with the optimizer; ``"lbfgs"`` fits a linear head to convergence, as
            logistic regression with a penalty on its weights. ``epochs`` is then the number of penalties tried, from
            strong to weak; validation chooses.
        label_smoothing: Share of the target spread over all classes, from 0 to below 1.
        clip: Largest gradient norm, above 0; None (``"none"`` in registry.toml) leaves gradients alone.
        class_weights: ``"balanced"`` weighs each class by the inverse of its count.
        sampling: ``"balanced"`` shows every class equally often, some images several times an epoch.
        mixup: The alpha of mixup (Zhang et al. 2018, arXiv:1710.09412), which mixes pairs of what enters the part that
            trains; 0 for none.
        cutmix: The alpha of CutMix (Yun et al. 2019, arXiv:1905.04899), which needs a phase that trains everything;
            0 for none. With mixup too, each step draws one of the two.
        ema: Decay of a moving average of the weights, which is what is validated and kept; None for none.
        monitor: The validation metric that decides on the best epoch, early stopping and ``"plateau"``; ``"auto"`` is
            the accuracy, or with several labels an image ``"map"``, the mean average precision.
        patience: Epochs without a better monitored metric after which the phase ends; None runs them all.
    """

    epochs: Annotated[int, Meta(ge=1)]
    train: Annotated[str, Meta(min_length=1)] = "all"
    lr: Annotated[float, Meta(gt=0)] | Literal["auto"] = 1e-3
    schedule: Schedule = "cosine"
    warmup: Annotated[float, Meta(ge=0, le=1)] | Literal["auto"] = "auto"
    plateau: Annotated[int, Meta(ge=1)] | None = None
    weight_decay: Annotated[float, Meta(ge=0)] = 0.01
    layer_decay: Annotated[float, Meta(gt=0, le=1)] = 1.0
    batch_norm: Literal["train", "eval"] = "train"
    augment: Augment = "none"
    views: Annotated[int, Meta(ge=0)] = 0
    batch_size: Annotated[int, Meta(ge=1)] = 32
    micro_batch: Annotated[int, Meta(ge=1)] | None = None
    recompute: bool = False
    compile: bool = False
    optimizer: Optimizer = "adamw"
    solver: Literal["gradient", "lbfgs"] = "gradient"
    label_smoothing: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    clip: Annotated[float, Meta(gt=0)] | None = 1.0
    class_weights: Literal["none", "balanced"] = "none"
    sampling: Sampling = "shuffle"
    mixup: Annotated[float, Meta(ge=0)] = 0.0
    cutmix: Annotated[float, Meta(ge=0)] = 0.0
    ema: Annotated[float, Meta(gt=0, lt=1)] | None = None
    monitor: Monitor = "auto"
    patience: Annotated[int, Meta(ge=1)] | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A named list of phases, run one after the other on the same model.

    Attributes:
        name: As given to ``--recipe``.
        phases: At least one.
        strict: Whether what would do nothing on the model at hand is an error, as it is in a user's recipe. The shipped
            ones are for every model, and that of a resumed run was checked when it began.
    """

    name: str
    phases: tuple[Phase, ...]
    strict: bool = True


# Keys that a solver has no use for; of those in the second set the default says that they are not used.
_OF_STEPS = ("lr", "schedule", "weight_decay", "batch_size", "optimizer", "clip")
_OF_STEPS_IF_USED = (
    "warmup",
    "plateau",
    "layer_decay",
    "batch_norm",
    "micro_batch",
    "mixup",
    "cutmix",
    "ema",
    "recompute",
    "compile",
)


def without_effect(phase: Phase, written: Collection[str] = ()) -> str:
    """What in a phase contradicts itself or would do nothing, as a sentence without a full stop; empty for nothing.

    What depends on the model is for :func:`zoo.jobs.recipe_checks.check_recipe`.

    Args:
        phase: What to check.
        written: Keys that the user wrote, so that those count too whose values are the defaults.
    """
    if phase.solver == "lbfgs":
        return _on_solver(phase, written)
    return _on_rates(phase) or _on_batches(phase) or _on_what_trains(phase)


def never_reached(phase: Phase) -> str:
    """What waits in a phase for more epochs than it has, as :func:`without_effect` says it.

    It holds for a recipe as it was written: a trial run with fewer epochs is no mistake.
    """
    if phase.patience is not None and phase.patience >= phase.epochs:
        return f"patience = {phase.patience} has no effect with epochs = {phase.epochs}: make it smaller"
    if phase.plateau is not None and phase.plateau > phase.epochs - 2:
        return f"plateau = {phase.plateau} has no effect with epochs = {phase.epochs}: nothing is left to lower"
    return ""


def _on_rates(phase: Phase) -> str:
    if phase.warmup != "auto" and phase.schedule == "one-cycle":
        return 'warmup has no effect with schedule = "one-cycle", which has a rise of its own'
    if phase.plateau is not None and phase.schedule != "plateau":
        return f'plateau has no effect with schedule = "{phase.schedule}"; it belongs to schedule = "plateau"'
    return ""


def _on_batches(phase: Phase) -> str:
    if phase.micro_batch is not None and phase.micro_batch >= phase.batch_size:
        return f"micro_batch = {phase.micro_batch} has no effect with batch_size = {phase.batch_size}: make it smaller"
    if phase.recompute and phase.compile:
        return "recompute has no effect with compile: compiled code decides itself what it computes again"
    if phase.mixup or phase.cutmix:
        for name, size in (("batch_size", phase.batch_size), ("micro_batch", phase.micro_batch)):
            if size == 1:
                return f"{name} = 1 leaves mixup and cutmix no second image; make it 2 or more"
    if phase.views and phase.augment == "none":
        return 'views has no effect with augment = "none": all versions of an image would be the same'
    if phase.views > phase.epochs:
        return f"views = {phase.views} is more than epochs = {phase.epochs}, which take turns: the rest is never seen"
    return _on_balance(phase)


def _on_balance(phase: Phase) -> str:
    if phase.sampling == "balanced" and phase.class_weights == "balanced":
        return "sampling and class_weights both balance the classes, which counts rare ones twice; give one of them"
    return ""


def _on_what_trains(phase: Phase) -> str:
    if phase.layer_decay != 1 and phase.train in HEAD_ALONE:
        return f'layer_decay has no effect with train = "{phase.train}": there is one stage to decay over'
    if phase.cutmix and phase.train in HEAD_ALONE:
        return (
            f'cutmix has no effect with train = "{phase.train}": the features that enter the head have no place in the '
            "image"
        )
    if phase.recompute and phase.train in HEAD_ALONE:
        return 'recompute has no effect with train = "head": the head keeps no activations worth dropping'
    if phase.compile and phase.train in HEAD_ALONE:
        return 'compile has nothing to gain with train = "head": the head is a matrix product or two'
    if phase.views and phase.train == "all":
        return 'views has no effect with train = "all": nothing is frozen that could run once'
    if phase.train == "stepwise" and phase.epochs == 1:
        return 'train = "stepwise" takes at least one epoch for the head and one for more; make epochs 2 or more'
    return ""


def _on_solver(phase: Phase, written: Collection[str]) -> str:
    if phase.train in ("all", "stepwise"):
        return f'solver = "lbfgs" fits the head alone, and train = "{phase.train}" trains more; use train = "head"'
    if phase.augment != "none" and not phase.views:
        return 'solver = "lbfgs" needs the same samples at every look: use augment = "none", or give views'
    if phase.views and phase.augment == "none":
        return 'views has no effect with augment = "none": all versions of an image would be the same'
    defaults = {field.name: field.default for field in fields(Phase)}
    idle = [key for key in (*_OF_STEPS, *_OF_STEPS_IF_USED) if getattr(phase, key) != defaults[key]]
    idle += [key for key in _OF_STEPS if key in written and key not in idle]
    if idle:
        has = "has" if len(idle) == 1 else "have"
        return f'{" and ".join(idle)} {has} no effect with solver = "lbfgs", which takes no steps'
    return _on_balance(phase)
