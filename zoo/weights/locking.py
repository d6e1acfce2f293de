"""Writing registry.lock: every weight file that a team uses, fetched, hashed and listed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import UsageError
from zoo.plugins import Plugins
from zoo.plugins.catalogue import open_plugins
from zoo.progress import Progress, Silent
from zoo.registry import shipped_registry
from zoo.registry.lockfile import Lock, LockedWeights, lock_path, locked_name, read_lock, write_lock
from zoo.weights import Source, resolve_weights
from zoo.weights.hub import hub_url


@dataclass(frozen=True)
class Locked:
    """What :func:`lock_weights` wrote.

    Attributes:
        lock: The file's content.
        added: Names that were not in it before.
        changed: Names whose hash was another before.
        removed: Names that are no longer in it.
    """

    lock: Lock
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


def lock_weights(
    names: Sequence[str] = (),
    *,
    offline: bool = False,
    allow_pth: bool = False,
    registry: str | Path | None = None,
    progress: Progress = Silent(),
) -> Locked:
    """Write the full hashes, sizes and licences of weights beside the registry.toml that decides.

    Every file is fetched, or taken from the cache, and checked against the hash in its facts.

    Args:
        names: Presets or architectures, with their default weights, or with others behind an ``@``:
            ``"resnet50@imagenet1k_v1"``. They are added to what the file lists. Empty: the weights of every preset of
            the user's own registry files, and nothing else.
        offline: Never download.
        allow_pth: Read local ``.pth`` files, with pickle's code execution switched off.
        registry: A registry.toml that goes before all others.
        progress: Where downloads are shown.

    Raises:
        UsageError: There is nothing to lock, or a name is unknown.
        WeightsError: Weights cannot be had.
    """
    plugins = open_plugins(registry)
    path = lock_path(plugins.registry)
    before = read_lock(path).weights if path.exists() else {}
    weights = dict(before) if names else {}
    for name in names or _own_presets(plugins):
        locked, entry = _entry(plugins, name, path.parent, offline, allow_pth, progress)
        weights[locked] = entry
    if not weights:
        raise UsageError("no preset of your registry files has weights; name some: zoo registry lock resnet50.")
    lock = Lock(path, weights)
    write_lock(lock)
    return Locked(
        lock,
        added=tuple(sorted(weights.keys() - before.keys())),
        changed=tuple(sorted(n for n in weights.keys() & before.keys() if weights[n].sha256 != before[n].sha256)),
        removed=tuple(sorted(before.keys() - weights.keys())),
    )


def _own_presets(plugins: Plugins) -> list[str]:
    """The presets of the user's files that have weights; those of the shipped file are every built-in name."""
    registry = plugins.registry
    own = [name for name in sorted(registry.presets) if registry.origin(f"presets.{name}") != shipped_registry()]
    return [name for name in own if _spec(plugins, name)[1] is not None]


def _spec(plugins: Plugins, name: str) -> tuple[str, str | None]:
    """The full name of an architecture and what its weights are asked for by, for a name with or without ``@``."""
    model, separator, asked = name.partition("@")
    resolved = plugins.resolve(model)
    preset = resolved.preset.weights if resolved.preset else None
    return resolved.architecture.full_name, asked if separator else preset or resolved.architecture.default_weights


def _entry(
    plugins: Plugins, name: str, folder: Path, offline: bool, allow_pth: bool, progress: Progress
) -> tuple[str, LockedWeights]:
    full_name, spec = _spec(plugins, name)
    if spec is None:
        raise UsageError(f"{name} has no weights of its own to lock; name some: {name}@TAG or {name}@FILE.")
    resolved = plugins.resolve(name.partition("@")[0])
    preset = resolved.preset
    source, _ = resolve_weights(
        resolved.architecture,
        spec,
        offline=offline,
        allow_pth=allow_pth,
        sha256=preset.sha256 if preset and spec == preset.weights else "",
        progress=progress,
    )
    if source.kind == "random":
        raise UsageError(f"{name}: random values have no hash to lock.")
    entry = LockedWeights(sha256=source.sha256, size_bytes=source.size_bytes, licence=source.licence, url=_url(source))
    return locked_name(full_name, _name_of(source, folder)), entry


def _name_of(source: Source, folder: Path) -> str:
    if source.kind not in ("file", "artifact") or source.path is None:
        return source.spec
    path = source.path.resolve()
    return path.relative_to(folder.resolve()).as_posix() if path.is_relative_to(folder.resolve()) else path.name


def _url(source: Source) -> str:
    if source.kind == "hub":
        return hub_url(source.spec)
    if source.kind == "url":
        return source.spec
    return (source.weights.url or "") if source.weights is not None else ""
