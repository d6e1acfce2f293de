# mypy: disable-error-code="empty-body"
"""The hooks of a plugin.

A plugin is an importable module, named by an entry point of the group ``zoo.plugins``, that says which hook API it was
written for and implements the hooks below with :data:`hookimpl`::

    from zoo.architecture import Architecture
    from zoo.hookspecs import hookimpl

    ZOO_HOOK_API = 1

    @hookimpl
    def zoo_architectures():
        return [Architecture(name="tiny", family="tiny")]

    @hookimpl
    def zoo_build_model(architecture, num_classes, in_channels):
        from my_package.model import Tiny

        return Tiny(num_classes, in_channels)

An implementation may leave out arguments it does not need. Each plugin has a plugin manager of its own, so no plugin
answers for another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.architecture import Architecture, OptionValue
    from zoo.chain import Stage
    from zoo.training.callbacks import Callback, RunInfo

PROJECT = "zoo"
HOOK_API = 1

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def zoo_architectures() -> Sequence[Architecture]:
    """List the architectures that the plugin provides. Required, unless the plugin has ``zoo_callbacks`` only.

    Called for every listing, so it must be cheap, import no torch and touch no network.

    Returns:
        Facts only, each name once. Leave :attr:`Architecture.plugin` empty: zoo fills it in.
    """


@hookspec(firstresult=True)
def zoo_build_model(
    architecture: Architecture, num_classes: int, in_channels: int, options: Mapping[str, OptionValue]
) -> nn.Module:
    """Build a model with random values. Required with ``zoo_architectures``.

    Reads no file and downloads nothing: weights are loaded by zoo. Import torch inside the function.

    Args:
        architecture: One of those listed by ``zoo_architectures``.
        num_classes: Outputs of the head, at least 1.
        in_channels: Channels of the input: 1, 3 or 4.
        options: Every option of the architecture with its checked value.

    Returns:
        A float32 model on the CPU. Input ``(N, in_channels, H, W)``, normalised; logits ``(N, num_classes)``.
    """


@hookspec(firstresult=True)
def zoo_stages(architecture: Architecture, model: nn.Module) -> Sequence[Stage]:
    """Cut a model into stages, from input to output.

    In eval mode the stages applied in order give exactly ``model(x)``, and together they own every parameter and
    buffer once. Stages are views: they hold the model's own modules, never copies. Pooling ends the last backbone
    stage; dropout before the last layer belongs to the head. Default: the model's last layer as the head where the
    model is a plain sequence ending in it, else one stage.

    Returns:
        Stages with different names; the last is named ``"head"``.
    """


@hookspec(firstresult=True)
def zoo_import_state(architecture: Architecture, model: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Rename the tensors of a published checkpoint to the model's own names. Default: unchanged.

    Args:
        architecture: The architecture being loaded.
        model: The model that will receive the tensors; not to be changed.
        state: The checkpoint's tensors by name. Not to be changed.

    Returns:
        Tensors by the names of ``model.state_dict()``.
    """


@hookspec(firstresult=True)
def zoo_export_state(architecture: Architecture, model: nn.Module) -> Mapping[str, Tensor]:
    """Give the model's tensors in the published layout: the inverse of ``zoo_import_state``.

    Default: ``model.state_dict()``.
    """


@hookspec(firstresult=True)
def zoo_callbacks(run: RunInfo) -> Sequence[Callback]:
    """Follow a run: what ``zoo finetune --track NAME`` asks the plugin called NAME for.

    Asked only then, once a run, after its data and model were checked and before anything is written. Import what is
    needed here and raise :class:`~zoo.errors.MissingExtraError` where it is not installed: that alone stops the run,
    before it began. Write nothing yet, the run folder included: begin in ``on_phase_start`` or ``on_epoch_end``, where
    the metrics come. Anything raised there, or here, is told in one warning, and the run goes on without the plugin.

    Args:
        run: Its folder and configuration, a :class:`zoo.training.callbacks.RunInfo`.

    Returns:
        Objects of classes made from :class:`zoo.training.callbacks.Callback`, told in this order.
    """
