"""The built-in plugin ``tensorboard``: a run's figures in TensorBoard's format, with ``--track tensorboard``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.hookspecs import hookimpl

if TYPE_CHECKING:
    from zoo.training.callbacks import Callback, RunInfo

ZOO_HOOK_API = 1


@hookimpl
def zoo_callbacks(run: RunInfo) -> Sequence[Callback]:
    """One, which writes to the folder ``tensorboard`` of the run."""
    from zoo_tensorboard.writer import EventWriter

    return [EventWriter(run.folder / "tensorboard")]
