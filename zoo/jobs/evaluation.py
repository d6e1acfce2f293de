"""Measuring a model on labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zoo.errors import DataError, OptionError, WeightsError
from zoo.jobs.prediction import engine_for, feature_precision, is_file_name
from zoo.labelled import LabelledImages, check_task, class_positions, load_images
from zoo.models import Model, Request, build_model, effective_preprocessing, load_artifact, request_model
from zoo.phases import Front
from zoo.phases.feed import split_logits
from zoo.plugins import Plugins
from zoo.plugins.catalogue import open_plugins
from zoo.progress import Progress, Silent
from zoo.sources.own_data import as_path
from zoo.training.engine import Engine


@dataclass(frozen=True)
class Evaluation:
    """What a model gets right.

    Attributes:
        report: As :func:`zoo.tasks.metrics.classification_report` or, for a multi-label model,
            :func:`zoo.tasks.label_metrics.label_report` gives it.
        split: ``"train"``, ``"val"``, ``"test"`` or ``"all"``.
        precision: What was computed in.
        notes: What to know about the figures.
    """

    report: dict[str, Any]
    split: str
    precision: str
    notes: tuple[str, ...]


def evaluate(
    target: str | Path,
    data: str | Path,
    *,
    weights: str | Path | None = "default",
    split: str | None = None,
    options: Mapping[str, object] | None = None,
    image_size: int | None = None,
    in_channels: int = 3,
    on_bad_image: Literal["error", "skip"] = "error",
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    batch_size: int | None = None,
    cache: bool = True,
    workers: int | None = None,
    offline: bool = False,
    allow_pth: bool = False,
    locked: bool = False,
    registry: str | Path | None = None,
    progress: Progress = Silent(),
) -> Evaluation:
    """Measure an artifact, or an architecture with weights, on labelled images.

    Args:
        target: The file of an artifact, or the name of an architecture.
        data: A folder, a manifest or any other source as for ``finetune``. Classes are matched by name.
        weights: For an architecture: a tag or a path.
        split: ``"train"``, ``"val"`` or ``"test"``: the data's own, or else the one that the artifact was trained
            with, made again. Default: the data's test split where it has one, else every image.
        options: For an architecture: its options.
        image_size: For an architecture: height and width of the input in pixels.
        in_channels: For an architecture: channels of the input.
        on_bad_image: ``"skip"`` leaves unreadable images out.
        device: Where to compute.
        precision: ``"auto"`` uses the one that the artifact's figures were taken in; float32 for an architecture.
        batch_size: Images a batch.
        cache: Whether an artifact whose figures were taken on features finds and keeps them in the user's cache; False
            runs the whole model.
        workers: Threads that read images.
        offline: Never download.
        allow_pth: Read local ``.pth`` weights.
        locked: Refuse weights whose full hash ``registry.lock`` does not have.
        registry: A registry.toml that goes before all others.
        progress: Where to say what is happening.

    Raises:
        DataError: The images cannot be used, or have classes that the model does not know.
        WeightsError: The artifact or the weights cannot be used.
    """
    plugins = open_plugins(registry)
    model: Model | None = None
    if is_file_name(target):
        model = load_artifact(plugins, Path(target))
        preprocessing = model.preprocessing
    else:
        request = request_model(
            plugins,
            str(target),
            weights=weights,
            options=options,
            in_channels=in_channels,
            image_size=image_size,
        )
        preprocessing = effective_preprocessing(request)
    images = load_images(
        as_path(data, offline=offline, progress=progress),
        preprocessing=preprocessing,
        split=False,
        on_bad_image=on_bad_image,
        min_classes=1,
        workers=workers,
        progress=progress,
    )
    notes: list[str] = []
    if model is None:
        model = _build_for(
            plugins, request, images, offline=offline, allow_pth=allow_pth, locked=locked, progress=progress
        )
        if not model.classes:
            notes.append(
                f"the weights do not name their classes: the folders' order was used ({', '.join(images.classes[:5])}"
                f"{', …' * (len(images.classes) > 5)})"
            )
    check_task(images.task, model.task)
    chosen, images = _choose_split(model, images, split, notes)
    for note in notes:
        progress.warn(note)
    engine = engine_for(model, device=device, precision=precision, batch_size=batch_size)
    prepared = images.prepared_for(model.preprocessing)
    report = _measure(model, prepared, chosen, engine=engine, precision=precision, cache=cache, progress=progress)
    return Evaluation(report, chosen, engine.numerics.precision, tuple(notes))


def _build_for(
    plugins: Plugins,
    request: Request,
    images: LabelledImages,
    *,
    offline: bool,
    allow_pth: bool,
    locked: bool,
    progress: Progress,
) -> Model:
    if request.weights is None:
        raise OptionError(f"{request.architecture.name} without weights has nothing to measure; give --weights.")
    model = build_model(
        plugins,
        request,
        offline=offline,
        allow_pth=allow_pth,
        locked=locked,
        progress=progress,
        fallback=images.classes,
    )
    if replaced := [*model.loaded.dropped, *model.loaded.initialised]:
        raise WeightsError(
            f"{model.source.spec} does not fill {request.architecture.full_name} for the {len(images.classes)} classes "
            f"of these images; without a fitting value: {', '.join(replaced[:5])}."
        )
    return model


def _choose_split(
    model: Model, images: LabelledImages, asked: str | None, notes: list[str]
) -> tuple[str, LabelledImages]:
    """The split to measure, made again as in training where it was asked for."""
    available = images.data.splits
    if asked is None:
        chosen = "test" if "test" in available else "all"
        if chosen == "all" and "all" not in available:
            raise DataError(
                f"{images.data.root} has no test split, only {', '.join(available)}: name one with --split."
            )
        if chosen == "all" and _was_trained_on(model, images):
            notes.append("the model was trained on a part of these images; --split test measures those held out")
        return chosen, images
    if asked in available:
        return asked, images
    if "all" not in available:
        raise DataError(f"{images.data.root} has no split {asked!r}, only {', '.join(available)}.")
    if not _was_trained_on(model, images):
        raise DataError(
            f"--split {asked}: {images.data.root} has no splits, and it is not what the model was trained on, so its "
            "split cannot be made again. Without --split every image is measured."
        )
    assert model.header is not None
    assert model.header.data.split_seed is not None
    return asked, images.split_with(model.header.data.split_seed)


def _was_trained_on(model: Model, images: LabelledImages) -> bool:
    data = model.header.data if model.header is not None else None
    if data is None or data.split_seed is None or set(images.classes) != set(model.classes):
        return False
    return images.split_with(data.split_seed).fingerprint == data.fingerprint


def _measure(
    model: Model,
    images: LabelledImages,
    split: str,
    *,
    engine: Engine,
    precision: Literal["auto", "float32", "bfloat16"],
    cache: bool,
    progress: Progress,
) -> dict[str, Any]:
    names = model.classes or images.classes
    positions = class_positions(images.classes, names)
    used = model.header.numerics if model.header is not None else None
    chosen = feature_precision(model, precision)
    logits, targets = split_logits(
        model.chain(),
        images,
        split,
        engine=engine,
        front=Front(model.preprocessing, engine=engine),
        feature_stages=used.feature_stages if used is not None else 0,
        cache=model.feature_cache(images.digests, device=engine.device, precision=chosen) if cache else None,
        progress=progress,
    )
    return model.task.report(logits, model.task.aligned(targets, positions, len(names)), names)
