"""Recipes: lists of training phases, as data.

A phase says what trains, for how long and how. ``registry.toml`` holds the shipped ones; a user adds more there. The
ranges in the annotations hold for both: :func:`zoo.registry.validate_phase` checks them.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

Schedule = Literal["cosine", "one-cycle", "constant"]
Optimizer = Literal["adamw", "adam", "sgd"]
Augment = Literal["none", "light", "standard"]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of training with one set of rules.

    Attributes:
        epochs: Passes over the training images, at least 1.
        train: What trains: ``"head"``, ``"all"``, ``"last K"`` (the last K stages, the head included), or a stage's
            name, which trains that stage and all after it.
        lr: Peak learning rate of the head.
        schedule: ``"cosine"`` with linear warm-up, ``"one-cycle"`` (Smith and Topin 2017, arXiv:1708.07120), or
            ``"constant"``.
        warmup: Share of the phase's steps spent on linear warm-up of ``"cosine"``, 0–1.
        weight_decay: Decay of weight matrices and kernels; biases and normalisation layers have none.
        layer_decay: Factor on the learning rate from the last stage to the first, by relative depth, above 0 and at
            most 1: a stage at relative depth d, 0 the first and 1 the head, learns at
            ``lr * layer_decay ** (12 * (1 - d))``,
            which is the rule of a 12-block transformer stretched over any number of stages.
        batch_norm: ``"train"`` lets the BatchNorm layers that train follow their batches, ``"eval"`` keeps their
            statistics.
        augment: ``"none"``, ``"light"`` (flip, rotation of up to 15°, colour jitter) or ``"standard"`` (random resized
            crop, flip, colour jitter).
        batch_size: Images a step.
        optimizer: ``"adamw"``, ``"adam"`` or ``"sgd"`` (momentum 0.9, Nesterov).
        label_smoothing: Share of the target spread over all classes, from 0 to below 1.
        clip: Largest gradient norm, above 0; None (``"none"`` in registry.toml) leaves gradients alone.
        class_weights: ``"balanced"`` weighs each class by the inverse of its count.
        patience: Epochs without a better validation metric after which the phase ends; None runs them all.
    """

    epochs: Annotated[int, Meta(ge=1)]
    train: Annotated[str, Meta(min_length=1)] = "all"
    lr: Annotated[float, Meta(gt=0)] = 1e-3
    schedule: Schedule = "cosine"
    warmup: Annotated[float, Meta(ge=0, le=1)] = 0.05
    weight_decay: Annotated[float, Meta(ge=0)] = 0.01
    layer_decay: Annotated[float, Meta(gt=0, le=1)] = 1.0
    batch_norm: Literal["train", "eval"] = "train"
    augment: Augment = "none"
    batch_size: Annotated[int, Meta(ge=1)] = 32
    optimizer: Optimizer = "adamw"
    label_smoothing: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    clip: Annotated[float, Meta(gt=0)] | None = 1.0
    class_weights: Literal["none", "balanced"] = "none"
    patience: Annotated[int, Meta(ge=1)] | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A named list of phases, run one after the other on the same model.

    Attributes:
        name: As given to ``--recipe``.
        phases: At least one.
    """

    name: str
    phases: tuple[Phase, ...]
