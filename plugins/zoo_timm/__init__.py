"""The built-in plugin ``timm``: every classification architecture of timm, with its published weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.architecture import Architecture, OptionValue
from zoo.hookspecs import hookimpl
from zoo_timm.catalogue import architectures, refresh

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.chain import Stage

__all__ = ["refresh"]

ZOO_HOOK_API = 1


@hookimpl
def zoo_architectures() -> Sequence[Architecture]:
    """All of timm, from a data file: timm itself is not imported."""
    return architectures()


@hookimpl
def zoo_build_model(
    architecture: Architecture, num_classes: int, in_channels: int, options: Mapping[str, OptionValue]
) -> nn.Module:
    """Build timm's model with random values."""
    from zoo_timm.model import build

    return build(architecture, num_classes=num_classes, in_channels=in_channels, options=options)


@hookimpl
def zoo_stages(architecture: Architecture, model: nn.Module) -> Sequence[Stage]:
    """Features, pooling and classifier; finer for the families whose layers follow in order."""
    from zoo.chain import Stage

    if architecture.head_parameters:
        return [Stage("head", model)]
    from zoo_timm.stages import stages

    return stages(model)


@hookimpl
def zoo_import_state(architecture: Architecture, model: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Rename the tensors of a published checkpoint as timm does."""
    from zoo_timm.model import import_state

    return import_state(architecture, model, state)
