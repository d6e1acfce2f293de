"""timm's architectures as facts, read from a catalogue so that nobody waits for timm.

The catalogue that ships, in ``data.py``, was made from the version of timm that it names. For another version
:func:`refresh` makes one in zoo's cache, which goes before the one that ships as long as that version is installed.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from zoo.architecture import Architecture, Option, Preprocessing, Weights

FORMAT = 1
_HUB = "https://huggingface.co/{}/resolve/main/model.safetensors"
# Families of plain transformers: attention and LayerNorm throughout, which the rates of convolutional networks break.
_TRANSFORMERS = frozenset(
    [
        "beit",
        "cait",
        "coat",
        "convit",
        "crossvit",
        "davit",
        "deepseek_vit",
        "deit",
        "eva",
        "gcvit",
        "hiera",
        "hieradet_sam2",
        "mlp_mixer",
        "mvitv2",
        "naflexvit",
        "nest",
        "pit",
        "qwen3_vit",
        "swin_transformer",
        "swin_transformer_v2",
        "swin_transformer_v2_cr",
        "tnt",
        "twins",
        "vision_transformer",
        "vision_transformer_relpos",
        "vision_transformer_sam",
        "volo",
        "xcit",
    ]
)


class WeightsRow(msgspec.Struct, array_like=True, frozen=True):
    """One published set of weights.

    Attributes:
        tag: As timm names it.
        place: A URL; else a repository of the Hugging Face hub, ``""`` for ``timm/{architecture}.{tag}``.
        sha256_prefix: Leading digits of the SHA-256 of the file at the URL; empty when none was published.
        num_classes: Outputs of its classifier; 0 when it has none.
        preprocessing: Index of its preparation of the input.
        licence: Index of its licence.
    """

    tag: str
    place: str
    sha256_prefix: str
    num_classes: int
    preprocessing: int
    licence: int


class Layout(msgspec.Struct, array_like=True, frozen=True):
    """How timm reads published checkpoints of some architectures.

    Attributes:
        function: ``module:name`` of the function that renames their tensors.
        arguments: What it is called with, besides the tensors and the model.
        strict: False where published checkpoints hold tensors that the model has no use for.
    """

    function: str
    arguments: dict[str, bool | float | str | None]
    strict: bool


class ArchitectureRow(msgspec.Struct, array_like=True, frozen=True):
    """One architecture.

    Attributes:
        name: As timm names it.
        family: The module of timm that holds it.
        preprocessing: Index of its preparation of the input.
        smallest_input: Height and width in pixels.
        image_size: The size it is built for, where that can be chosen.
        dropout: timm's ``drop_rate``; None when the model takes none.
        stochastic_depth: timm's ``drop_path_rate``; None when the model takes none.
        layout: Index of the layout of its published checkpoints; -1 where they have the model's.
        weights: The default ones first.
        no_chain: Why it is no chain of stages; empty where it is one.
        head_parameters: Names of its classifiers' parameters, where it is no chain.
        note: What else has to be said of it.
    """

    name: str
    family: str
    preprocessing: int
    smallest_input: int
    image_size: int | None
    dropout: float | None
    stochastic_depth: float | None
    layout: int
    weights: tuple[WeightsRow, ...]
    no_chain: str = ""
    head_parameters: tuple[str, ...] = ()
    note: str = ""


class Catalogue(msgspec.Struct, frozen=True):
    """All of timm.

    Attributes:
        format: Of this file.
        timm: The version that it was made from.
        preprocessing: The different preparations of the input.
        licences: The different licences; empty when none is stated.
        layouts: The different layouts of published checkpoints.
        architectures: By name.
        left_out: Names that are no classifiers, with the reason.
    """

    format: int
    timm: str
    preprocessing: tuple[Preprocessing, ...]
    licences: tuple[str, ...]
    layouts: tuple[Layout, ...]
    architectures: tuple[ArchitectureRow, ...]
    left_out: dict[str, str]


def decode(content: bytes) -> Catalogue:
    """Read a catalogue.

    Raises:
        ValueError: It is none, or of another format.
    """
    catalogue = msgspec.json.decode(content, type=Catalogue)
    if catalogue.format != FORMAT:
        raise ValueError(f"the catalogue has format {catalogue.format}, not {FORMAT}")
    return catalogue


def shipped() -> Catalogue:
    """The catalogue that ships with the plugin."""
    from zoo_timm.data import CATALOGUE

    return decode(CATALOGUE)


def current() -> Catalogue:
    """The catalogue of the installed timm where one was made, else the one that ships."""
    catalogue, installed = shipped(), installed_timm()
    if catalogue.timm == installed:
        return catalogue
    try:
        refreshed = decode(refreshed_path(installed).read_bytes())
    except (OSError, RuntimeError, ValueError):  # there is none, or it is damaged
        return catalogue
    return refreshed if refreshed.timm == installed else catalogue


def architectures() -> list[Architecture]:
    """The facts of every architecture."""
    return list(_architectures(current(), installed_timm()))


def layout(name: str) -> Layout | None:
    """How published checkpoints of an architecture are read; None where they have the model's own layout."""
    catalogue = current()
    index = next((row.layout for row in catalogue.architectures if row.name == name), -1)
    return catalogue.layouts[index] if index >= 0 else None


