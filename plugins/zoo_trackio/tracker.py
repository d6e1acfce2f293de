"""Logging to trackio."""

from collections.abc import Mapping

from zoo.errors import MissingExtraError
from zoo.training.callbacks import Callback, RunInfo, TrainerState

try:
    import trackio
except ImportError as error:
    raise MissingExtraError(
        "--track trackio needs the package trackio, which is not installed: pip install 'torch-zoo[track]'."
    ) from error

PROJECT = "zoo"
_PLACES = ("phase", "epoch", "step")  # trackio counts steps itself, and renames columns of that name


class Tracker(Callback):
    """Logs each epoch's figures as they come, and at last those of the artifact under ``final/``.

    Args:
        run: Whose configuration becomes trackio's, and whose folder gives the name.
    """

    def __init__(self, run: RunInfo) -> None:
        self._run = run
        self._begun = False
        self._epoch = 0

    def on_phase_start(self, state: TrainerState) -> None:
        """The first of them begins trackio's run, or goes on with it where zoo's was resumed."""
        if not self._begun:
            trackio.init(
                project=PROJECT,
                name=self._run.folder.resolve().name,
                config=dict(self._run.config),
                resume="allow" if self._run.resumed else "never",
            )
            self._begun = True

    def on_epoch_end(self, state: TrainerState, row: Mapping[str, object]) -> None:
        """One point in each curve, at the epoch."""
        self._epoch = state.epoch
        trackio.log(_figures(row), step=self._epoch)

    def on_finish(self, metrics: Mapping[str, object]) -> None:
        """The figures of the artifact, at the last epoch, and trackio's run is done."""
        for split, report in metrics.items():
            if isinstance(report, Mapping) and (figures := _figures(report)):
                trackio.log({f"final/{split}/{name}": value for name, value in figures.items()}, step=self._epoch)
        trackio.finish()


def _figures(row: Mapping[str, object]) -> dict[str, float]:
    return {
        name: value
        for name, value in row.items()
        if name not in _PLACES and isinstance(value, int | float) and not isinstance(value, bool)
    }
