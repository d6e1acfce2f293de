"""What training begins with: images, a model with a head for them, phases that fit it, and where it all runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from zoo.errors import OptionError
from zoo.jobs.recipe_checks import check_recipe
from zoo.jobs.resuming import StoredRun
from zoo.labelled import LabelledImages, load_images
from zoo.models import Model, Request, build_model, effective_preprocessing
from zoo.plugins import Plugins
from zoo.progress import Progress, Silent
from zoo.recipes import Recipe
from zoo.training.distributed import Ranks
from zoo.training.engine import Engine, choose_numerics
from zoo.training.losses import Criterion


@dataclass(frozen=True)
class Prepared:
    """Everything that the phases need.

    Attributes:
        images: Found, checked, split, and ready to be read for the model.
        model: With a head for the images' classes.
        recipe: Whose phases fit the model's stages.
        engine: Device, numerics and this process's place among others.
    """

    images: LabelledImages
    model: Model
    recipe: Recipe
    engine: Engine


def prepare(
    plugins: Plugins,
    request: Request,
    recipe: Recipe,
    source: Path,
    *,
    device: torch.device,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    on_bad_image: Literal["error", "skip"] = "error",
    seed: int = 0,
    split_seed: int | None = None,
    group_by: str | None = None,
    workers: int | None = None,
    cache_images: float | None = None,
    offline: bool = False,
    allow_pth: bool = False,
    locked: bool = False,
    criterion: Criterion | None = None,
    cache: bool = True,
    ranks: Ranks = Ranks(),
    stored: StoredRun | None = None,
    progress: Progress = Silent(),
) -> Prepared:
    """Steps 1 to 3 of the main job; the arguments are those of :func:`zoo.finetune`.

    Args:
        plugins: Who may be asked for the architecture.
        request: The architecture, its options and its weights.
        recipe: Whose phases still name stages as the user did.
        source: A folder of images or a manifest.
        device: Where to run.
        precision: Of the computation.
        on_bad_image: What becomes of unreadable images.
        seed: Decides values and order.
        split_seed: Decides the split; None follows ``seed``.
        group_by: Column of the manifest whose equal values stay in one split.
        workers: Threads that read images.
        cache_images: Gigabytes for decoded images; None for none.
        offline: Never download.
        allow_pth: Read local ``.pth`` weights.
        locked: Take only weights whose hash is locked.
        criterion: In place of the task's loss.
        cache: Whether features of frozen parts may be kept.
        ranks: Which of how many processes this is.
        stored: The run to go on with: its images have to be these, its numerics are kept.
        progress: Where to say what is happening.

    Raises:
        DataError: The images cannot be used, or are not those of ``stored``.
        WeightsError: The weights cannot be had or do not fit.
        OptionError: A phase names what the model does not have, or something the user gave would do nothing.
    """
    images = load_images(
        source,
        preprocessing=effective_preprocessing(request),
        on_bad_image=on_bad_image,
        split_seed=seed if split_seed is None else split_seed,
        group_by=group_by,
        workers=workers,
        cache_images_bytes=int((cache_images or 0) * 1e9),
        seed=seed,
        progress=progress,
    )
    if stored is None and not images.was_split and (split_seed, group_by) != (None, None):
        name = "--split-seed" if group_by is None else "--group-by"
        raise OptionError(f"{name} has no effect: {images.data.name} has its own train, val and test images.")
    model = build_model(
        plugins,
        request,
        classes=images.classes,
        seed=seed,
        offline=offline,
        allow_pth=allow_pth,
        locked=locked,
        progress=progress,
    )
    if stored is not None:
        stored.check_data(images.fingerprint)
    numerics = stored.numerics if stored else choose_numerics(model.module, device, precision=precision)
    return Prepared(
        images=replace(images, rank=ranks.rank, world_size=ranks.world_size).prepared_for(model.preprocessing),
        model=model,
        recipe=check_recipe(model, images.task.suited(recipe), criterion=criterion, cache=cache),
        engine=Engine(device, numerics, rank=ranks.rank, world_size=ranks.world_size),
    )


def say_what_was_loaded(model: Model, recipe: Recipe, engine: Engine, progress: Progress) -> None:
    """Tell what the model is, where its values come from, and what is odd about that."""
    source, loaded = model.source, model.loaded
    values = sum(parameter.numel() for parameter in model.module.parameters())
    origin = "random values" if source.kind == "random" else f"weights {source.spec}"
    progress.note(
        f"{model.architecture.full_name}: {values:,} parameters, {origin}, input "
        f"{' × '.join(map(str, model.preprocessing.input_size))}, {engine.device}, {engine.numerics.precision}"
    )
    if loaded.adapted:
        progress.note(f"adapted to {model.in_channels} channels: {', '.join(loaded.adapted)}")
    if source.kind != "random" and loaded.initialised:
        progress.note(f"new values for {', '.join(loaded.initialised)}")
    if source.kind == "random" and recipe.phases[0].train != "all":
        progress.warn(
            f"recipe {recipe.name!r} freezes a part of the model that has random values: nothing was learned there. "
            "Use --recipe full, or give --weights."
        )
