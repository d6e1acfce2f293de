"""The one door for weights: from what a user wrote to tensors, and from tensors to a model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike, fspath, sep
from pathlib import Path
from typing import Literal

from torch import Tensor

from zoo.architecture import Architecture, Weights
from zoo.artifact import Header, is_artifact, parse_header
from zoo.errors import UnknownWeightsError, WeightsError, did_you_mean
from zoo.progress import Progress, Silent
from zoo.registry.lockfile import Lock, locked_name
from zoo.state_files import PICKLE_SUFFIXES, map_safetensors, read_state
from zoo.weights.cache_entries import open_local
from zoo.weights.class_names import class_names
from zoo.weights.download import fetch
from zoo.weights.fitting import LoadReport
from zoo.weights.hub import hub_url, is_hub_name
from zoo.weights.licences import forbids_commercial_use
from zoo.weights.loading import build, count_classes
from zoo.weights.transfer import Network

__all__ = ["LoadReport", "Network", "Source", "build", "count_classes", "fetch", "read_state", "resolve_weights"]

Kind = Literal["random", "tag", "url", "hub", "file", "artifact"]
_RANDOM = ("none", "random")
_DEFAULT = "default"


@dataclass(frozen=True)
class Source:
    """Where a model's weights come from.

    Attributes:
        kind: ``"random"``, ``"tag"`` (published, known to the architecture), ``"url"``, ``"hub"`` (Hugging Face's, by
            name), ``"file"``, or ``"artifact"`` (a file that zoo wrote).
        spec: The tag, the URL, the hub's name, or the file's name without its folder; empty for random values.
        path: The local file.
        weights: The facts of a tag.
        sha256: Of the published or local file, 64 hex digits; empty for random values.
        header: The header of an artifact.
        size_bytes: Of the published or local file.
        finite: Whether all values are known to be finite.
    """

    kind: Kind
    spec: str = ""
    path: Path | None = None
    weights: Weights | None = None
    sha256: str = ""
    header: Header | None = None
    size_bytes: int = 0
    finite: bool = False

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
    lock: Lock | None = None,
    progress: Progress = Silent(),
    network: Network = Network(),
) -> tuple[Source, dict[str, Tensor] | None]:
    """Find the weights that a user asked for and read them.

    Args:
        architecture: What they are for.
        spec: None, ``"none"`` or ``"random"`` for random values; ``"default"``; a tag of the architecture, in any
            case; an ``https://`` URL; ``hf-hub:ORG/NAME[@REVISION]``; or a path: something with a separator, with a
            suffix of weight files, or that exists.
        offline: Do not use the network.
        allow_pth: Read a local pickled file, with torch's restricted reader.
        sha256: What the file's SHA-256 has to begin with, where the user pinned it.
        lock: Refuse what it does not list.
        progress: Where a download is shown, and a licence that forbids commercial use.
        network: How patient a download is.

    Returns:
        Where they come from, and tensors by name in the published layout; None for random values.

    Raises:
        UnknownWeightsError: The architecture has no weights of that tag.
        DownloadError: They cannot be fetched.
        WeightsError: The file is missing or damaged, is not what was pinned or locked, or is for another architecture.
    """
    if isinstance(spec, str) and spec.lower() == _DEFAULT:
        spec = architecture.default_weights
    if spec is None or (isinstance(spec, str) and spec.lower() in _RANDOM):
        return Source("random"), None
    published = _published(architecture, spec, sha256) if isinstance(spec, str) else None
    if published is not None:
        kind, weights = published
        name = locked_name(architecture.full_name, weights.tag if kind == "tag" else str(spec))
        _show_licence(name, weights.licence, progress)
        fetched = fetch(
            architecture,
            weights,
            sha256=lock.sha256_of(name) if lock is not None else "",
            offline=offline,
            progress=progress,
            network=network,
        )
        _check_pin(f"{architecture.full_name} {weights.tag}", fetched.sha256, sha256)
        content = map_safetensors(fetched.path, sha256=fetched.sha256, finite=fetched.finite)
        path, size_bytes = fetched.path, fetched.size_bytes
    else:
        path = Path(fspath(spec)).expanduser()
        content = open_local(path, allow_pth=allow_pth, progress=progress)
        _check_pin(str(path), content.sha256, sha256)
        if lock is not None:
            lock.check(str(path), content.sha256)
        size_bytes = path.stat().st_size
    header = _header(architecture, path, content.metadata)
    if header is not None:
        _show_licence(path.name, header.parent.licence, progress)
    if published is not None:
        source = Source(kind, weights.tag if kind == "tag" else str(spec), path, weights if kind == "tag" else None)
    else:
        source = Source("file" if header is None else "artifact", path.name, path)
    source = replace(source, sha256=content.sha256, header=header, size_bytes=size_bytes, finite=content.finite)
    return source, content.state


def _published(architecture: Architecture, spec: str, sha256: str) -> tuple[Kind, Weights] | None:
    """What is to be fetched, for a tag, a URL or a hub's name; None for a path."""
    known = {weights.tag.lower(): weights for weights in architecture.weights}
    if weights := known.get(spec.lower()):
        return "tag", weights
    if is_hub_name(spec):
        return "hub", Weights(tag="hf-hub", url=hub_url(spec), sha256_prefix=sha256)
    if spec.startswith(("https://", "http://")):
        if spec.startswith("http://") and not sha256:
            raise WeightsError(f"{spec} is not protected on its way: use https, or pin its sha256 in a preset.")
        return "url", Weights(tag="url", url=spec, sha256_prefix=sha256)
    if not _is_path(spec):
        raise UnknownWeightsError(_unknown(architecture, spec))
    return None


def _show_licence(name: str, licence: str, progress: Progress) -> None:
    if forbids_commercial_use(licence):
        progress.warn(f"{name} is under the licence {licence!a}, which forbids commercial use.")


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
        f"{published}; a file's path, hf-hub:ORG/NAME and 'none' are possible too."
    )
