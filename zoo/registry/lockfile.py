"""registry.lock: the full hashes of the weights that a team uses.

It lies beside its registry.toml and holds names, hashes, sizes and licences, and no times, so that equal weights give
equal files. ``zoo registry lock`` writes it; with ``--locked``, or ``ZOO_LOCKED=1``, weights whose full hash it does
not have are refused, and published ones before anything is fetched. It is JSON, which editors and other tools read and
which nobody has to write by hand.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from zoo.errors import RegistryError, WeightsError
from zoo.files import write_atomically
from zoo.registry import Registry, shipped_registry

_FORMAT = 1
_SIZE_LIMIT_BYTES = 16 << 20
_FALSE = ("", "0", "false", "no", "off")


class LockedWeights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of weights.

    Attributes:
        sha256: Of the published or local file, 64 hex digits.
        size_bytes: Of that file.
        licence: Where one is stated.
        url: Where it is published; empty for a local file.
    """

    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    size_bytes: Annotated[int, msgspec.Meta(ge=0)]
    licence: str = ""
    url: str = ""


class _Content(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Annotated[int, msgspec.Meta(ge=_FORMAT, le=_FORMAT)] = _FORMAT
    weights: dict[str, LockedWeights] = {}


@dataclass(frozen=True)
class Lock:
    """What a lock file lists.

    Attributes:
        path: The file.
        weights: By name, see :func:`locked_name`.
    """

    path: Path
    weights: Mapping[str, LockedWeights]

    def sha256_of(self, name: str) -> str:
        """The full hash of published weights.

        Raises:
            WeightsError: They are not listed.
        """
        if name not in self.weights:
            raise WeightsError(
                f"{name} is not in {self.path}, and --locked refuses what is not. 'zoo registry lock {name}' adds it."
            )
        return self.weights[name].sha256

    def check(self, what: str, sha256: str) -> None:
        """Refuse a file whose hash is not listed.

        Raises:
            WeightsError: It is not.
        """
        if sha256 not in {weights.sha256 for weights in self.weights.values()}:
            raise WeightsError(
                f"{what} has SHA-256 {sha256[:16]}…, which is not in {self.path}, and --locked refuses what is not. "
                f"'zoo registry lock' writes that file anew, with the presets' weights."
            )


def locked_name(architecture: str, weights: str) -> str:
    """What weights are called in a lock, for example ``"resnet/resnet50@imagenet1k_v2"``.

    Args:
        architecture: Its full name.
        weights: The tag, the URL, the hub's name, or a file's path relative to the lock.
    """
    return f"{architecture}@{weights}"


def lock_path(registry: Registry) -> Path:
    """Where the lock of some registry files lies: beside the one that decides over all others.

    Without any but the one that ships with zoo, it is ``registry.lock`` in the current folder.
    """
    own = [path for path in registry.files if path != shipped_registry()]
    return own[-1].with_suffix(".lock") if own else Path.cwd() / "registry.lock"


def is_locked(asked: bool) -> bool:
    """Whether only locked weights may be used: because the caller asked, or ``ZOO_LOCKED`` says so."""
    return asked or os.environ.get("ZOO_LOCKED", "").strip().lower() not in _FALSE


def read_lock(path: Path) -> Lock:
    """Read a lock file.

    Raises:
        RegistryError: It is missing, or not a lock file that this zoo reads.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RegistryError(
            f"cannot read {path}: {error.strerror or error}. 'zoo registry lock' writes it, and without --locked it is "
            f"not needed."
        ) from error
    try:
        if len(content) > _SIZE_LIMIT_BYTES:
            raise ValueError(f"it has more than {_SIZE_LIMIT_BYTES >> 20} MiB")
        return Lock(path, msgspec.json.decode(content, type=_Content).weights)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise RegistryError(f"{path} is not a lock file that this zoo reads: {error}.") from error


def write_lock(lock: Lock) -> None:
    """Write a lock file, whole or not at all; equal weights give equal bytes.

    Raises:
        StorageError: It cannot be written.
    """
    content = _Content(weights=dict(sorted(lock.weights.items())))
    write_atomically(lock.path, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
