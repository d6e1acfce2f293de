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
from zoo.errors import OptionError, UsageError, ZooError
from zoo.faults import fault
from zoo.features.frozen import FeatureCache
from zoo.jobs.plan import Plan, estimate
from zoo.jobs.proof import (
    largest_difference,
)
from zoo.jobs.recipe_choice import choose_recipe
from zoo.jobs.resuming import OWN_DATA, StoredRun, entry_point, open_checkpoints, stoppable, versions
from zoo.jobs.run_facts import config_of, header_of, report_facts
from zoo.jobs.tracking import find_trackers, open_trackers
from zoo.labelled import LabelledImages, load_images
from zoo.models import Model, Request, build_model, effective_preprocessing, load_artifact, request_model
from zoo.phases import Front, restored_layout, run_phases
from zoo.phases.feed import pass_choices, split_logits
from zoo.phases.stepwise import expanded
from zoo.plugins import Plugins
from zoo.plugins.catalogue import open_plugins
from zoo.progress import Progress, Silent
from zoo.recipes import Augment, Phase, Recipe
from zoo.report import render
from zoo.runs import (
    ARTIFACT,
    CONFIG,
    REPORT,
    Run,
    RunFolder,
    UnwrittenFolder,
    exists_error,
    free_folder,
    last_folder,
)
from zoo.sources.own_data import as_folder
from zoo.tasks import Task
from zoo.training.callbacks import Callback, RunInfo, TrainerState
from zoo.training.checkpoint import Cadence
from zoo.training.distributed import joined
from zoo.training.engine import Engine, choose_device, choose_numerics
from zoo.training.losses import Criterion


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
    cache: bool = True,
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
        cache: Whether features of frozen parts are found and kept in the user's cache; False runs the frozen part in
            every epoch.
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
        stored = StoredRun.read(Path(resume))
        if (finished := stored.finished()) is not None:
            progress.warn(f"{stored.folder} is finished: there is nothing to resume.")
            return finished
        stored.check_criterion(criterion)
        if changed := stored.versions_that_changed():
            progress.warn(f"{changed}: the result may differ in its last bits from that of a run without a stop.")
        resumed: Run = finetune(
            stored.data(data),
            **stored.settings(inspect.signature(finetune).parameters),
            criterion=criterion,
            callbacks=callbacks,
            progress=progress,
            _stored=stored,
        )
        return resumed
    if data is None or model is None:
        raise UsageError("finetune needs data and a model, or a run to resume.")
    started = monotonic()
    Cadence.parse(checkpoint_every)
    # Facts only, so that a wrong request costs nothing.
    plugins = open_plugins(registry)
    trackers = find_trackers(plugins, track)
    request = request_model(
        plugins, model, weights=weights, options=options, in_channels=in_channels, image_size=image_size
    )
    chosen = choose_recipe(
        plugins.registry, request, recipe, epochs=epochs, lr=lr, batch_size=batch_size, augment=augment, views=views
    )
    split_seed = seed if split_seed is None else split_seed
    with ExitStack() as stack:
        ranks = stack.enter_context(joined())
        if not ranks.is_first:
            progress = Silent()
        torch_device = choose_device(ranks.device(device))
        source = stack.enter_context(as_folder(data, offline=offline, progress=progress))
        restarted = _stored is None and ranks.restarts > 0
        if restarted:
            _stored = _left_by_restart(output, source, request)
        folder = _stored.folder if _stored else Path()
        if _stored is None and ranks.is_first:
            folder = _choose_folder(output, source, request, restarted=restarted)
        folder = Path(ranks.told_by_first(str(folder)))

        # 1 and 2: find the images, decode every one of them, split them, check the splits.
        images = load_images(
            source,
            preprocessing=effective_preprocessing(request),
            on_bad_image=on_bad_image,
            split_seed=split_seed,
            group_by=group_by,
            workers=workers,
            seed=seed,
            progress=progress,
        )
        images = replace(images, rank=ranks.rank, world_size=ranks.world_size)

        chosen = images.task.suited(chosen)

        # 3: the model, with a head for these classes.
        built = build_model(
            plugins,
            request,
            classes=images.classes,
            seed=seed,
            offline=offline,
            allow_pth=allow_pth,
            locked=locked,
            progress=progress,
        )
        if _stored is not None:
            _stored.check_data(images.fingerprint)
        images = images.prepared_for(built.preprocessing)
        asked_epochs = [phase.epochs for phase in chosen.phases]
        chosen = expanded(chosen, built.chain())
        check_fit(built, chosen)
        numerics = _stored.numerics if _stored else choose_numerics(built.module, torch_device, precision=precision)
        engine = Engine(torch_device, numerics, rank=ranks.rank, world_size=ranks.world_size)
        say_what_was_loaded(built, chosen, engine, progress)
        if dry_run:
            return estimate(built, images, chosen, engine=engine, folder=folder, cache=cache)

        # 4 and 5: train phase by phase, keep the best, write everything down as it comes.
        features = None
        if cache:
            asked = precision if _stored is None else _stored.config.get("feature_precision", precision)
            features = built.feature_cache(images.digests, device=torch_device, precision=asked)
        config = {
            "data": str(data) if isinstance(data, str | Path) else OWN_DATA,
            "working_folder": str(Path.cwd()),
            "fingerprint": images.fingerprint,
            "model": model,
            "weights": request.weights or "none",
            "in_channels": in_channels,
            "image_size": built.preprocessing.input_size[1],
            "on_bad_image": on_bad_image,
            "seed": seed,
            "split_seed": split_seed,
            "group_by": group_by,
            "device": device if ranks.world_size > 1 else str(torch_device),
            "workers": workers,
            "cache": cache,
            "feature_precision": features.precision if features is not None else None,
            "registry": str(registry) if registry is not None else None,
            "checkpoint_every": checkpoint_every,
            "offline": offline,
            "allow_pth": allow_pth,
            "locked": locked,
            "own_criterion": criterion is not None,
            "recipe_epochs": asked_epochs if _stored is None else _stored.config["recipe_epochs"],
            "track": [hooks.record.name for hooks in trackers] or None,
            "options": dict(built.options),
            "features": pass_choices(built.chain(), chosen, engine=engine, cache=features),
            "versions": versions(),
        }
        run_info = RunInfo(folder, config_of(config, chosen, engine), resumed=_stored is not None)
        followers = open_trackers(trackers, run_info, progress)
        told = [*callbacks, *(followers if ranks.is_first else ())]

        is_begun = _stored is not None or restarted
        run_folder = RunFolder(folder, resume=is_begun) if ranks.is_first else UnwrittenFolder(folder)
        stack.callback(run_folder.close)
        stop = stack.enter_context(stoppable(folder, progress))
        checkpoints = open_checkpoints(folder, every=checkpoint_every, writes=ranks.is_first, progress=progress)
        if _stored is None:
            run_folder.write_config(config_of(config, chosen, engine))
        elif restarted and not _stored.is_of(config_of(config, chosen, engine)):
            raise exists_error(folder)
        snapshot = None if _stored is None else entry_point(checkpoints, run_folder, engine=engine, progress=progress)
        outcome = run_phases(
            built.chain(),
            images,
            chosen,
            preprocessing=built.preprocessing,
            engine=engine,
            num_classes=len(images.classes),
            task=images.task,
            seed=seed,
            criterion=criterion,
            callbacks=[_MetricsWriter(run_folder), *told],
            features=features,
            checkpoints=checkpoints,
            resume=snapshot,
            stop=stop,
            progress=progress,
        )

        chosen = outcome.as_trained(chosen)
        if checkpoints.written:
            progress.note(f"{checkpoints.written} checkpoints were saved, in {checkpoints.seconds:.1f} s")

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
        if not ranks.is_first:
            return Run(folder, folder / ARTIFACT, folder / REPORT, metrics, outcome.history, monotonic() - started)
        header = header_of(
            built,
            images,
            chosen,
            outcome,
            engine,
            task=task,
            features=features,
            metrics=metrics,
            seed=seed,
            split_seed=split_seed,
        )
        artifact = folder / ARTIFACT
        fault("artifact")
        sha256 = write_artifact(artifact, header, built.hooks.export_state(built.architecture, built.module))
        difference = _verified(plugins, artifact, header)

        # 7: say what came of it.
        run = Run(folder, artifact, folder / REPORT, metrics, outcome.history, monotonic() - started)
        facts = report_facts(run, built, images, chosen, outcome, engine, config=config)
        facts["artifact"] = {
            "file": ARTIFACT,
            "bytes": artifact.stat().st_size,
            "sha256": sha256,
            "verified": {"max_difference": difference},
        }
        fault("report")
        run_folder.write_report(render(facts))
        checkpoints.clear()
        for callback in told:
            callback.on_finish(metrics)
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


