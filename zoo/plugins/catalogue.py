"""What there is to choose from, listed without importing torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from zoo.plugins import Plugins
from zoo.plugins.facts import Listed
from zoo.registry import load_registry

_NUMBERS = re.compile(r"([0-9]+)")


def open_plugins(registry: str | Path | None = None) -> Plugins:
    """The installed plugins, filtered and pinned by the registry files that apply here.

    Args:
        registry: A registry.toml that goes before all others.

    Raises:
        RegistryError: A registry file cannot be used; the message names the file and the key.
    """
    return Plugins(load_registry(Path(registry) if registry is not None else None))


def list_models(pattern: str = "", *, pretrained: bool = False, registry: str | Path | None = None) -> list[str]:
    """Full names of the architectures that match, in order.

    Args:
        pattern: Part of a name, or a glob such as ``"*resnet*"``, compared without regard to case.
        pretrained: Only those with published weights.
        registry: A registry.toml that goes before all others.

    Returns:
        Names such as ``"resnet/resnet50"``. No torch is imported, and no plugin whose facts are known.
    """
    found = matching(open_plugins(registry).listed(), pattern, pretrained=pretrained)
    return [architecture.full_name for architecture in found]


def matching(
    architectures: Iterable[Listed], pattern: str = "", *, family: str = "", pretrained: bool = False
) -> list[Listed]:
    """The architectures whose full name fits ``pattern``, sorted by plugin and natural order of the name."""
    lowered = pattern.lower()
    chosen = [
        architecture
        for architecture in architectures
        if _fits(architecture, lowered)
        and (not family or architecture.family.lower() == family.lower())
        and (not pretrained or any(weights.url for weights in architecture.weights))
    ]
    return sorted(chosen, key=lambda architecture: _natural(architecture.full_name))


def _fits(architecture: Listed, pattern: str) -> bool:
    if not pattern:
        return True
    name = architecture.full_name.lower()
    if any(sign in pattern for sign in "*?["):
        return fnmatchcase(name, pattern) or fnmatchcase(architecture.name.lower(), pattern)
    return pattern in name


def _natural(name: str) -> list[str | int]:
    """A key that sorts numbers inside names by their value: text and numbers take turns."""
    parts: list[str | int] = list(_NUMBERS.split(name))
    parts[1::2] = map(int, parts[1::2])
    return parts