def installed_timm() -> str:
    """The version of the installed timm; empty when there is none."""
    try:
        return version("timm")
    except PackageNotFoundError:
        return ""


def refresh() -> Path:
    """Make the catalogue of the installed timm anew, in a process of its own, and keep it in zoo's cache.

    Takes seconds, and about one more for every architecture that the catalogue that ships does not know.

    Returns:
        The file that was written.

    Raises:
        RuntimeError: timm cannot be read; the message has the last line it said.
    """
    path = refreshed_path(installed_timm())
    command = [sys.executable, "-m", "zoo_timm.generate", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(f"the catalogue of timm {installed_timm()} could not be made: {said[-1]}")
    return path


def refreshed_path(timm_version: str) -> Path:
    """Where a refreshed catalogue is kept: below ``$ZOO_CACHE``, else the user's cache folder, as all of zoo's."""
    root = os.environ.get("ZOO_CACHE")
    folder = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zoo"
    return folder.expanduser() / "timm" / f"catalogue-{timm_version}.json"


def _architectures(catalogue: Catalogue, installed: str) -> Iterator[Architecture]:
    foreign = ""
    if catalogue.timm != installed:
        foreign = f"Facts of timm {catalogue.timm}, installed is {installed or 'none'}: 'zoo plugins refresh'."
    for row in catalogue.architectures:
        no_chain = f"No chain of stages, so only its head or all of it trains: {row.no_chain}." if row.no_chain else ""
        weights = tuple(_weights(catalogue, row, published) for published in row.weights)
        yield Architecture(
            name=row.name,
            family=row.family,
            preprocessing=catalogue.preprocessing[row.preprocessing],
            options=_options(row.image_size, row.smallest_input, row.dropout, row.stochastic_depth),
            weights=weights,
            default_weights=weights[0].tag if weights else None,
            smallest_input=row.smallest_input,
            smallest_training_input=row.smallest_input,
            scratch_recipe="full-gentle" if row.family in _TRANSFORMERS else "",
            source="https://github.com/huggingface/pytorch-image-models",
            head_parameters=row.head_parameters,
            note=" ".join(filter(None, (foreign, no_chain, row.note))),
        )


def _weights(catalogue: Catalogue, row: ArchitectureRow, published: WeightsRow) -> Weights:
    at_url = published.place.startswith("https://")
    repository = published.place or f"timm/{row.name}.{published.tag}"
    return Weights(
        tag=published.tag,
        url=published.place if at_url else _HUB.format(repository),
        sha256_prefix=published.sha256_prefix,
        num_classes=published.num_classes,
        class_names="imagenet1k" if published.num_classes == 1000 else "",
        preprocessing=catalogue.preprocessing[published.preprocessing],
        licence=catalogue.licences[published.licence],
        source="timm" if at_url else f"hf-hub:{repository}",
    )


@cache
def _options(
    image_size: int | None, smallest_input: int, dropout: float | None, stochastic_depth: float | None
) -> tuple[Option, ...]:
    options = []
    if image_size is not None:
        options.append(
            Option(
                name="image_size",
                default=image_size,
                minimum=smallest_input,
                help="height and width in pixels that the model is built for; mind its patches and windows",
            )
        )
    if dropout is not None:
        options.append(
            Option(
                name="dropout",
                default=dropout,
                minimum=0.0,
                maximum=0.9,
                help="share of the pooled features dropped before the classifier; timm's drop_rate",
            )
        )
    if stochastic_depth is not None:
        options.append(
            Option(
                name="stochastic_depth",
                default=stochastic_depth,
                minimum=0.0,
                maximum=0.9,
                help="chance of skipping a block in training; timm's drop_path_rate",
            )
        )
    return tuple(options)
