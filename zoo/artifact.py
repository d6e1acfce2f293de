"""The artifact: one ``.safetensors`` file that says everything needed to use it again.

Its metadata has the single key ``zoo``, because the order of several keys is not stable in files that the safetensors
library writes. The value is canonical JSON: sorted keys, no spaces, ASCII, no NaN; no time, host or path. Equal content
gives equal bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from zoo.architecture import OptionValue, Preprocessing
from zoo.errors import ArtifactError
from zoo.safetensors_check import check_safetensors

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "SCHEMA",
    "Check",
    "FreezeProof",
    "Header",
    "Numerics",
    "Parent",
    "Plugin",
    "TrainingData",
    "UsedRecipe",
    "check_safetensors",
    "is_artifact",
    "parse_header",
    "read_artifact",
    "read_header",
    "write_artifact",
]

SCHEMA = 1
_METADATA_KEY = "zoo"
_LARGEST_IMAGE = 1 << 14

_Count = Annotated[int, msgspec.Meta(ge=0)]
_AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]


class Plugin(msgspec.Struct, frozen=True, kw_only=True):
    """The plugin that built the model.

    Attributes:
        name: The first part of the architecture's full name.
        distribution: The package to install for it.
        version: That package's version when the artifact was written.
    """

    name: str
    distribution: str = ""
    version: str = ""


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """The weights that training started from.

    Attributes:
        kind: ``"random"``, ``"tag"``, ``"url"``, ``"hub"``, ``"file"`` or ``"artifact"``.
        spec: The tag, the URL, the name on the hub, or the file's name without its folder.
        sha256: Of the published or local file; empty for random values.
        licence: Its licence, where one is stated.
    """

    kind: str = "random"
    spec: str = ""
    sha256: str = ""
    licence: str = ""


class FreezeProof(msgspec.Struct, frozen=True, kw_only=True):
    """What a phase froze, hashed before and after.

    Attributes:
        phase: Its index, from 0.
        train: What trained, as the phase says it.
        frozen_stages: How many stages were frozen, from the first.
        before: SHA-256 of the frozen tensors when the phase began.
        after: The same when it ended.
    """

    phase: _Count
    train: str
    frozen_stages: _Count
    before: str
    after: str


class UsedRecipe(msgspec.Struct, frozen=True, kw_only=True):
    """How it was trained.

    Attributes:
        name: The recipe's name.
        phases: The fields of each :class:`zoo.recipes.Phase`.
    """

    name: str = ""
    phases: list[dict[str, Any]] = []


class TrainingData(msgspec.Struct, frozen=True, kw_only=True):
    """What it was trained on.

    Attributes:
        fingerprint: Hash of contents, labels and split.
        counts: Images in each split.
        split_seed: Seed of the split; None when the data came split.
    """

    fingerprint: str = ""
    counts: dict[str, _Count] = {}
    split_seed: int | None = None


class Numerics(msgspec.Struct, frozen=True, kw_only=True):
    """The numerics that its figures were taken in.

    Attributes:
        precision: ``"float32"`` or ``"bfloat16"``.
        channels_last: Whether images lay in memory with channels last.
        batch_size: Images a batch.
        threads: CPU threads.
        feature_stages: Leading stages that ran once over each image, in the numerics of the pass that gives features;
            0 where the whole model ran.
        feature_precision: What those stages computed in; empty where the whole model ran.
    """

    precision: str = "float32"
    channels_last: bool = False
    batch_size: _AtLeastOne = 32
    threads: _AtLeastOne = 1
    feature_stages: _Count = 0
    feature_precision: str = ""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """Logits of an input that anyone can make again.

    Attributes:
        seed: What the input is drawn from.
        logits: One row an image.
    """

    seed: int = 0
    logits: list[list[float]] = []


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What an artifact says about itself. Fields that this zoo does not know are passed over.

    Attributes:
        schema: Version of this layout.
        architecture: Full name, ``plugin/architecture``.
        options: Every option of the architecture with its value.
        plugin: What built it.
        classes: Names of the outputs, in order. Data: any text, to be escaped where it is shown.
        task: ``"single-label"``, of whose outputs the largest decides, or ``"multi-label"``, where each decides.
        thresholds: For ``"multi-label"`` the probability of each label from which on it is given, chosen on
            validation images; empty for one half everywhere.
        in_channels: Channels of the input: 1, 3 or 4.
        preprocessing: How an image becomes its input.
        parent: What training started from.
        freeze: One proof a phase.
        recipe: How it was trained.
        seed: Of everything random in the run.
        data: What it was trained on.
        metrics: Figures by split, as :func:`zoo.tasks.metrics.classification_report` gives them.
        numerics: What those figures were taken in.
        check: What ``verify`` compares with.
        state_sha256: SHA-256 over every tensor of the file: names, types, shapes and bytes.
    """

    schema: _AtLeastOne = SCHEMA
    architecture: str
    options: dict[str, OptionValue] = {}
    plugin: Plugin
    classes: list[str]
    task: Literal["single-label", "multi-label"] = "single-label"
    thresholds: list[Annotated[float, msgspec.Meta(ge=0, le=1)]] = []
    in_channels: Annotated[int, msgspec.Meta(ge=1, le=4)] = 3
    preprocessing: Preprocessing
    parent: Parent = Parent()
    freeze: list[FreezeProof] = []
    recipe: UsedRecipe = UsedRecipe()
    seed: int = 0
    data: TrainingData = TrainingData()
    metrics: dict[str, dict[str, Any]] = {}
    numerics: Numerics = Numerics()
    check: Check = Check()
    state_sha256: str = ""

    def __post_init__(self) -> None:
        """Check what types cannot say."""
        if not self.classes:
            raise ValueError("classes is empty")
        if "" in self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError("classes has an empty name, or one twice")
        for split, report in self.metrics.items():
            for name in ("accuracy", "f1", "loss"):
                if not isinstance(report.get(name), int | float):
                    raise ValueError(f"metrics.{split}.{name} is not a number")
        if len(self.thresholds) not in (0, len(self.classes)):
            raise ValueError(f"there are {len(self.thresholds)} thresholds for {len(self.classes)} classes")
        wrong = _preprocessing_flaw(self.preprocessing, self.in_channels)
        if wrong:
            raise ValueError(f"preprocessing.{wrong}")


