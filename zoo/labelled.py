"""Labelled images, found, checked, split, and ready to be read for a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from zoo.architecture import Preprocessing
from zoo.data import (
    BadImage,
    Finding,
    ImageBatches,
    ImageData,
    ImageReader,
    ImageSet,
    SoundImages,
    check_images,
    evaluation_steps,
    find_images,
    fingerprint,
    leave_out,
    split_images,
    training_steps,
)
from zoo.data.batches import Steps
from zoo.data.sampling import balanced_steps, every_nth_step, shared_steps
from zoo.errors import DataError, OptionError
from zoo.progress import Progress, Silent
from zoo.recipes import Augment, Sampling
from zoo.tasks import Task, task_of
from zoo.training.allocator import kept_memory

_NAMES_SHOWN = 64


@dataclass(frozen=True)
class LabelledImages:
    """Images of every split with one reader for all of them.

    Attributes:
        data: Splits, classes and labels.
        reader: Reads them for one preparation.
        digests: SHA-256 of each image's content.
        fingerprint: SHA-256 of which content has which label in which split.
        was_split: Whether zoo made the split.
        findings: What the checks found.
        bad: Unreadable images that were left out.
        seed: Decides the order of training.
        rank: This process's number among those that train together.
        world_size: How many they are.
    """

    data: ImageData
    reader: ImageReader
    digests: Mapping[Path, str] = field(repr=False)
    fingerprint: str
    was_split: bool
    findings: tuple[Finding, ...]
    bad: tuple[BadImage, ...]
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    _workers: int | None = field(default=None, repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted."""
        return self.data.classes

    def has(self, split: str) -> bool:
        """Whether the split has images."""
        return split in self.data.splits and len(self.data.splits[split]) > 0

    @property
    def task(self) -> Task:
        """One class an image, or any number of labels."""
        return task_of("multi-label" if self.data.multi_label else "single-label")

    def targets(self, split: str) -> Tensor:
        """What a model should say about each image of a split, as the task gives it: with the images first."""
        return self.task.targets(self.data.splits[split].labels, len(self.classes))

    def names_of(self, samples: Sequence[int]) -> str:
        """File names of training images by their positions, for messages."""
        paths = self.data.splits["train"].paths
        root = self.data.root.parent if self.data.layout == "manifest" else self.data.root
        shown = [paths[sample] for sample in samples[:_NAMES_SHOWN]]
        names = [str(path.relative_to(root) if path.is_relative_to(root) else path) for path in shown]
        more = len(samples) - len(names)
        return "the images " + ", ".join(names) + (f" and {more} more" if more else "")

    def counts(self) -> dict[str, int]:
        """Number of images in each split."""
        return {split: len(images) for split, images in self.data.splits.items()}

    def batches(
        self,
        split: str,
        *,
        batch_size: int,
        augment: Augment = "none",
        sampling: Sampling = "shuffle",
        train: bool = False,
    ) -> ImageBatches:
        """Batches of a split: shuffled for training, else in the data's order and padded to full size.

        Of several processes each takes its part of a training step, and whole steps of an evaluation.

        Raises:
            OptionError: The sampling does not suit the labels, or there are too few images for the processes.
        """
        images = self.data.splits[split]
        if train:
            steps = shared_steps(self._training_steps(images, batch_size, sampling), self.rank, self.world_size)
        else:
            steps = every_nth_step(evaluation_steps(len(images), batch_size), self.rank, self.world_size)
        return ImageBatches(
            self.reader,
            self.reader.positions(images.paths),
            self.targets(split),
            steps=steps,
            pad_to=None if train else batch_size,
            augment=augment if train else "none",
            seed=self.seed,
        )

    def _training_steps(self, images: ImageSet, batch_size: int, sampling: Sampling) -> Steps:
        if sampling == "shuffle":
            return training_steps(len(images), batch_size, seed=self.seed)
        labels = [label for label in images.labels if isinstance(label, int)]
        if len(labels) < len(images):
            raise OptionError(
                'sampling = "balanced" needs images of one class each: with several labels an image, balancing one '
                'unbalances another; class_weights = "balanced" weighs them instead.'
            )
        return balanced_steps(labels, batch_size, seed=self.seed)

    def prepared_for(self, preprocessing: Preprocessing) -> LabelledImages:
        """The same images read for another preparation."""
        if preprocessing == self.reader.preprocessing:
            return self
        decoded = self.reader.decoded
        reader = ImageReader(
            self.reader.paths,
            preprocessing,
            workers=self._workers,
            cache_images_bytes=decoded.limit_bytes if decoded is not None else 0,
        )
        return replace(self, reader=reader)

    def split_with(self, split_seed: int) -> LabelledImages:
        """The same images with the missing splits made from a seed."""
        data = split_images(self.data, seed=split_seed, digests=self.digests)
        return replace(self, data=data, fingerprint=fingerprint(data, self.digests), was_split=True)


