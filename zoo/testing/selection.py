"""Which architectures of a plugin the kit looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from zoo.architecture import Architecture
from zoo.errors import UnknownNameError, ZooError, did_you_mean
from zoo.testing.subject import PluginUnderTest, Subject

Wanted = Sequence[str] | Literal["all"] | None
# A plugin for a whole library lists more than anyone would wait for.
_KINDS = 4
_COUNTED = 40


def select(plugin: PluginUnderTest, wanted: Wanted) -> tuple[str, ...]:
    """Names of the architectures to check, in the plugin's order.

    Args:
        plugin: Whose.
        wanted: Their names; ``"all"``; or None for one of each kind, the one with the fewest parameters, where
            architectures with the same options are of one kind.

    Raises:
        UnknownNameError: The plugin has no architecture of a name.
    """
    known = [architecture.name for architecture in plugin.architectures]
    if wanted == "all":
        return tuple(known)
    if wanted is not None:
        for name in wanted:
            if name not in known:
                raise UnknownNameError(
                    f"plugin {plugin.name!r} has no architecture {name!r}; it has {', '.join(known)}."
                    f"{did_you_mean(name, known)}"
                )
        return tuple(name for name in known if name in wanted)
    kinds: dict[tuple[object, ...], list[Architecture]] = {}
    for architecture in plugin.architectures:
        kind = (bool(architecture.head_parameters), *(option.name for option in architecture.options))
        kinds.setdefault(kind, []).append(architecture)
    chosen = {_smallest(plugin, members) for members in list(kinds.values())[:_KINDS]}
    return tuple(name for name in known if name in chosen)


def _smallest(plugin: PluginUnderTest, architectures: Sequence[Architecture]) -> str:
    if len(architectures) == 1:
        return architectures[0].name
    return min(architectures[:_COUNTED], key=lambda architecture: _parameters(Subject(plugin, architecture))).name


def _parameters(subject: Subject) -> float:
    """How many parameters an architecture has, counted without values where it allows that."""
    try:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in subject.build().parameters())
    except ZooError:
        return float("inf")
