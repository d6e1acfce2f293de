"""Right answers and validation figures."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from zoo.errors import DataError
from zoo.tasks.label_metrics import label_report
from zoo.training import Engine, Numerics
from zoo.training.losses import BinaryCrossEntropy, balanced_label_weights
from zoo.training.scoring import LabelTotals, ManyLabels

GENERATOR = torch.Generator().manual_seed(0)
TARGETS = (torch.rand(20, 3, generator=GENERATOR) < 0.4).float()
LOGITS = torch.randn(20, 3, generator=GENERATOR) + TARGETS


class Engines:
    """Engines of processes that are threads."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count)
        self._given: list[Tensor] = [torch.empty(0)] * count
        self.all = [self._engine(rank, count) for rank in range(count)]

    def _engine(self, rank: int, count: int) -> Engine:
        engine = Engine(torch.device("cpu"), NUMERICS, rank=rank, world_size=count)

        def gathered(tensor: Tensor) -> list[Tensor]:
            self._given[rank] = tensor.clone()
            self._barrier.wait()
            everything = list(self._given)
            self._barrier.wait()
            return everything

        engine.all_sum = lambda tensor: torch.stack(gathered(tensor)).sum(0)  # type: ignore[method-assign]
        engine.largest = lambda number: int(torch.stack(gathered(torch.tensor(number))).max())  # type: ignore[method-assign]
        return engine


NUMERICS = Numerics("float32", False, 4, torch.get_num_threads(), {})


def figures(engine: Engine, rows: slice) -> dict[str, float]:
    totals = LabelTotals(engine)
    criterion = BinaryCrossEntropy()
    logits, targets = LOGITS[rows], TARGETS[rows]
    for start in range(0, len(logits), 3):
        part = slice(start, start + 3)
        totals.add(criterion(logits[part], targets[part]).sum(), logits[part], targets[part])
    return totals.row()


def test_validation_figures_are_those_of_the_report() -> None:
    row = figures(Engine(torch.device("cpu"), NUMERICS), slice(None))
    report = label_report(LOGITS, TARGETS, ["a", "b", "c"], [0.5] * 3)
    for name in ("loss", "accuracy", "precision", "recall", "f1", "map"):
        assert row[f"val_{name}"] == pytest.approx(report[name], abs=1e-6)


def test_processes_together_have_the_figures_of_one() -> None:
    alone = figures(Engine(torch.device("cpu"), NUMERICS), slice(None))
    parts = [slice(0, 11), slice(11, 20), slice(20, 20)]  # the last process has no sample
    with ThreadPoolExecutor(3) as pool:
        rows = list(pool.map(figures, Engines(3).all, parts))
    assert rows[0] == rows[1] == rows[2]
    assert rows[0] == pytest.approx(alone)


def test_no_samples_are_an_error_and_a_missing_label_is_none() -> None:
    with pytest.raises(DataError):
        LabelTotals(Engine(torch.device("cpu"), NUMERICS)).row()
    totals = LabelTotals(Engine(torch.device("cpu"), NUMERICS))
    totals.add(torch.tensor(1.0), torch.ones(2, 3), torch.zeros(2, 3))
    assert totals.row()["val_map"] == 0


def test_a_sample_is_right_when_all_its_labels_are() -> None:
    logits = torch.tensor([[1.0, -1], [1, 1], [-1, -1]])
    assert ManyLabels().right(logits, torch.tensor([[1.0, 0], [1, 0], [0, 0]])) == 2


def test_the_loss_is_torchs() -> None:
    theirs = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2, 3]))(LOGITS, TARGETS)
    ours = BinaryCrossEntropy(positive_weights=torch.tensor([1.0, 2, 3]))(LOGITS, TARGETS)
    assert ours.shape == (20,)
    torch.testing.assert_close(ours.mean(), theirs)
    smooth = BinaryCrossEntropy(label_smoothing=0.2)(LOGITS, TARGETS).mean()
    torch.testing.assert_close(smooth, nn.BCEWithLogitsLoss()(LOGITS, TARGETS * 0.8 + 0.1))


def test_balanced_weights_give_presence_and_absence_the_same_say() -> None:
    targets = torch.tensor([[1.0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
    assert balanced_label_weights(targets).tolist() == [3, 1, 1]