def load_images(
    source: Path,
    *,
    preprocessing: Preprocessing,
    split: bool = True,
    on_bad_image: Literal["error", "skip"] = "error",
    split_seed: int = 0,
    group_by: str | None = None,
    min_classes: int = 2,
    workers: int | None = None,
    cache_images_bytes: int = 0,
    seed: int = 0,
    progress: Progress = Silent(),
) -> LabelledImages:
    """Find images and their labels, decode every one that is new, and split them where they are not split.

    Args:
        source: A folder or a CSV manifest.
        preprocessing: What to prepare them for.
        split: Whether to make the splits that are missing.
        on_bad_image: What to do about images that cannot be read.
        split_seed: Decides the split.
        group_by: Column of the manifest whose equal values stay together.
        min_classes: Fewest classes that make sense.
        workers: Threads that read; None means one a core.
        cache_images_bytes: Most memory for decoded images that random crops are cut of; 0 for none.
        seed: Decides the order of training.
        progress: Told of what was found.

    Raises:
        DataError: There are no images, too few classes, unreadable images, or contradictions between splits.
    """
    data = find_images(source, group_by=group_by, min_classes=min_classes)
    for note in data.notes:
        progress.note(note)
    reader = ImageReader(
        data.paths,
        preprocessing,
        workers=workers,
        cache_images_bytes=cache_images_bytes,
        on_bad=on_bad_image,
        progress=progress,
    )
    sound = SoundImages(preprocessing.input_size[0])
    with kept_memory():
        scan = reader.scan(sound)
    sound.add(scan.digests.values())
    data = leave_out(data, scan.bad)
    was_split = split and not {"train", "val", "test"} <= set(data.splits)
    if was_split:
        data = split_images(data, seed=split_seed, digests=scan.digests)
    findings = check_images(data, scan.digests)
    for finding in findings:
        if finding.level == "error":
            raise DataError(finding.text if finding.text.endswith(".") else finding.text + ".")
        progress.warn(finding.text)
    progress.note(_summary(data))
    return LabelledImages(
        data=data,
        reader=reader,
        digests=scan.digests,
        fingerprint=fingerprint(data, scan.digests),
        was_split=was_split,
        findings=tuple(findings),
        bad=scan.bad,
        seed=seed,
        _workers=workers,
    )


def _summary(data: ImageData) -> str:
    parts = ", ".join(f"{split} {len(images)}" for split, images in data.splits.items())
    kind = "labels, any number an image" if data.multi_label else "classes"
    return f"{data.name}: {len(data.paths)} images of {len(data.classes)} {kind} ({data.layout}): {parts}"


def class_positions(classes: Sequence[str], known: Sequence[str]) -> list[int]:
    """Where each class of a data set is among a model's classes, by name.

    Raises:
        DataError: The model does not know one of them.
    """
    unknown = [name for name in classes if name not in known]
    if unknown:
        raise DataError(
            f"the data has classes that the model does not know: {', '.join(map(repr, unknown[:5]))}"
            f"{' …' * (len(unknown) > 5)}. It knows {', '.join(map(repr, known[:10]))}{' …' * (len(known) > 10)}."
        )
    return [list(known).index(name) for name in classes]


def check_task(data: Task, model: Task) -> None:
    """See that a data set asks what a model answers.

    Raises:
        DataError: One has one class an image and the other any number of labels.
    """
    if data.name == model.name:
        return
    if data.name == "multi-label":
        raise DataError(
            "the data has any number of labels an image (column 'labels'), and the model says one class an image; it "
            "needs one class folder or 'label' an image."
        )
    raise DataError(
        "the data has one class an image, and the model says any number of labels an image; it needs a manifest with "
        "the column 'labels'."
    )
