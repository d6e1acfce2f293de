"""What a run writes down about itself: the artifact's header, ``config.toml`` and the report's facts."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from zoo.artifact import Header, TrainingData, UsedRecipe
from zoo.features.frozen import FeatureCache
from zoo.jobs.proof import check_logits, freeze_proofs, header_numerics, parent_of, plugin_facts, state_digest
from zoo.labelled import LabelledImages
from zoo.models import Model
from zoo.phases import Outcome
from zoo.recipes import Recipe
from zoo.registry import phase_data
from zoo.runs import Run
from zoo.tasks import Task
from zoo.training.engine import Engine


def header_of(
    model: Model,
    images: LabelledImages,
    recipe: Recipe,
    outcome: Outcome,
    engine: Engine,
    *,
    task: Task,
    features: FeatureCache | None,
    metrics: Mapping[str, Any],
    seed: int,
    split_seed: int,
) -> Header:
    """The header of a finished run's artifact. Equal runs give equal headers."""
    return Header(
        architecture=model.architecture.full_name,
        options=dict(model.options),
        plugin=plugin_facts(model),
        classes=list(images.classes),
        task=task.name,
        thresholds=list(task.thresholds),
        in_channels=model.in_channels,
        preprocessing=model.preprocessing,
        parent=parent_of(model),
        freeze=freeze_proofs(outcome.frozen),
        recipe=UsedRecipe(name=recipe.name, phases=[asdict(phase) for phase in recipe.phases]),
        seed=seed,
        data=TrainingData(
            fingerprint=images.fingerprint,
            counts=images.counts(),
            split_seed=split_seed if images.was_split else None,
        ),
        metrics=dict(metrics),
        numerics=header_numerics(
            engine.numerics,
            feature_stages=outcome.feature_stages,
            feature_precision=features.precision if features is not None else "float32",
        ),
        check=check_logits(model, seed),
        state_sha256=state_digest(model),
    )


def config_of(config: Mapping[str, Any], recipe: Recipe, engine: Engine) -> dict[str, Any]:
    """What ``config.toml`` holds: the settings as given and chosen, numerics with their reasons, and the phases."""
    numerics = engine.numerics
    return {
        **config,
        "recipe": recipe.name,
        "numerics": {
            "precision": numerics.precision,
            "channels_last": numerics.channels_last,
            "batch_size": numerics.batch_size,
            "threads": numerics.threads,
            **{f"{choice}_reason": reason for choice, reason in numerics.reasons.items()},
        },
        "phases": [phase_data(phase) for phase in recipe.phases],
    }


def report_facts(
    run: Run,
    model: Model,
    images: LabelledImages,
    recipe: Recipe,
    outcome: Outcome,
    engine: Engine,
    *,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """What :func:`zoo.report.render` draws the report from."""
    return {
        "name": run.folder.name,
        "architecture": model.architecture.full_name,
        "weights": {
            "kind": model.source.kind,
            "spec": model.source.spec,
            "licence": model.source.licence,
        },
        "recipe": {"name": recipe.name, "phases": [asdict(phase) for phase in recipe.phases]},
        "classes": list(images.classes),
        "task": images.task.name,
        "images": images.counts(),
        "counts": {
            split: dict(zip(images.classes, images.data.counts(split), strict=True)) for split in images.data.splits
        },
        "findings": [asdict(finding) for finding in images.findings],
        "skipped": [{"path": str(bad.path), "reason": bad.reason} for bad in images.bad],
        "history": outcome.history,
        "best": dict(outcome.best),
        "results": run.metrics,
        "freeze": [asdict(part) for part in outcome.frozen],
        "numerics": asdict(engine.numerics),
        "commands": [
            ("Classify a photo", f"zoo predict {shlex.quote(str(run.artifact))} PHOTO.jpg"),
            ("Measure it on other photos", f"zoo evaluate {shlex.quote(str(run.artifact))} FOLDER"),
            ("Check the artifact", f"zoo verify {shlex.quote(str(run.artifact))}"),
            ("Train it again", _command(config, recipe)),
        ],
        "versions": {name: version(name) for name in ("torch-zoo", "torch", "torchvision", "pillow")},
        "seconds": {"total": run.seconds},
    }


def _command(config: Mapping[str, Any], recipe: Recipe) -> str:
    words = ["zoo", "finetune", config["data"], "--model", config["model"], "--weights", config["weights"]]
    words += ["--recipe", recipe.name, "--epochs", ",".join(map(str, config["recipe_epochs"]))]
    words += ["--image-size", str(config["image_size"]), "--seed", str(config["seed"])]
    for key, value in config["options"].items():
        if key != "image_size":
            words += ["--option", f"{key}={','.join(map(str, value)) if isinstance(value, tuple) else value}"]
    if config["in_channels"] != 3:
        words += ["--in-channels", str(config["in_channels"])]
    if config["split_seed"] != config["seed"]:
        words += ["--split-seed", str(config["split_seed"])]
    return shlex.join(words)