def write_artifact(path: Path, header: Header, state: Mapping[str, Tensor]) -> str:
    """Write an artifact, whole or not at all. Equal content gives equal bytes.

    Args:
        path: The ``.safetensors`` file to write.
        header: What it says about itself.
        state: Tensors by name, in the layout of the hook ``zoo_export_state``.

    Returns:
        SHA-256 of the file, as 64 hex digits.

    Raises:
        ArtifactError: The header has a value that JSON cannot hold, such as NaN, or is too large.
        StorageError: The file cannot be written.
    """
    from zoo.state_files import write_safetensors

    return write_safetensors(path, state, {_METADATA_KEY: canonical_json(header)})


def read_header(path: Path) -> Header:
    """Read what an artifact says about itself, without its tensors and without torch.

    Raises:
        ArtifactError: The file is missing, damaged, or not an artifact that this zoo reads.
    """
    return parse_header(check_safetensors(path).metadata, path)


def read_artifact(path: Path) -> tuple[Header, dict[str, Tensor]]:
    """Read a whole artifact into memory.

    Returns:
        Its header, and its tensors by name.

    Raises:
        ArtifactError: The file is missing, damaged, or not an artifact that this zoo reads.
    """
    from zoo.state_files import read_safetensors

    content = read_safetensors(path)
    return parse_header(content.metadata, path), content.state


def is_artifact(metadata: Mapping[str, str]) -> bool:
    """Whether a safetensors file with this metadata was written by :func:`write_artifact`."""
    return _METADATA_KEY in metadata


def parse_header(metadata: Mapping[str, str], path: Path) -> Header:
    """Decode the header from a safetensors file's metadata.

    Raises:
        ArtifactError: There is none, it was written by a newer zoo, or a field has the wrong type; ``path`` and the
            field are named.
    """
    if not is_artifact(metadata):
        raise ArtifactError(
            f"{path} is a safetensors file, but not one that zoo wrote: it does not say which architecture it is for. "
            f"Use it as weights: --model NAME --weights {path}."
        )
    try:
        content = json.loads(metadata[_METADATA_KEY])
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"the header of {path} is not valid JSON ({error}).") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if type(schema) is int and schema > SCHEMA:
        raise ArtifactError(
            f"{path} was written by a newer zoo (schema {schema}; this one reads up to {SCHEMA}): "
            f"pip install --upgrade torch-zoo."
        )
    try:
        header = msgspec.convert(content, Header)
        if missing := [field.name for field in fields(Preprocessing) if field.name not in content["preprocessing"]]:
            raise msgspec.ValidationError(f"preprocessing lacks {', '.join(missing)}")
        return header
    except (msgspec.ValidationError, RecursionError) as error:
        raise ArtifactError(f"the header of {path} cannot be used: {error}.") from None


def canonical_json(header: Header) -> str:
    """The header as the one text that stands for it.

    Raises:
        ArtifactError: A value is NaN, infinite or not data.
    """
    try:
        content = msgspec.to_builtins(header)
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        field = _unwritable(msgspec.structs.asdict(header))
        raise ArtifactError(f"the artifact's header cannot be written: {field or error}.") from None


def _unwritable(value: object, where: str = "") -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{where} is {value}"
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, Mapping):
        parts = [(f"{where}.{key}".lstrip("."), inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"{where}[{i}]", inner) for i, inner in enumerate(value)]
    else:
        return ""
    return next((found for name, inner in parts if (found := _unwritable(inner, name))), "")


def _preprocessing_flaw(preprocessing: Preprocessing, in_channels: int) -> str:
    channels, height, width = preprocessing.input_size
    if channels != in_channels:
        return f"input_size has {channels} channels where in_channels is {in_channels}"
    if not (1 <= height <= _LARGEST_IMAGE and 1 <= width <= _LARGEST_IMAGE):
        return f"input_size {height} × {width} is outside 1–{_LARGEST_IMAGE} pixels"
    for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
        if len(values) != channels or not all(math.isfinite(value) for value in values):
            return f"{name} does not have {channels} numbers"
    if min(preprocessing.std) <= 0:
        return "std is not above 0"
    if not 0 < preprocessing.crop_pct <= 1:
        return f"crop_pct {preprocessing.crop_pct} is not above 0 and at most 1"
    return ""
