"""Which backbone suits some images: a converged linear head on each one's features, and what each costs."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from zoo.architecture import option_text
from zoo.errors import DataError, OptionError, PluginError, UsageError, WeightsError
from zoo.features import features_folder
from zoo.features.frozen import FrozenFeatures
from zoo.files import cache_folder, write_atomically
from zoo.jobs.prediction import is_file_name
from zoo.labelled import LabelledImages, load_images
from zoo.models import Model, Request, build_model, effective_preprocessing, load_artifact, request_model
from zoo.plugins import Plugins
from zoo.plugins.catalogue import list_models, open_plugins
from zoo.progress import Progress, Silent
from zoo.recipes import Phase
from zoo.sources.own_data import as_folder
from zoo.training.engine import Engine, Numerics, choose_device, choose_numerics
from zoo.training.footprint import peak_bytes
from zoo.training.losses import summed_losses
from zoo.training.solver import LogisticRegression, penalties

_PENALTIES = 13
# Weaker penalties than these take longest to fit, and none was better after so many that were not.
_PATIENCE = 4
_LATENCY_RUNS = 7
_LATENCY_BUDGET_S = 5.0
_RATE_BATCHES = 2


@dataclass(frozen=True)
class Candidate:
    """What one model came to.

    Attributes:
        model: Its name or file, as asked for.
        architecture: ``plugin/name`` of what was built.
        options: The options that are not the architecture's defaults, as text.
        accuracy: Share of right answers on the test split of the linear head that validation chose, 0–1; mean average
            precision for data with several labels an image.
        standard_error: Of the accuracy, from the number of test images; None for mean average precision.
        val_accuracy: The same on the validation split, which chose.
        penalty: The one that validation chose.
        features: Numbers a feature vector has.
        images_per_s: Images a second that the backbone turns into features, in batches, reading left out.
        latency_ms: Of the whole model on one image in float32, median.
        parameters: Values of the whole model, the head for these classes included.
        size_bytes: Of these values in float32.
        memory_bytes: Most memory that one image takes in float32, values included.
        image_size: Height and width of the input in pixels.
        on_front: Whether no other model is both faster on one image and more accurate.
        error: Why there are no figures; empty where there are.
    """

    model: str
    architecture: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    accuracy: float = math.nan
    standard_error: float | None = None
    val_accuracy: float = math.nan
    penalty: float = math.nan
    features: int = 0
    images_per_s: float = math.nan
    latency_ms: float = math.nan
    parameters: int = 0
    size_bytes: int = 0
    memory_bytes: int = 0
    image_size: int = 0
    on_front: bool = False
    error: str = ""


@dataclass(frozen=True)
class Comparison:
    """Models in the order of their accuracy, the best first, those without figures last.

    Attributes:
        candidates: One a model.
        metric: ``"accuracy"`` or ``"map"``.
        images: Number of images in each split.
        device: Where it was computed.
    """

    candidates: tuple[Candidate, ...]
    metric: str
    images: Mapping[str, int]
    device: str

    def summary(self) -> dict[str, Any]:
        """The document that ``zoo compare --json`` prints."""
        rows = [
            {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in asdict(c).items()}
            for c in self.candidates
        ]
        return {"metric": self.metric, "images": dict(self.images), "device": self.device, "models": rows}


def compare(
    data: str | Path,
    *,
    models: Sequence[str | Path],
    weights: str | None = "default",
    image_size: int | None = None,
    on_bad_image: Literal["error", "skip"] = "error",
    seed: int = 0,
    split_seed: int | None = None,
    group_by: str | None = None,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    cache: bool = True,
    workers: int | None = None,
    offline: bool = False,
    allow_pth: bool = False,
    locked: bool = False,
    registry: str | Path | None = None,
    progress: Progress = Silent(),
) -> Comparison:
    """Rank models by what a linear head learns on their features of one's own images.

    Nothing is trained but the heads, each to convergence, so the ranking takes one pass over the images for each
    model. Features and figures are kept: a comparison that was interrupted goes on where it stopped, and training the
    chosen model begins with its features in place.

    Args:
        data: As for :func:`zoo.finetune`.
        models: Names of architectures or presets, files of artifacts, and patterns such as ``"resnet*"``, which mean
            all matching architectures with published weights.
        weights: A tag that all of them have, ``"default"``, or None for random values.
        image_size: Height and width of the input in pixels, for all of them.
        on_bad_image: ``"skip"`` leaves unreadable images out.
        seed: Decides values that no weights give.
        split_seed: Decides the split where the data has none; None follows ``seed``.
        group_by: Column of the manifest whose equal values stay in one split.
        device: Where to compute.
        precision: Of the features; ``"auto"`` chooses by rule.
        cache: Whether features and figures are found and kept in the user's cache.
        workers: Threads that read images.
        offline: Never download.
        allow_pth: Read local ``.pth`` weights.
        locked: Refuse weights whose full hash ``registry.lock`` does not have.
        registry: A registry.toml that goes before all others.
        progress: Where to say what is happening.

    Raises:
        UsageError: There are no models, or a name is unknown.
        DataError: The images cannot be used.
        WeightsError: No model at all could be compared; the first one's reason.
    """
    plugins = open_plugins(registry)
    names = _expanded(models, registry)
    opened = {name: _open(plugins, name, weights=weights, image_size=image_size) for name in names}
    torch_device = choose_device(device)
    with as_folder(data, offline=offline, progress=progress) as source, ExitStack() as stack:
        first = next(iter(opened.values()))
        images = load_images(
            source,
            preprocessing=first.preprocessing if isinstance(first, Model) else effective_preprocessing(first),
            on_bad_image=on_bad_image,
            split_seed=seed if split_seed is None else split_seed,
            group_by=group_by,
            workers=workers,
            seed=seed,
            progress=progress,
        )
        for split in ("train", "val", "test"):
            if not images.has(split):
                raise DataError(f"{source} has no images for {split}: comparing takes training, validation and test.")
        folder = features_folder() if cache else Path(stack.enter_context(TemporaryDirectory()))
        found: list[Candidate] = []
        for name, asked in opened.items():
            progress.note(f"{name} ({len(found) + 1} of {len(opened)})")
            try:
                model = (
                    asked
                    if isinstance(asked, Model)
                    else build_model(
                        plugins,
                        asked,
                        classes=images.classes,
                        seed=seed,
                        offline=offline,
                        allow_pth=allow_pth,
                        locked=locked,
                        progress=progress,
                    )
                )
                contest = _Contest(name, model, images, device=torch_device, precision=precision, folder=folder)
                found.append(contest.result(keep=cache, progress=progress))
            except (WeightsError, PluginError, OptionError) as error:
                progress.warn(f"{name} is left out: {error}")
                found.append(Candidate(name, error=str(error)))
    if all(candidate.error for candidate in found):
        raise WeightsError(f"none of the {len(found)} model(s) could be compared. {found[0].model}: {found[0].error}")
    metric = "accuracy" if images.task.name == "single-label" else "map"
    return Comparison(tuple(ranked(found)), metric, images.counts(), str(torch_device))


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """By accuracy, the best first and those without figures last, with the Pareto front marked."""
    with_figures = [c for c in candidates if not c.error]
    marked = [
        replace(c, on_front=not any(_beats(other, c) for other in with_figures)) if not c.error else c
        for c in candidates
    ]
    return sorted(marked, key=lambda c: (bool(c.error), -c.accuracy if not c.error else 0, c.latency_ms))


def _beats(one: Candidate, other: Candidate) -> bool:
    as_good = one.accuracy >= other.accuracy and one.latency_ms <= other.latency_ms
    return as_good and (one.accuracy > other.accuracy or one.latency_ms < other.latency_ms)


def _expanded(models: Sequence[str | Path], registry: str | Path | None) -> list[str]:
    names: list[str] = []
    for model in map(str, models):
        if any(sign in model for sign in "*?["):
            matching = list_models(model, pretrained=True, registry=registry)
            if not matching:
                raise UsageError(f"no architecture with published weights fits {model!r}; 'zoo list' shows all names.")
            names += matching
        else:
            names.append(model)
    if not names:
        raise UsageError("no models to compare: name some with --models resnet18,resnet50.")
    return list(dict.fromkeys(names))


def _open(plugins: Plugins, name: str, *, weights: str | None, image_size: int | None) -> Model | Request:
    if is_file_name(name):
        return load_artifact(plugins, Path(name))
    request = request_model(plugins, name, weights=weights, image_size=image_size)
    if request.weights == "default" and request.architecture.default_weights is None:
        raise UsageError(
            f"{name} has no published weights, so its features mean nothing: leave it out, or compare random values "
            "with --weights none."
        )
    return request


class _Contest:
    """One model on the images."""

    def __init__(
        self,
        name: str,
        model: Model,
        images: LabelledImages,
        *,
        device: torch.device,
        precision: Literal["auto", "float32", "bfloat16"],
        folder: Path,
    ) -> None:
        self._name = name
        self._model = model
        self._images = images.prepared_for(model.preprocessing)
        self._engine = Engine(device, choose_numerics(model.module, device, precision="float32"))
        self._chain = model.chain()
        cut = self._chain.cut("head")
        if not cut.frozen_stages:
            raise OptionError(f"{model.architecture.full_name} is no chain of stages, so it has no features to compare")
        self._cache = replace(model.feature_cache(images.digests, device=device, precision=precision), folder=folder)
        self._stages = cut.frozen_stages
        self._digest = self._chain.digest(cut)

    def result(self, *, keep: bool, progress: Progress) -> Candidate:
        """The figures, found where they were kept."""
        self._engine.place(self._model.module)
        features = FrozenFeatures(
            self._chain.part(0, self._stages),
            digest=self._digest,
            cache=self._cache,
            engine=self._engine,
            progress=progress,
        )
        path = cache_folder() / "compare" / f"{self._key(features)}.json"
        if keep and (kept := _read(path, self._name)) is not None:
            return kept
        candidate = self._measured(features, progress)
        if keep:
            write_atomically(path, json.dumps(asdict(candidate)))
        return candidate

    def _key(self, features: FrozenFeatures) -> str:
        numerics: Numerics = self._engine.numerics
        facts = [
            features.store.key,
            self._images.fingerprint,
            self._images.task.name,
            len(self._images.classes),
            numerics.threads,
            _PENALTIES,
            [field.name for field in fields(Candidate)],
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]

    def _measured(self, features: FrozenFeatures, progress: Progress) -> Candidate:
        module, size = self._model.module, self._model.preprocessing.input_size
        vectors = {split: self._vectors(features, split) for split in ("train", "val", "test")}
        penalty, val_accuracy, accuracy = self._probe(vectors, progress)
        single = self._images.task.name == "single-label"
        count = len(vectors["test"])
        image = torch.zeros(1, *size, device=self._engine.device)
        values = [*module.parameters(), *module.buffers()]
        return Candidate(
            model=self._name,
            architecture=self._model.architecture.full_name,
            options=self._options(),
            accuracy=accuracy,
            standard_error=math.sqrt(accuracy * (1 - accuracy) / count) if single else None,
            val_accuracy=val_accuracy,
            penalty=penalty,
            features=vectors["test"].shape[1],
            images_per_s=features.images_per_s(batches=_RATE_BATCHES),
            latency_ms=1000 * self._latency(image),
            parameters=sum(parameter.numel() for parameter in module.parameters()),
            size_bytes=sum(value.numel() * value.element_size() for value in values),
            memory_bytes=peak_bytes(module, self._engine.lay_out(image)),
            image_size=size[1],
        )

    def _options(self) -> dict[str, str]:
        defaults = {option.name: option.default for option in self._model.architecture.options}
        given = self._model.options.items()
        return {name: option_text(value) for name, value in given if value != defaults[name]}

    def _vectors(self, features: FrozenFeatures, split: str) -> Tensor:
        """One vector an image, float32 ``(N, D)``: maps of features are averaged over their places."""
        paths = self._images.data.splits[split].paths
        rows = replace(features.rows(self._images.reader, paths), float32=True).take(np.arange(len(paths)))
        if not isinstance(rows, Tensor):
            raise OptionError(f"the features of {self._model.architecture.full_name} are several tensors")
        return rows.mean(dim=(2, 3)) if rows.ndim == 4 else rows.flatten(1)

    def _probe(self, vectors: Mapping[str, Tensor], progress: Progress) -> tuple[float, float, float]:
        """Penalty, and accuracy on validation and test of the head that validation chose."""
        task, classes = self._images.task, len(self._images.classes)
        engine = Engine(torch.device("cpu"), self._engine.numerics)
        targets = {split: self._images.targets(split) for split in vectors}
        criterion = task.criterion(Phase(epochs=1), targets["train"], classes)
        regression = LogisticRegression(
            vectors["train"].clone(), targets["train"], num_classes=classes, criterion=criterion, engine=engine
        )
        metric = "val_accuracy" if task.name == "single-label" else "val_map"

        def figures(split: str, weight: Tensor, bias: Tensor) -> dict[str, float]:
            logits = vectors[split] @ weight.T + bias
            totals = task.scoring.totals(engine)
            totals.add(summed_losses(criterion, logits, targets[split]), logits, targets[split])
            return totals.row()

        best: tuple[tuple[float, float], float, float] | None = None
        since_best = 0
        with engine.reproducible(), progress.task("fitting heads", _PENALTIES, unit="penalties") as advance:
            for penalty in penalties(_PENALTIES):
                fit = regression.fit(penalty)
                assert fit.bias is not None
                val = figures("val", fit.weight, fit.bias)
                rank = (val[metric], -val["val_loss"])
                since_best += 1
                if best is None or rank > best[0]:
                    best, since_best = (rank, penalty, figures("test", fit.weight, fit.bias)[metric]), 0
                advance(1)
                if since_best >= _PATIENCE:
                    break
        assert best is not None
        return best[1], best[0][0], best[2]

    def _latency(self, image: Tensor) -> float:
        """Median seconds of the whole model on one image."""
        module, inputs = self._model.module.eval(), self._engine.lay_out(image)
        seconds: list[float] = []
        with torch.inference_mode():
            module(inputs)
            while len(seconds) < _LATENCY_RUNS and sum(seconds) < _LATENCY_BUDGET_S:
                started = perf_counter()
                float(module(inputs).sum())
                seconds.append(perf_counter() - started)
        return statistics.median(seconds)


def _read(path: Path, name: str) -> Candidate | None:
    """A candidate that was kept; None where there is none that can be read."""
    try:
        return replace(Candidate(**json.loads(path.read_text(encoding="utf-8"))), model=name)
    except (OSError, ValueError, TypeError):
        return None
