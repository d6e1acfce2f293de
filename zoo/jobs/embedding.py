"""Features of images for other tools, as one file."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from zoo.data import ImageReader, SoundImages, find_images, find_images_to_predict
from zoo.errors import OptionError, UsageError, did_you_mean
from zoo.features.frozen import FrozenFeatures
from zoo.files import write_atomically
from zoo.jobs.prediction import engine_for, open_model
from zoo.models import Model
from zoo.progress import Progress, Silent
from zoo.runs import exists_error
from zoo.sources.own_data import as_path

_FORMATS = (".safetensors", ".npy")


@dataclass(frozen=True)
class Embedding:
    """What one stage of a model gives for images.

    Attributes:
        features: float32 ``(N, …)``, for most models ``(N, D)``, in the order of the paths.
        paths: The images.
        labels: Index of each image's class, where the data has one class an image; else empty.
        classes: Names of the classes.
        facts: Architecture, weights, stage, preprocessing and precision, as plain values.
    """

    features: Tensor
    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    facts: Mapping[str, Any]


def embed(
    data: str | Path,
    *,
    model: str | Path,
    stage: str | None = None,
    output: str | Path | None = None,
    weights: str | Path | None = "default",
    options: Mapping[str, object] | None = None,
    image_size: int | None = None,
    on_bad_image: Literal["error", "skip"] = "error",
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    cache: bool = True,
    workers: int | None = None,
    offline: bool = False,
    allow_pth: bool = False,
    locked: bool = False,
    registry: str | Path | None = None,
    progress: Progress = Silent(),
) -> Embedding:
    """Compute what a model's backbone gives for every image; the features are kept, and found again by ``finetune``.

    Args:
        data: A folder of images at any depth, with or without classes, one image, or a CSV manifest.
        model: The file of an artifact, or the name of an architecture.
        stage: The stage whose output is taken; None takes the last one before the head.
        output: A ``.safetensors`` file (features, labels, and the rest as JSON in its metadata) or an ``.npy`` file
            with a ``.json`` beside it. None writes nothing.
        weights: For an architecture: a tag or a path.
        options: For an architecture: its options.
        image_size: For an architecture: height and width of the input in pixels.
        on_bad_image: ``"skip"`` leaves unreadable images out.
        device: Where to compute.
        precision: ``"auto"`` chooses by rule; the result is float32 in any case.
        cache: Whether features are found and kept in the user's cache.
        workers: Threads that read images.
        offline: Never download.
        allow_pth: Read local ``.pth`` weights.
        locked: Refuse weights whose full hash ``registry.lock`` does not have.
        registry: A registry.toml that goes before all others.
        progress: Where to say what is happening.

    Raises:
        UsageError: ``output`` exists or has another ending, or there is no such stage.
        DataError: There are no images, or some cannot be read.
        WeightsError: The model cannot be had.
    """
    target = _checked(output)
    opened = open_model(
        model,
        weights=weights,
        options=options,
        image_size=image_size,
        offline=offline,
        allow_pth=allow_pth,
        locked=locked,
        registry=registry,
        progress=progress,
    )
    stages = _stages(opened, stage)
    source_data = as_path(data, offline=offline, progress=progress)
    paths, labels, classes = _find(source_data)
    reader = ImageReader(paths, opened.preprocessing, workers=workers, on_bad=on_bad_image, progress=progress)
    sound = SoundImages(opened.preprocessing.input_size[0])
    digests = reader.scan(sound).digests
    sound.add(digests.values())
    readable = [i for i, path in enumerate(paths) if path in digests]
    paths, labels = [paths[i] for i in readable], [labels[i] for i in readable] if labels else []

    engine = engine_for(opened, device=device)
    features = opened.feature_cache(digests, device=engine.device, precision=precision)
    with ExitStack() as stack:
        if not cache:
            features = replace(features, folder=Path(stack.enter_context(TemporaryDirectory())))
        chain = opened.chain()
        engine.place(opened.module)
        source = FrozenFeatures(
            chain.part(0, stages),
            digest=chain.digest(chain.cut(f"last {len(chain) - stages}")),
            cache=features,
            engine=engine,
            progress=progress,
        )
        rows = replace(source.rows(reader, paths), float32=True).take(np.arange(len(paths)))
    if not isinstance(rows, Tensor):
        raise OptionError(f"stage {chain.names[stages - 1]!r} gives several tensors; take another --stage.")
    facts = {
        **opened.identity,
        "weights": {"kind": opened.source.kind, "spec": opened.source.spec, "sha256": opened.source.sha256},
        "stage": chain.names[stages - 1],
        "input_size": list(opened.preprocessing.input_size),
        "precision": source.chosen.numerics.precision,
    }
    embedding = Embedding(rows, tuple(paths), tuple(labels), classes, facts)
    if target is not None:
        write_embedding(embedding, target, root=source_data)
        progress.note(f"wrote {tuple(rows.shape)} float32 to {target}")
    return embedding


def write_embedding(embedding: Embedding, target: Path, *, root: Path) -> None:
    """Write an embedding as ``.safetensors``, or as ``.npy`` with a ``.json`` beside it. Equal content, equal bytes.

    Args:
        embedding: What to write.
        target: The file.
        root: Paths below it are written relative to it.

    Raises:
        StorageError: The file cannot be written.
    """
    base = root.parent if root.is_file() else root
    facts = {
        **embedding.facts,
        "classes": list(embedding.classes),
        "paths": [str(path.relative_to(base) if path.is_relative_to(base) else path) for path in embedding.paths],
    }
    if target.suffix == ".safetensors":
        from safetensors.torch import save

        tensors = {"features": embedding.features.contiguous()}
        if embedding.labels:
            tensors["labels"] = torch.tensor(embedding.labels)
        write_atomically(target, save(tensors, metadata={"zoo_embedding": _json(facts)}))
        return
    content = io.BytesIO()
    np.save(content, embedding.features.numpy())
    write_atomically(target, content.getvalue())
    write_atomically(target.with_suffix(".json"), _json({**facts, "labels": list(embedding.labels)}) + "\n")


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _checked(output: str | Path | None) -> Path | None:
    if output is None:
        return None
    target = Path(output)
    if target.suffix not in _FORMATS:
        raise UsageError(f"--output {target} ends neither in .safetensors nor in .npy; those are what can be written.")
    for path in (target, target.with_suffix(".json")) if target.suffix == ".npy" else (target,):
        if path.exists():
            raise exists_error(path)
    return target


def _stages(model: Model, stage: str | None) -> int:
    """How many stages to run."""
    names = model.chain().names
    if len(names) < 2:
        raise OptionError(f"{model.architecture.full_name} is no chain of stages, so it has no features to take.")
    if stage is None:
        return len(names) - 1
    if stage not in names[:-1]:
        raise OptionError(
            f"--stage {stage} is no stage before the head of {model.architecture.full_name}, which has "
            f"{', '.join(names[:-1])}.{did_you_mean(stage, names[:-1])}"
        )
    return names.index(stage) + 1


def _find(data: Path) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """The images and, where the data has one class an image, their labels."""
    has_classes = data.suffix.lower() == ".csv" or (data.is_dir() and any(map(_is_class, data.iterdir())))
    if not has_classes:
        return find_images_to_predict([data]), [], ()
    found = find_images(data, min_classes=1)
    labels: Sequence[object] = [label for images in found.splits.values() for label in images.labels]
    single = [label for label in labels if isinstance(label, int)]
    return list(found.paths), single if len(single) == len(labels) else [], found.classes


def _is_class(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")
