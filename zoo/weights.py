"""The one door for weights: from what a user wrote to tensors, and from tensors to a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath, sep
from pathlib import Path
from typing import Literal

from torch import Tensor

from zoo.architecture import Architecture, Weights
from zoo.artifact import Header, is_artifact, parse_header
from zoo.class_names import class_names
from zoo.download import fetch
from zoo.errors import UnknownWeightsError, WeightsError, did_you_mean
from zoo.fitting import LoadReport
from zoo.loading import build
from zoo.progress import Progress, Silent
from zoo.state_files import PICKLE_SUFFIXES, read_state, read_state_file
from zoo.transfer import Network

__all__ = ["LoadReport", "Network", "Source", "build", "fetch", "read_state", "resolve_weights"]

Kind = Literal["random", "tag", "url", "file", "artifact"]
_RANDOM = ("none", "random")
_DEFAULT = "default"


@dataclass(frozen=True)
class Source:
    """Where a model's weights come from.

    Attributes:
        kind: ``"random"``, ``"tag"`` (published, known to the architecture), ``"url"``, ``"file"``, or ``"artifact"``
            (a file that zoo wrote).
        spec: The tag, the URL, or the file's name without its folder; empty for random values.
        path: The local file.
        weights: The facts of a tag.
        sha256: Of the published or local file, 64 hex digits; empty for random values.
        header: The header of an artifact.
    """

    kind: Kind
    spec: str = ""
    path: Path | None = None
    weights: Weights | None = None
    sha256: str = ""
    header: Header | None = None

    @classmethod
    def artifact(cls, path: Path, header: Header, sha256: str = "") -> "Source":
        """An artifact that was read already."""
        return cls("artifact", path.name, path, sha256=sha256, header=header)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that the weights were trained on; empty when unknown."""
        if self.header is not None:
            return tuple(self.header.classes)
        return class_names(self.weights.class_names) if self.weights is not None else ()

    @property
    def licence(self) -> str:
        """The licence of the weights, where one is stated."""
        if self.header is not None:
            return self.header.parent.licence
        return self.weights.licence if self.weights is not None else ""


def resolve_weights(
    architecture: Architecture,
    spec: str | PathLike[str] | None,
    *,
    offline: bool = False,
    allow_pth: bool = False,
    sha256: str = "",
    progress: Progress = Silent(),
    network: Network = Network(),
) -> tuple[Source, dict[str, Tensor] | None]:
    """Find the weights that a user asked for and read them.

    Args:
        architecture: What they are for.
        spec: None, ``"none"`` or ``"random"`` for random values; ``"default"``; a tag of the architecture, in any
            case; an ``https://`` URL; or a path: something with a separator, with a suffix of weight files, or that
            exists.
        offline: Do not use the network.
        allow_pth: Read a local pickled file, with torch's restricted reader.
        sha256: What the file's SHA-256 has to begin with, where the user pinned it.
        progress: Where a download is shown.
        network: How patient a download is.

    Returns:
        Where they come from, and tensors by name in the published layout; None for random values.

    Raises:
        UnknownWeightsError: The architecture has no weights of that tag.
        DownloadError: They cannot be fetched.
        WeightsError: The file is missing or damaged, is not what was pinned, or is for another architecture.
    """
    if isinstance(spec, str) and spec.lower() == _DEFAULT:
        spec = architecture.default_weights
    if spec is None or (isinstance(spec, str) and spec.lower() in _RANDOM):
        return Source("random"), None
    if isinstance(spec, str):
        known = {weights.tag.lower(): weights for weights in architecture.weights}
        if weights := known.get(spec.lower()):
            return _published(architecture, weights, "tag", offline, sha256, progress, network)
        if spec.startswith(("https://", "http://")):
            if spec.startswith("http://") and not sha256:
                raise WeightsError(f"{spec} is not protected on its way: use https, or pin its sha256 in a preset.")
            weights = Weights(tag="url", url=spec, sha256_prefix=sha256)
            return _published(architecture, weights, "url", offline, sha256, progress, network)
        if not _is_path(spec):
            raise UnknownWeightsError(_unknown(architecture, spec))
    path = Path(fspath(spec)).expanduser()
    content = read_state_file(path, allow_pth=allow_pth)
    _check_pin(str(path), content.sha256, sha256)
    header = _header(architecture, path, content.metadata)
    kind: Kind = "file" if header is None else "artifact"
    return Source(kind, path.name, path, sha256=content.sha256, header=header), content.state


def _published(
    architecture: Architecture,
    weights: Weights,
    kind: Kind,
    offline: bool,
    sha256: str,
    progress: Progress,
    network: Network,
) -> tuple[Source, dict[str, Tensor]]:
    fetched = fetch(architecture, weights, offline=offline, progress=progress, network=network)
    _check_pin(f"{architecture.full_name} {weights.tag}", fetched.sha256, sha256)
    content = read_state_file(fetched.path)
    header = _header(architecture, fetched.path, content.metadata)
    if kind == "url":
        return Source(kind, weights.url or "", fetched.path, None, fetched.sha256, header), content.state
    return Source(kind, weights.tag, fetched.path, weights, fetched.sha256, header), content.state


def _header(architecture: Architecture, path: Path, metadata: Mapping[str, str]) -> Header | None:
    if not is_artifact(metadata):
        return None
    header = parse_header(metadata, path)
    if header.architecture != architecture.full_name:
        raise WeightsError(
            f"{path} holds {header.architecture}, not {architecture.full_name}. Use --model {header.architecture}, "
            f"or other weights."
        )
    return header


def _check_pin(what: str, found: str, pinned: str) -> None:
    if not found.startswith(pinned.lower()):
        raise WeightsError(f"{what} has SHA-256 {found[:16]}… where {pinned[:16].lower()}… is pinned.")


def _is_path(spec: str) -> bool:
    has_separator = "/" in spec or sep in spec
    return has_separator or spec.lower().endswith((".safetensors", *PICKLE_SUFFIXES)) or Path(spec).exists()


def _unknown(architecture: Architecture, spec: str) -> str:
    tags = [weights.tag for weights in architecture.weights]
    published = f"It has {', '.join(tags)}" if tags else "None are published for it"
    return (
        f"{architecture.full_name} has no weights {spec!r}.{did_you_mean(spec, [*tags, *_RANDOM, _DEFAULT])} "
        f"{published}; a file's path and 'none' are possible too."
    )
