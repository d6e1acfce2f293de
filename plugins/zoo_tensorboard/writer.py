"""Writing event files."""

from collections.abc import Mapping
from pathlib import Path

from zoo.errors import MissingExtraError
from zoo.training.callbacks import Callback, TrainerState

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError as error:
    raise MissingExtraError(
        "--track tensorboard needs the package tensorboard, which is not installed: "
        "pip install 'torch-zoo[tensorboard]'."
    ) from error

_PLACES = ("phase", "epoch", "step")


class EventWriter(Callback):
    """Writes each epoch's figures, and at last those of the artifact under ``final/``.

    Args:
        folder: For the event files; made when the first figures come.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None
        self._epoch = 0

    def on_epoch_end(self, state: TrainerState, row: Mapping[str, object]) -> None:
        """One point in each curve, at the epoch: ``train/loss``, ``val/accuracy``, ``lr``."""
        self._epoch = state.epoch
        for name, value in row.items():
            if name not in _PLACES:
                self._add(name.replace("_", "/", 1) if name.startswith(("train_", "val_")) else name, value)
        self._flush()

    def on_finish(self, metrics: Mapping[str, object]) -> None:
        """The figures of the artifact, at the last epoch: ``final/test/accuracy``."""
        for split, report in metrics.items():
            if isinstance(report, Mapping):
                for name, value in report.items():
                    self._add(f"final/{split}/{name}", value)
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def _add(self, tag: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return
        if self._writer is None:
            # Epochs that a stopped run had written and its resumption does again are told once: purge_step hides them.
            self._writer = SummaryWriter(self._folder, purge_step=self._epoch)
        self._writer.add_scalar(tag, value, self._epoch)

    def _flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()
