"""What happens for the hooks that a plugin leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.architecture import Architecture
    from zoo.chain import Stage
    from zoo.training.callbacks import Callback


@hookimpl(trylast=True)
def zoo_architectures() -> Sequence[Architecture]:
    """None: the plugin only has callbacks."""
    return []


@hookimpl(trylast=True)
def zoo_stages(architecture: Architecture, model: nn.Module) -> Sequence[Stage]:
    """Two stages where the model is an ``nn.Sequential``, else the whole model as the head."""
    from torch import nn

    from zoo.chain import Stage

    if isinstance(model, nn.Sequential) and len(model) > 1:
        return [Stage("features", model[:-1]), Stage("head", model[-1])]
    return [Stage("head", model)]


@hookimpl(trylast=True)
def zoo_import_state(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The checkpoint's names are the model's."""
    return state


@hookimpl(trylast=True)
def zoo_export_state(model: nn.Module) -> Mapping[str, Tensor]:
    """The model's names are the published ones."""
    return model.state_dict()


@hookimpl(trylast=True)
def zoo_callbacks() -> Sequence[Callback]:
    """None: the plugin follows no runs, and ``--track`` does not know its name."""
    return []
