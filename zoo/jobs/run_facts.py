"""What a run writes down about itself: the artifact's header, ``config.toml`` and the report's facts."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from zoo.artifact import Header, TrainingData, UsedRecipe
from zoo.features.frozen import FeatureCache
from zoo.jobs.preparation import Prepared
from zoo.jobs.proof import check_logits, freeze_proofs, header_numerics, parent_of, plugin_facts, state_digest
from zoo.jobs.resuming import OWN_DATA, versions
from zoo.phases import Outcome
from zoo.phases.feed import pass_choices
from zoo.recipes import Phase, Recipe
from zoo.registry import phase_data
from zoo.runs import Run
from zoo.tasks import Task


def header_of(
    trained: Prepared,
    outcome: Outcome,
    *,
    task: Task,
    features: FeatureCache | None,
    metrics: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> Header:
    """The header of a finished run's artifact. Equal runs give equal headers.

    Args:
        trained: What the phases were run on, with the recipe as it was trained.
        outcome: What they came to.
        task: The images' task, with what was decided on the validation images.
        features: What features depended on, where they were kept.
        metrics: Figures by split.
        settings: Of which ``seed`` and ``split_seed`` are stated.
    """
    model, images = trained.model, trained.images
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
        recipe=UsedRecipe(name=trained.recipe.name, phases=[asdict(phase) for phase in trained.recipe.phases]),
        seed=settings["seed"],
        data=TrainingData(
            fingerprint=images.fingerprint,
            counts=images.counts(),
            split_seed=settings["split_seed"] if images.was_split else None,
        ),
        metrics=dict(metrics),
        numerics=header_numerics(
            trained.engine.numerics,
            feature_stages=outcome.feature_stages,
            feature_precision=features.precision if features is not None else "float32",
        ),
        check=check_logits(model, settings["seed"]),
        state_sha256=state_digest(model),
    )


def config_of(prepared: Prepared, settings: Mapping[str, Any], *, features: FeatureCache | None) -> dict[str, Any]:
    """What ``config.toml`` holds: the settings as given and chosen, numerics with their reasons, and the phases.

    Args:
        prepared: What training begins with.
        settings: What the user asked for.
        features: What features of frozen parts depend on; None keeps none.
    """
    model, numerics = prepared.model, prepared.engine.numerics
    return {
        **settings,
        "working_folder": str(Path.cwd()),
        "fingerprint": prepared.images.fingerprint,
        "image_size": model.preprocessing.input_size[1],
        "feature_precision": features.precision if features is not None else None,
        "options": dict(model.options),
        "features": pass_choices(model.chain(), prepared.recipe, engine=prepared.engine, cache=features),
        "versions": versions(),
        "recipe": prepared.recipe.name,
        "numerics": {
            "precision": numerics.precision,
            "channels_last": numerics.channels_last,
            "batch_size": numerics.batch_size,
            "threads": numerics.threads,
            **{f"{choice}_reason": reason for choice, reason in numerics.reasons.items()},
        },
        "phases": [phase_data(phase) for phase in prepared.recipe.phases],
    }


def report_facts(run: Run, trained: Prepared, outcome: Outcome, *, config: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`zoo.report.render` draws the report from, besides the artifact's proof."""
    model, images, recipe = trained.model, trained.images, trained.recipe
    return {
        "name": run.folder.name,
        "architecture": model.architecture.full_name,
        "weights": {
            "kind": model.source.kind,
            "spec": model.source.spec,
            "licence": model.source.licence,
        },
        "recipe": {
            "name": recipe.name,
            "phases": [_phase_facts(phase, i, outcome.history) for i, phase in enumerate(recipe.phases)],
        },
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
        "numerics": asdict(trained.engine.numerics),
        "commands": [
            ("Classify a photo", f"zoo predict {shlex.quote(str(run.artifact))} PHOTO.jpg"),
            ("Measure it on other photos", f"zoo evaluate {shlex.quote(str(run.artifact))} FOLDER"),
            ("Check the artifact", f"zoo verify {shlex.quote(str(run.artifact))}"),
            *_training_command(config, recipe),
        ],
        "versions": versions(),
        "seconds": {"total": run.seconds},
    }


def _phase_facts(phase: Phase, index: int, history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A phase as the report tells of it: what always matters, and what is not as it usually is."""
    ran = sum(row["phase"] == index for row in history)
    facts: dict[str, Any] = {
        "epochs": phase.epochs if ran == phase.epochs else f"{ran} of {phase.epochs}",
        "train": phase.train,
    }
    if phase.solver == "gradient":
        facts |= {key: getattr(phase, key) for key in ("lr", "optimizer", "schedule", "batch_size")}
    facts["augment"] = phase.augment
    defaults = {field.name: field.default for field in fields(Phase)}
    return facts | {key: value for key, value in asdict(phase).items() if key not in facts and value != defaults[key]}


def _training_command(config: Mapping[str, Any], recipe: Recipe) -> list[tuple[str, str]]:
    """The command that trains the same again; none where Python had what no command can say."""
    if config["own_recipe"] or config["own_criterion"] or config["data"] == OWN_DATA:
        return []
    words = ["zoo", "finetune", config["data"], "--model", config["model"], "--weights", config["weights"]]
    words += ["--recipe", recipe.name]
    for key, value in config["overrides"].items():
        words += [f"--{key.replace('_', '-')}", *([] if value is True else [_joined(value)])]
    words += ["--image-size", str(config["image_size"]), "--seed", str(config["seed"])]
    for key, value in config["options"].items():
        if key != "image_size":
            words += ["--option", f"{key}={_joined(value)}"]
    usual = {
        "in_channels": 3,
        "on_bad_image": "error",
        "split_seed": config["seed"],
        "group_by": None,
        "registry": None,
        "cache_images": None,
    }
    for key, default in usual.items():
        if config[key] != default:
            words += [f"--{key.replace('_', '-')}", str(config[key])]
    return [("Train it again", shlex.join([*words, *([] if config["cache"] else ["--no-cache"])]))]


def _joined(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
