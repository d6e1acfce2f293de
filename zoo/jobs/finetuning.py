"""The main job: from a folder of photos to a verified artifact, in seven steps."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any, Literal, overload

from zoo.artifact import Header, write_artifact
from zoo.console import size
from zoo.errors import FreezeError, UsageError, ZooError
from zoo.faults import fault
from zoo.features.frozen import FeatureCache
from zoo.jobs.place import find_place
from zoo.jobs.plan import Plan, estimate
from zoo.jobs.preparation import prepare, say_what_was_loaded
from zoo.jobs.proof import check_claims, frozen_digest, untouched_by
from zoo.jobs.recipe_choice import check_cached_images, choose_recipe
from zoo.jobs.resuming import OWN_DATA, StoredRun
from zoo.jobs.run_facts import config_of, header_of, report_facts
from zoo.jobs.tracking import find_trackers, open_trackers
from zoo.labelled import LabelledImages
from zoo.models import Model, load_artifact, request_model
from zoo.phases import Front, restored_layout, run_phases
from zoo.phases.feed import split_logits
from zoo.plugins import Plugins
from zoo.plugins.catalogue import open_plugins
from zoo.progress import Progress, Silent
from zoo.recipes import Augment, Phase, Recipe
from zoo.report import render
from zoo.runs import ARTIFACT, REPORT, Run, RunFolder, UnwrittenFolder
from zoo.tasks import Task
from zoo.training.callbacks import Callback, RunInfo, TrainerState
from zoo.training.checkpoint import Cadence
from zoo.training.engine import Engine, choose_device
from zoo.training.losses import Criterion

# Settings that config.toml holds as they were given.
_KEPT_AS_GIVEN = (
    "model",
    "in_channels",
    "on_bad_image",
    "seed",
    "group_by",
    "workers",
    "cache",
    "cache_images",
    "checkpoint_every",
    "offline",
    "allow_pth",
    "locked",
)


@overload
def finetune(
    data: str | Path | Mapping[str, Any] | None = None, *, dry_run: Literal[True], **settings: Any
) -> Plan: ...


@overload
def finetune(
    data: str | Path | Mapping[str, Any] | None = None, *, dry_run: Literal[False] = False, **settings: Any
) -> Run: ...


# The two forms above name no setting, so that the list of them stands once, below.
def finetune(  # type: ignore[misc]
    data: str | Path | Mapping[str, Any] | None = None,
    *,
    model: str | None = None,
    weights: str | Path | None = "default",
    recipe: str | Recipe | Sequence[Phase] | None = None,
    epochs: int | Sequence[int] | None = None,
    lr: float | Literal["auto"] | Sequence[float | Literal["auto"]] | None = None,
    batch_size: int | None = None,
    augment: Augment | None = None,
    views: int | None = None,
    micro_batch: int | None = None,
    recompute: bool | None = None,
    compile: bool | None = None,
    cache: bool = True,
    cache_images: float | None = None,
    options: Mapping[str, object] | None = None,
    image_size: int | None = None,
    in_channels: int = 3,
    on_bad_image: Literal["error", "skip"] = "error",
    seed: int = 0,
    split_seed: int | None = None,
    group_by: str | None = None,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    workers: int | None = None,
    output: str | Path | None = None,
    resume: str | Path | None = None,
    checkpoint_every: str = "60s",
    offline: bool = False,
    allow_pth: bool = False,
    locked: bool = False,
    registry: str | Path | None = None,
    criterion: Criterion | None = None,
    callbacks: Sequence[Callback] = (),
    track: Sequence[str] = (),
    dry_run: bool = False,
    progress: Progress = Silent(),
    _stored: StoredRun | None = None,
) -> Run | Plan:
    """Train a classifier on images, prove it, and write it as one artifact.

    Args:
        data: A folder with ``train/ val/ test/``, a folder with one folder per class, a CSV manifest
            ``path,label[,split]`` (or ``path,labels`` for any number of labels an image), tar shards, Parquet files,
            ``torchvision:NAME``, ``hf:NAME``, or data sets of one's own by split:
            ``{"train": dataset, "val": dataset}``, each with ``classes`` and items ``(image, label)`` where the image
            is a Pillow image or a uint8 tensor ``(C, H, W)``, and the label a class index or a list of them.
        model: Architecture, preset or alias, for example ``"resnet50"``.
        weights: A published tag, ``"default"``, a path to weights or to an earlier artifact, or None (also
            ``"none"``) for random values.
        recipe: A recipe's name or phases of one's own. Default: ``"frozen"`` for pretrained weights, ``"full"`` for
            random values, unless the preset or the architecture names another.
        epochs: Epochs of the recipe's phases, one number a phase.
        lr: Learning rates of the recipe's phases, one a phase; ``"auto"`` measures them (see ``zoo lr-find``).
        batch_size: Images a step, in every phase.
        augment: ``"none"``, ``"light"``, ``"standard"`` or ``"strong"``, in every phase.
        views: Versions of each image that ``augment`` makes for good, in every phase, so that a frozen part runs once
            on each.
        micro_batch: Most images in memory at once, in every phase: a step's gradients are added up over its parts.
        recompute: Gradient checkpointing, in every phase: activations are computed again in the backward pass.
        compile: Compile what trains, in every phase; see :class:`zoo.Phase`.
        cache: Whether features of frozen parts are found and kept in the user's cache; False runs the frozen part in
            every epoch.
        cache_images: Gigabytes of memory for decoded training images, so that the random crops of ``"standard"`` and
            ``"strong"`` do not decode every file in every epoch. They are kept at the size that the smallest crop needs
            (for 224 pixels a shorter edge of 518), whether cached or not, so the limit changes speed alone.
        options: Options of the architecture by name.
        image_size: Height and width of the input in pixels.
        in_channels: 1 (grey), 3 (colour) or 4 (colour with alpha).
        on_bad_image: ``"skip"`` leaves unreadable images out, up to 20 % of all; ``"error"`` stops before training.
        seed: Decides values, order, augmentation and dropout.
        split_seed: Decides the split where the data has none; None follows ``seed``.
        group_by: Column of the manifest whose equal values stay in one split, for example the photographed person.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
        precision: ``"auto"`` chooses by rule from the model and the hardware.
        workers: Threads that read images; None means one a core.
        output: The run folder, which must not exist. Default: ``runs/<data>-<architecture>-<n>``.
        resume: The folder of a run that was stopped or killed, to go on with. Its ``config.toml`` says everything else,
            so nothing but ``criterion``, ``callbacks``, ``progress`` and data sets of one's own goes with it.
        checkpoint_every: How often the run's state is saved: a number of steps (``"500"``) or a time (``"90s"``).
        offline: Never download.
        allow_pth: Read local ``.pth`` weights, with pickle's code execution switched off.
        locked: Refuse weights whose full hash ``registry.lock`` does not have.
        registry: A registry.toml that goes before all others.
        criterion: Maps logits and targets to losses, in place of cross-entropy.
        callbacks: Told where training stands.
        track: Plugins that follow the run, for example ``["tensorboard"]``. One that fails is left out with a warning.
        dry_run: Check everything, write nothing, and return a :class:`zoo.jobs.plan.Plan` with the estimated cost.
        progress: Where to say what is happening.

    Returns:
        The run: its folder, artifact, report and figures.

    Raises:
        UsageError: The request contradicts itself or names what does not exist. Nothing was written.
        DataError: The images cannot be used, or are not those of the run to resume. Nothing was written.
        WeightsError: The weights cannot be had or do not fit. Nothing was written.
        TrainingError: Training failed, or something frozen changed. No artifact was written.
    """
    if resume is not None:
        _refuse_settings(locals())
        return _go_on(Path(resume), data, criterion=criterion, callbacks=callbacks, progress=progress)
    if data is None or model is None:
        raise UsageError("finetune needs data and a model, or a run to resume.")
    asked = {name: value for name, value in locals().items() if name in _KEPT_AS_GIVEN}
    started = monotonic()
    Cadence.parse(checkpoint_every)
    # Facts only, so that a wrong request costs nothing.
    plugins = open_plugins(registry)
    trackers = find_trackers(plugins, track)
    request = request_model(
        plugins, model, weights=weights, options=options, in_channels=in_channels, image_size=image_size
    )
    overrides: dict[str, Any] = {
        "epochs": epochs,
        "lr": lr,
        "batch_size": batch_size,
        "augment": augment,
        "views": views,
        "micro_batch": micro_batch,
        "recompute": recompute,
        "compile": compile,
    }
    chosen = choose_recipe(plugins.registry, request, recipe, **overrides)
    check_cached_images(chosen, cache_images)
    with ExitStack() as stack:
        place = stack.enter_context(
            find_place(data, output, request, stored=_stored, offline=offline, progress=progress)
        )
        progress = place.progress

        # 1 to 3: find the images, decode every one of them, split them, check the splits; the model, with a head for
        # these classes.
        prepared = prepare(
            plugins,
            request,
            chosen,
            place.source,
            device=choose_device(place.ranks.device(device)),
            precision=precision,
            on_bad_image=on_bad_image,
            seed=seed,
            split_seed=split_seed,
            group_by=group_by,
            workers=workers,
            cache_images=cache_images,
            offline=offline,
            allow_pth=allow_pth,
            locked=locked,
            criterion=criterion,
            cache=cache,
            ranks=place.ranks,
            stored=place.stored,
            progress=progress,
        )
        images, built, engine = prepared.images, prepared.model, prepared.engine
        say_what_was_loaded(built, prepared.recipe, engine, progress)
        if dry_run:
            return estimate(built, images, prepared.recipe, engine=engine, folder=place.folder, cache=cache)

        # 4 and 5: train phase by phase, keep the best, write everything down as it comes.
        stored = {} if place.stored is None else place.stored.config
        features = None
        if cache:
            wanted = stored.get("feature_precision", precision)
            features = built.feature_cache(images.digests, device=engine.device, precision=wanted)
        settings = {
            **asked,
            "data": str(data) if isinstance(data, str | Path) else OWN_DATA,
            "weights": request.weights or "none",
            "split_seed": seed if split_seed is None else split_seed,
            # Each of several processes has a device of its own, also where a restart makes one into several.
            "device": device if place.ranks.launched else str(engine.device),
            "registry": str(registry) if registry is not None else None,
            "own_criterion": criterion is not None,
            "track": [hooks.record.name for hooks in trackers] or None,
            "own_recipe": stored.get("own_recipe", recipe is not None and not isinstance(recipe, str)),
            "overrides": stored.get("overrides", {key: value for key, value in overrides.items() if value is not None}),
        }
        config = config_of(prepared, settings, features=features)
        followers = open_trackers(trackers, RunInfo(place.folder, config, resumed=place.stored is not None), progress)
        told = [*callbacks, *(followers if place.ranks.is_first else ())]
        run = stack.enter_context(place.opened(config, checkpoint_every=checkpoint_every, engine=engine))
        outcome = run_phases(
            built.chain(),
            images,
            prepared.recipe,
            preprocessing=built.preprocessing,
            engine=engine,
            num_classes=len(images.classes),
            task=images.task,
            seed=seed,
            criterion=criterion,
            callbacks=[_MetricsWriter(run.folder), *told],
            features=features,
            checkpoints=run.checkpoints,
            resume=run.snapshot,
            stop=run.stop,
            progress=progress,
        )
        if (decoded := images.reader.decoded) is not None:
            progress.note(
                f"{len(decoded)} decoded images were kept in memory, {size(decoded.size_bytes)} of "
                f"{size(decoded.limit_bytes)}, shorter edges up to {decoded.edge} pixels"
            )
        if run.checkpoints.written:
            progress.note(f"{run.checkpoints.written} checkpoints were saved, in {run.checkpoints.seconds:.1f} s")

        # 6: measure, write the artifact, read it back into a fresh model and compare.
        task, metrics = measure(
            built,
            images,
            engine=engine,
            features=features,
            feature_stages=outcome.feature_stages,
            progress=progress,
        )
        restored_layout(built.module)
        artifact, report = place.folder / ARTIFACT, place.folder / REPORT
        trained = replace(prepared, recipe=outcome.as_trained(prepared.recipe))
        proof = {}
        if place.ranks.is_first:
            header = header_of(trained, outcome, task=task, features=features, metrics=metrics, settings=settings)
            proof = _proven(plugins, artifact, header, built)

        # 7: say what came of it.
        finished = Run(place.folder, artifact, report, metrics, outcome.history, monotonic() - started)
        if place.ranks.is_first:
            facts = report_facts(finished, trained, outcome, config=config)
            fault("report")
            run.folder.write_report(render({**facts, "artifact": proof}))
            run.checkpoints.clear()
            for callback in told:
                callback.on_finish(metrics)
        return finished


def _go_on(folder: Path, data: Any, *, criterion: Criterion | None, progress: Progress, **given: Any) -> Run:
    """Go on with a run, from its beginning to its end with everything as its ``config.toml`` says."""
    stored = StoredRun.read(folder)
    if (finished := stored.finished()) is not None:
        progress.warn(f"{folder} is finished: there is nothing to resume.")
        return finished
    stored.check_criterion(criterion)
    if changed := stored.versions_that_changed():
        progress.warn(f"{changed}: the result may differ in its last bits from that of a run without a stop.")
    settings = stored.settings(inspect.signature(finetune).parameters)
    run: Run = finetune(stored.data(data), **settings, criterion=criterion, progress=progress, _stored=stored, **given)
    return run


def _refuse_settings(given: Mapping[str, Any]) -> None:
    """Refuse what would be ignored in favour of the stored configuration."""
    allowed = ("data", "resume", "criterion", "callbacks", "progress")
    defaults = {name: parameter.default for name, parameter in inspect.signature(finetune).parameters.items()}
    refused = [name for name, value in given.items() if name not in allowed and value != defaults[name]]
    if refused:
        raise UsageError(
            f"a resumed run takes everything from its config.toml: leave out {', '.join(refused)}, or train anew."
        )


def measure(
    model: Model,
    images: LabelledImages,
    *,
    engine: Engine,
    features: FeatureCache | None = None,
    feature_stages: int = 0,
    progress: Progress = Silent(),
) -> tuple[Task, dict[str, Any]]:
    """The figures of a model on the validation and test images, in the engine's numerics.

    Returns:
        The images' task, with what was decided on the validation images, and the figures by split.
    """
    outputs = {
        split: split_logits(
            model.chain(),
            images,
            split,
            engine=engine,
            front=Front(model.preprocessing, engine=engine),
            feature_stages=feature_stages,
            cache=features,
            progress=progress,
        )
        for split in ("val", "test")
        if images.has(split)
    }
    task = images.task.decided_on(*outputs["val"]) if "val" in outputs else images.task
    return task, {split: task.report(*output, images.classes) for split, output in outputs.items()}


class _MetricsWriter(Callback):
    """Writes each epoch's row to the run folder as it comes."""

    def __init__(self, folder: RunFolder | UnwrittenFolder) -> None:
        self._folder = folder

    def on_epoch_end(self, state: TrainerState, row: Mapping[str, object]) -> None:
        self._folder.append_metrics(row)


def _proven(plugins: Plugins, artifact: Path, header: Header, model: Model) -> dict[str, Any]:
    """Write the artifact, read it back and compare; one that fails is removed, so that none looks finished that is not.

    Returns:
        What the report says of it.

    Raises:
        FreezeError: What was frozen changed after the last phase: when the model was measured, or exported.
        VerifyError: What is read back is not what was trained.
    """
    fault("artifact")
    state = model.hooks.export_state(model.architecture, model.module)
    untouched = untouched_by(header.freeze)
    if untouched is not None and frozen_digest(model, untouched.train) != untouched.after:
        raise FreezeError(
            f"the {untouched.frozen_stages} stages that no phase trained changed after training, when the model was "
            f"measured or exported: {model.architecture.full_name} of {model.hooks.record.label} changes its own "
            "parameters or buffers when it runs, or when it is exported. No artifact was written."
        )
    sha256 = write_artifact(artifact, header, state)
    try:
        difference = check_claims(load_artifact(plugins, artifact), header, artifact)
    except ZooError:
        artifact.unlink(missing_ok=True)
        raise
    return {
        "file": ARTIFACT,
        "bytes": artifact.stat().st_size,
        "sha256": sha256,
        "verified": {"max_difference": difference},
    }
