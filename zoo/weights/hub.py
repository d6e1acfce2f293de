"""Hugging Face's hub by name, and the files that other tools fetched already.

Layout of the hub's cache, where a file of a snapshot links to a blob that is named by its hash::

    models--ORG--NAME/refs/main                                the commit of a branch
    models--ORG--NAME/snapshots/COMMIT/model.safetensors  ->   ../../blobs/SHA256
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from zoo.errors import WeightsError
from zoo.weights.mirrors import HUB

_PREFIXES = ("hf-hub:", "hf_hub:")
_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[A-Za-z0-9][\w./-]*))?")
_URL = re.compile(rf"{re.escape(HUB)}/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>[^?#]+)")
_FILE = "model.safetensors"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Found:
    """A file in another tool's cache.

    Attributes:
        path: Where it lies.
        sha256: What that tool says it hashes to; empty when it does not say.
    """

    path: Path
    sha256: str = ""


def is_hub_name(spec: str) -> bool:
    """Whether a user means weights on Hugging Face's hub: ``hf-hub:ORG/NAME[@REVISION]``."""
    return spec.lower().startswith(_PREFIXES)


def hub_url(spec: str) -> str:
    """The address of the weights that a hub name means.

    A branch (``main`` where no revision is named) is the commit that the hub's local cache has of it, if it has one.

    Args:
        spec: ``hf-hub:ORG/NAME[@REVISION]``.

    Raises:
        WeightsError: It is no such name.
    """
    match = _NAME.fullmatch(spec[len(_PREFIXES[0]) :])
    if match is None or ".." in spec:
        raise WeightsError(f"{spec!a} is not hf-hub:ORG/NAME or hf-hub:ORG/NAME@REVISION.")
    repo, revision = match["repo"], match["revision"] or "main"
    commit = _commit(_repo_folder(repo), revision)
    if commit and (_repo_folder(repo) / "snapshots" / commit / _FILE).is_file():
        revision = commit
    return f"{HUB}/{repo}/resolve/{revision.replace('/', '%2F')}/{_FILE}"


def found_elsewhere(url: str, *, is_hashed: bool) -> list[Found]:
    """Files that other tools may have fetched from an address: of the hub, and those of ``torch.hub``.

    Args:
        url: Where the file is published.
        is_hashed: Whether its hash is known. Without one, a file of ``torch.hub`` cannot be told from its namesakes.
    """
    if match := _URL.fullmatch(url):
        folder, revision = _repo_folder(match["repo"]), unquote(match["revision"])
        path = folder / "snapshots" / (_commit(folder, revision) or revision) / unquote(match["file"])
        if path.is_file() and ".." not in path.parts:
            blob = path.resolve().name
            return [Found(path, blob if _SHA256.fullmatch(blob) else "")]
        return []
    name = url.partition("?")[0].rpartition("/")[2]
    path = _torch_hub() / "hub" / "checkpoints" / name
    return [Found(path)] if is_hashed and name and path.is_file() else []


def _repo_folder(repo: str) -> Path:
    return _hub_cache() / f"models--{repo.replace('/', '--')}"


def _commit(repo_folder: Path, revision: str) -> str:
    """The commit of a branch or tag, as the cache has it; empty when it has none."""
    try:
        commit = (repo_folder / "refs" / revision).read_text().strip()
    except (OSError, ValueError):
        return ""
    return commit if re.fullmatch(r"[0-9a-f]{40}", commit) else ""


def _hub_cache() -> Path:
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if folder := os.environ.get(variable):
            return Path(folder).expanduser()
    home = os.environ.get("HF_HOME")
    return (Path(home).expanduser() if home else _user_cache() / "huggingface") / "hub"


def _torch_hub() -> Path:
    home = os.environ.get("TORCH_HOME")
    return Path(home).expanduser() if home else _user_cache() / "torch"


def _user_cache() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no home folder, as in some containers
        return Path("/nonexistent")
