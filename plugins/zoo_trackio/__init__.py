"""The built-in plugin ``trackio``: a run's figures in trackio's local dashboard, with ``--track trackio``.

The calls are those that trackio shares with Weights & Biases. Nothing leaves the machine unless trackio itself is told
so by its own variables (``TRACKIO_SPACE_ID``, ``TRACKIO_SERVER_URL``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.hookspecs import hookimpl

if TYPE_CHECKING:
    from zoo.training.callbacks import Callback, RunInfo

ZOO_HOOK_API = 1


@hookimpl
def zoo_callbacks(run: RunInfo) -> Sequence[Callback]:
    """One, which logs to the project ``zoo`` under the name of the run's folder."""
    from zoo_trackio.tracker import Tracker

    return [Tracker(run)]
