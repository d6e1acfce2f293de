"""Measuring a learning rate for a model and images, with nothing trained in the end: ``zoo lr-find``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from zoo.errors import OptionError, TrainingError
from zoo.jobs.preparation import Prepared, prepare, say_what_was_loaded
from zoo.jobs.recipe_choice import choose_recipe
from zoo.models import request_model
from zoo.phases import Front
from zoo.plugins.catalogue import open_plugins
from zoo.progress import Progress, Silent
from zoo.recipes import HEAD_ALONE, Phase, Recipe
from zoo.registry import validate_phase
from zoo.sources.own_data import as_folder
from zoo.training.engine import choose_device
from zoo.training.lr_finder import LrCurve, find_lr
from zoo.training.trainer import Trainer


@dataclass(frozen=True)
class MeasuredLr:
    """What :func:`lr_find` found.

    Attributes:
        curve: The rates that were tried, the losses, and the suggestion.
        lrs: What ``lr`` of :func:`zoo.finetune` takes with the same recipe: the suggestion, to two digits, in the place
            of the phase that was measured, and the others' own.
    """

    curve: LrCurve
    lrs: tuple[float | Literal["auto"], ...]


def lr_find(
    data: str | Path,
    *,
    model: str,
    weights: str | Path | None = "default",
    recipe: str | None = None,
    phase: int = 1,
    train: str | None = None,
    batch_size: int | None = None,
    options: dict[str, Any] | None = None,
    image_size: int | None = None,
    in_channels: int = 3,
    seed: int = 0,
    steps: int = 100,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    workers: int | None = None,
    offline: bool = False,
    allow_pth: bool = False,
    locked: bool = False,
    registry: str | Path | None = None,
    progress: Progress = Silent(),
) -> MeasuredLr:
    """Train for some steps with a growing learning rate and suggest one (Smith 2017, arXiv:1506.01186).

    Args:
        data: As for :func:`zoo.finetune`, as are all arguments that are not named here.
        model: Architecture, preset or alias.
        weights: Where its values come from.
        recipe: One of whose phases is measured, on the model as it is before the first.
        phase: Which, from 1. Of a ``"stepwise"`` one its last step is measured, in which everything trains.
        train: What to train in place of what that phase trains.
        batch_size: Images a step.
        options: Options of the architecture.
        image_size: Height and width of the input in pixels.
        in_channels: 1, 3 or 4.
        seed: Decides values, order, augmentation and dropout.
        steps: Optimizer steps at most.
        device: Where to run.
        precision: Of the computation.
        workers: Threads that read images.
        offline: Never download.
        allow_pth: Read local ``.pth`` weights.
        locked: Take only weights whose hash is locked.
        registry: A registry.toml that goes before all others.
        progress: Where to say what is happening.

    Returns:
        The curve, and what to pass to :func:`zoo.finetune`.

    Raises:
        OptionError: There is no such phase, it takes no steps, or something in it would do nothing.
        TrainingError: No rate made the loss fall.
    """
    plugins = open_plugins(registry)
    request = request_model(
        plugins, model, weights=weights, options=options, in_channels=in_channels, image_size=image_size
    )
    chosen = choose_recipe(plugins.registry, request, recipe, batch_size=batch_size)
    measured = replace(chosen, phases=(_measured(chosen, phase, train),))
    with as_folder(data, offline=offline, progress=progress) as source:
        prepared = prepare(
            plugins,
            request,
            measured,
            source,
            device=choose_device(device),
            precision=precision,
            seed=seed,
            workers=workers,
            offline=offline,
            allow_pth=allow_pth,
            locked=locked,
            progress=progress,
        )
        say_what_was_loaded(prepared.model, prepared.recipe, prepared.engine, progress)
        curve = _curve(prepared, prepared.recipe.phases[-1], seed=seed, steps=steps, progress=progress)
    if curve.suggestion is None:
        raise TrainingError("no learning rate made the loss fall: look at the data.")
    lrs = [each.lr for each in chosen.phases]
    lrs[phase - 1] = float(f"{curve.suggestion:.2g}")
    return MeasuredLr(curve, tuple(lrs))


def _measured(recipe: Recipe, number: int, train: str | None) -> Phase:
    if not 1 <= number <= len(recipe.phases):
        raise OptionError(f"--phase {number}: recipe {recipe.name!r} has {len(recipe.phases)} phase(s).")
    phase = recipe.phases[number - 1]
    if phase.solver == "lbfgs":
        raise OptionError(
            f'phase {number} of recipe {recipe.name!r} has solver = "lbfgs", which takes no steps and has no learning '
            "rate; choose another with --phase or --recipe."
        )
    if train is not None:
        phase = replace(phase, train=train, layer_decay=1.0 if train in HEAD_ALONE else phase.layer_decay)
        validate_phase(phase, f"phase {number} of recipe {recipe.name!r} with --train {train!r}")
    return phase


def _curve(prepared: Prepared, phase: Phase, *, seed: int, steps: int, progress: Progress) -> LrCurve:
    model, images, engine = prepared.model, prepared.images, prepared.engine
    chain = model.chain()
    cut = chain.cut(phase.train)
    chain.freeze(cut, batch_norm=phase.batch_norm)
    engine.place(chain.model)
    frozen = chain.part(0, cut.frozen_stages) if cut.frozen_stages else None
    trainer = Trainer(
        chain.part(cut.frozen_stages),
        engine=engine,
        criterion=images.task.criterion(phase, images.targets("train"), len(images.classes)),
        scoring=images.task.scoring,
        front=Front(model.preprocessing, engine=engine, frozen=frozen, augment=phase.augment, seed=seed),
        seed=seed,
        progress=progress,
    )
    train = images.batches(
        "train", batch_size=phase.batch_size, augment=phase.augment, sampling=phase.sampling, train=True
    )
    groups = chain.parameter_groups(cut, lr=1.0, weight_decay=phase.weight_decay, layer_decay=phase.layer_decay)
    return find_lr(
        trainer,
        train,
        phase=phase,
        groups=groups,
        set_mode=lambda: chain.freeze(cut, batch_norm=phase.batch_norm),
        steps=steps,
    )
