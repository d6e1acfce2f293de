"""What to know about the data before any training."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from zoo.data.images import ImageData, Label, listed
from zoo.data.reader import BadImage
from zoo.errors import DataError

_IMBALANCE = 10
_FEW_IMAGES = 10


@dataclass(frozen=True)
class Finding:
    """One thing found in the data.

    Attributes:
        level: ``"error"``: the results would be meaningless; ``"warning"``: they may be less than they look.
        text: One sentence.
    """

    level: Literal["error", "warning"]
    text: str


def check_images(data: ImageData, digests: Mapping[Path, str]) -> list[Finding]:
    """Look for duplicates, missing classes and imbalance.

    Args:
        data: With its splits made.
        digests: Hash of the content of every image.

    Returns:
        What was found, errors first.
    """
    found = [
        *_shared_images(data, digests),
        *_contradictions(data, digests),
        *_missing_classes(data),
        *_imbalance(data),
    ]
    return sorted(found, key=lambda finding: finding.level != "error")


def leave_out(data: ImageData, bad: Iterable[BadImage]) -> ImageData:
    """The data without images that cannot be read.

    Raises:
        DataError: No image of a class is left in a split that had some.
    """
    unreadable = {image.path: image.reason for image in bad}
    if not unreadable:
        return data
    splits = {}
    for split, images in data.splits.items():
        kept = images.subset(position for position, path in enumerate(images.paths) if path not in unreadable)
        sets = images.label_sets
        for label in sorted(set().union(*sets) - set().union(*kept.label_sets)):
            path = next(path for path, labels in zip(images.paths, sets, strict=True) if label in labels)
            where = "" if split == "all" else f" in {split}"
            raise DataError(
                f"no image of class {data.classes[label]!r}{where} can be read, for example {path}: "
                f"{unreadable[path]}; replace its images or remove the class."
            )
        splits[split] = kept
    return replace(data, splits=splits)


def _shared_images(data: ImageData, digests: Mapping[Path, str]) -> list[Finding]:
    findings = []
    seen = {split: {digests[path]: path for path in reversed(images.paths)} for split, images in data.splits.items()}
    for split, other in (("test", "train"), ("val", "train"), ("test", "val")):
        if split not in seen or other not in seen:
            continue
        shared = [path for path in data.splits[split].paths if digests[path] in seen[other]]
        if not shared:
            continue
        share = len(shared) / len(data.splits[split])
        findings.append(
            Finding(
                "error" if share >= 0.5 else "warning",
                f"{len(shared)} of {len(data.splits[split])} {split} images ({share:.0%}) are {other} images too, for "
                f"example {shared[0]} and {seen[other][digests[shared[0]]]}; results on {split} are too good by that",
            )
        )
    return findings


def _contradictions(data: ImageData, digests: Mapping[Path, str]) -> list[Finding]:
    labels: dict[str, dict[Label, Path]] = defaultdict(dict)
    for images in data.splits.values():
        for path, label in zip(images.paths, images.labels, strict=True):
            labels[digests[path]].setdefault(label, path)
    twice = [paths for paths in labels.values() if len(paths) > 1]
    if not twice:
        return []
    first, second = list(twice[0].values())[:2]
    what = "different labels" if data.multi_label else "more than one class"
    return [Finding("warning", f"{len(twice)} image(s) have {what}, for example {first} and {second} are equal")]


def _missing_classes(data: ImageData) -> list[Finding]:
    findings = []
    for split in data.splits:
        missing = [name for name, count in zip(data.classes, data.counts(split), strict=True) if not count]
        if missing:
            findings.append(Finding("warning", f"{split} has no images of {len(missing)} class(es): {listed(missing)}"))
    return findings


def _imbalance(data: ImageData) -> list[Finding]:
    split = "train" if "train" in data.splits else next(iter(data.splits))
    counts = dict(zip(data.classes, data.counts(split), strict=True))
    findings = []
    largest, smallest = max(counts, key=lambda name: counts[name]), min(counts, key=lambda name: counts[name])
    if counts[largest] > _IMBALANCE * counts[smallest]:
        findings.append(
            Finding(
                "warning",
                f"classes are unequal: {counts[largest]} {split} images of {largest!r}, {counts[smallest]} of "
                f'{smallest!r}; look at the results class by class, or weigh classes with class_weights = "balanced"',
            )
        )
    small = [name for name, count in counts.items() if count < _FEW_IMAGES]
    if small:
        named = ", ".join(f"{name!r} ({counts[name]})" for name in small[:5]) + (
            " and others" if len(small) > 5 else ""
        )
        findings.append(
            Finding("warning", f"{len(small)} class(es) have fewer than {_FEW_IMAGES} {split} images: {named}")
        )
    return findings