def check_fit(model: Model, recipe: Recipe) -> None:
    """Refuse phases that the model cannot train, before anything is written.

    Raises:
        OptionError: A phase names a stage that is not there or asks for what does not go with it, or the images are
            too small to train on.
    """
    size = min(model.preprocessing.input_size[1:])
    smallest = model.architecture.smallest_training_input
    chain = model.chain()
    trains_backbone = any(chain.cut(phase.train).frozen_stages < len(chain) - 1 for phase in recipe.phases)
    if trains_backbone and size < smallest:
        raise OptionError(
            f"image size {size} is too small to train {model.architecture.name}: it needs at least {smallest} pixels."
        )
    for i, phase in enumerate(recipe.phases):
        if phase.cutmix and chain.cut(phase.train).frozen_stages:
            raise OptionError(
                f"phase {i + 1} of recipe {recipe.name!r}: cutmix cuts images, and with train = {phase.train!r} what "
                "trains sees features; use mixup, or train = 'all'."
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


def _verified(plugins: Plugins, artifact: Path, header: Header) -> float:
    """Read the artifact back and compare; one that fails is removed, so that none looks finished that is not."""
    try:
        return largest_difference(load_artifact(plugins, artifact), header)
    except ZooError:
        artifact.unlink(missing_ok=True)
        raise


def _choose_folder(output: str | Path | None, source: Path, request: Request, *, restarted: bool) -> Path:
    if output is not None:
        folder = Path(output)
        # One that torchrun's first start left before anything was in it is its own.
        if folder.exists() and not (restarted and not (folder / CONFIG).exists()):
            raise exists_error(folder)
        return folder
    return free_folder(Path("runs"), _stem(source, request))


def _left_by_restart(output: str | Path | None, source: Path, request: Request) -> StoredRun | None:
    """The run that torchrun had begun with the same command before it started all processes anew; None for none."""
    folder = Path(output) if output is not None else last_folder(Path("runs"), _stem(source, request))
    return StoredRun.read(folder) if folder is not None and (folder / CONFIG).is_file() else None


def _stem(source: Path, request: Request) -> str:
    name = source.resolve().stem if source.is_file() else source.resolve().name
    return f"{name or 'images'}-{request.architecture.name}"
