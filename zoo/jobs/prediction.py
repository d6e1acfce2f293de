"""Classifying photos with a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zoo.architecture import Preprocessing
from zoo.data import ImageBatches, ImageReader, SoundImages, Transform, available_processors, evaluation_steps, to_batch
from zoo.errors import DataError, ImageError, OptionError
from zoo.models import Model, build_model, load_artifact, request_model
from zoo.phases import Front
from zoo.phases.feed import split_logits
from zoo.plugins.catalogue import open_plugins
from zoo.progress import Progress, Silent
from zoo.training.batches import Batch
from zoo.training.engine import Engine, choose_device, choose_numerics
from zoo.training.inference import predict_logits

Photo = str | Path | bytes | Image.Image


@dataclass(frozen=True)
class Prediction:
    """What a model says about one image.

    Attributes:
        label: Name of the most probable class; its number as text where the names are unknown.
        probability: Softmax of its logit, or its sigmoid for a multi-label model, 0–1.
        top: The most probable classes with their probabilities, best first.
        source: The file, where the image came from one.
        labels: The answer: the most probable class alone, or, of a multi-label model, the labels whose probabilities
            reach their thresholds with those probabilities, the most probable first, of which there may be none.
    """

    label: str
    probability: float
    top: tuple[tuple[str, float], ...]
    source: str = ""
    labels: tuple[tuple[str, float], ...] = ()


def predict_images(
    model: Model,
    photos: Sequence[Photo],
    *,
    top_k: int = 5,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    cache: bool = True,
    workers: int | None = None,
    progress: Progress = Silent(),
) -> list[Prediction]:
    """Classify images with the preparation that the model was trained with.

    Args:
        model: From :func:`zoo.models.load` or :func:`zoo.models.build_model`.
        photos: Paths, the bytes of image files, or Pillow images.
        top_k: Classes to list for each, at least 1.
        device: Where to compute.
        precision: ``"auto"`` uses the one that the artifact's figures were taken in, else float32.
        cache: Whether features of many files are found and kept in the user's cache, where the artifact's figures were
            taken on features; False runs the whole model.
        workers: Threads that read files; None means one a core.
        progress: Told of each batch.

    Returns:
        One prediction an image, in the same order.

    Raises:
        DataError: An image cannot be read.
        OptionError: ``top_k`` is less than 1.
    """
    if top_k < 1:
        raise OptionError(f"top_k = {top_k} is less than 1.")
    engine = engine_for(model, device=device, precision=precision)
    files = [Path(photo) for photo in photos if isinstance(photo, str | Path)]
    used = model.header.numerics if model.header is not None else None
    # Fewer are sooner done than the frozen part is hashed and made fast.
    if cache and used is not None and used.feature_stages and len(files) == len(photos) >= engine.numerics.batch_size:
        logits = _logits_of_files(model, files, engine=engine, precision=precision, workers=workers, progress=progress)
    else:
        batches = _PhotoBatches(
            photos,
            model.preprocessing,
            batch_size=min(engine.numerics.batch_size, max(1, len(photos))),
            workers=workers,
        )
        front = Front(model.preprocessing, engine=engine)
        logits, _ = predict_logits(model.module, batches, engine=engine, front=front, progress=progress)
    names = model.classes or tuple(str(i) for i in range(logits.shape[1]))
    probabilities = model.task.probabilities(logits)
    answers = model.task.answers(probabilities)
    return [
        _prediction(row, answer, names, top_k, name_of(photos[i], i))
        for i, (row, answer) in enumerate(zip(probabilities, answers, strict=True))
    ]


def open_model(
    target: str | Path,
    *,
    weights: str | Path | None = "default",
    options: Mapping[str, object] | None = None,
    image_size: int | None = None,
    offline: bool = False,
    allow_pth: bool = False,
    locked: bool = False,
    registry: str | Path | None = None,
    progress: Progress = Silent(),
) -> Model:
    """An artifact, or an architecture with weights, ready to predict.

    Args:
        target: The file of an artifact, or the name of an architecture.
        weights: For an architecture: a tag or a path.
        options: For an architecture: its options.
        image_size: For an architecture: height and width of the input in pixels.
        offline: Never download.
        allow_pth: Read local ``.pth`` weights.
        locked: Refuse weights whose full hash ``registry.lock`` does not have.
        registry: A registry.toml that goes before all others.
        progress: Where a download is shown.

    Raises:
        WeightsError: The artifact or the weights cannot be used.
    """
    plugins = open_plugins(registry)
    if is_file_name(target):
        return load_artifact(plugins, Path(target))
    request = request_model(plugins, str(target), weights=weights, options=options, image_size=image_size)
    if request.weights is None:
        raise OptionError(f"{target} without weights knows nothing; give --weights.")
    return build_model(plugins, request, offline=offline, allow_pth=allow_pth, locked=locked, progress=progress)


def is_file_name(target: str | Path) -> bool:
    """Whether a target means an artifact's file and not an architecture's name."""
    return isinstance(target, Path) or str(target).endswith(".safetensors") or Path(target).is_file()


def engine_for(
    model: Model,
    *,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    batch_size: int | None = None,
) -> Engine:
    """Device and numerics to use a model with: those that its figures were taken in, where it is an artifact."""
    torch_device = choose_device(device)
    used = model.header.numerics if model.header is not None else None
    chosen = used.precision if used is not None and precision == "auto" else precision
    numerics = choose_numerics(
        model.module,
        torch_device,
        precision="float32" if chosen == "auto" else chosen,  # type: ignore[arg-type]  # checked when it was decoded
        batch_size=batch_size or (used.batch_size if used is not None else 32),
    )
    return Engine(torch_device, numerics)


def feature_precision(
    model: Model, asked: Literal["auto", "float32", "bfloat16"]
) -> Literal["auto", "float32", "bfloat16"]:
    """What the features of a model are computed in: with ``"auto"`` as those that an artifact was measured on."""
    used = model.header.numerics.feature_precision if model.header is not None else ""
    return used or asked if asked == "auto" else asked  # type: ignore[return-value]  # checked when it was decoded


class _Files:
    """Image files without targets, as one split."""

    def __init__(self, reader: ImageReader) -> None:
        self._reader = reader

    def batches(self, split: str, *, batch_size: int) -> ImageBatches:
        """All of them in order; the last batch is padded."""
        count = len(self._reader.paths)
        positions = self._reader.positions(self._reader.paths)
        steps = evaluation_steps(count, batch_size)
        return ImageBatches(self._reader, positions, [0] * count, steps=steps, pad_to=batch_size)


def _logits_of_files(
    model: Model,
    files: Sequence[Path],
    *,
    engine: Engine,
    precision: Literal["auto", "float32", "bfloat16"],
    workers: int | None,
    progress: Progress,
) -> Tensor:
    """Logits on features that are found or kept in the store, the same as those that the artifact was measured with."""
    reader = ImageReader(files, model.preprocessing, workers=workers, progress=progress)
    sound = SoundImages(model.preprocessing.input_size[0])
    digests = reader.scan(sound).digests
    sound.add(digests.values())
    logits, _ = split_logits(
        model.chain(),
        _Files(reader),
        "photos",
        engine=engine,
        front=Front(model.preprocessing, engine=engine),
        feature_stages=model.header.numerics.feature_stages if model.header is not None else 0,
        cache=model.feature_cache(digests, device=engine.device, precision=feature_precision(model, precision)),
        progress=progress,
    )
    return logits


class _PhotoBatches:
    """Photos of any kind as batches without targets, read in threads one batch ahead."""

    def __init__(
        self, photos: Sequence[Photo], preprocessing: Preprocessing, *, batch_size: int, workers: int | None
    ) -> None:
        self._photos = photos
        self._transform = Transform(preprocessing)
        self._batch_size = batch_size
        self._workers = workers or available_processors()

    def __len__(self) -> int:
        return -(-len(self._photos) // self._batch_size)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """Batches from step ``start`` on; the last is padded, so an image meets the same arithmetic in any company."""
        batches = [
            range(first, min(first + self._batch_size, len(self._photos)))
            for first in range(start * self._batch_size, len(self._photos), self._batch_size)
        ]
        with ThreadPoolExecutor(self._workers, thread_name_prefix="zoo-photos") as pool:
            ahead = [pool.map(self._read, batch) for batch in batches[:1]]
            for number, batch in enumerate(batches):
                if number + 1 < len(batches):
                    ahead.append(pool.map(self._read, batches[number + 1]))
                images = list(ahead.pop(0))
                images += images[-1:] * (self._batch_size - len(images))
                indices = torch.tensor([*batch, *[batch[-1]] * (self._batch_size - len(batch))])
                yield Batch(to_batch(np.stack(images)), torch.zeros_like(indices), indices, len(batch))

    def _read(self, i: int) -> NDArray[np.uint8]:
        photo = self._photos[i]
        try:
            return self._transform.read(photo if isinstance(photo, bytes | Path) else _content(photo))
        except ImageError as error:
            raise DataError(f"{name_of(photo, i)} {error}.") from error


def name_of(photo: Photo, i: int) -> str:
    """What to call an image in messages and tables."""
    return str(photo) if isinstance(photo, str | Path) else f"image {i + 1}"


def _content(photo: str | Image.Image) -> bytes | Path:
    if isinstance(photo, str):
        return Path(photo)
    # Through PNG, which loses nothing, so that every image takes the one way through decode.
    buffer = BytesIO()
    photo.save(buffer, format="PNG")
    return buffer.getvalue()


def _prediction(
    probabilities: Tensor, answer: Sequence[int], names: Sequence[str], top_k: int, source: str
) -> Prediction:
    places = probabilities.topk(min(top_k, len(names))).indices.tolist()
    top = tuple((names[place], float(probabilities[place])) for place in places)
    labels = tuple((names[place], float(probabilities[place])) for place in answer)
    return Prediction(label=top[0][0], probability=top[0][1], top=top, source=source, labels=labels)
