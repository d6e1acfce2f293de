import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.console import display_width
from zoo.report.charts import curves, epoch_ticks, nice_ticks
from zoo.report.matrix import matrix, shortened
from zoo.report.summary import confused_pairs, headline, wilson_interval


@given(st.floats(0, 1e4), st.floats(0, 1e4))
def test_ticks_are_few_evenly_spaced_and_enclose_the_values(first: float, second: float) -> None:
    low, high = sorted((first, second))
    ticks = nice_ticks(low, high)
    steps = [b - a for a, b in itertools.pairwise(ticks)]
    assert 2 <= len(ticks) <= 8
    assert max(steps) - min(steps) <= 1e-6 * max(steps) + 2e-10
    assert 0 <= ticks[0] <= low + 1e-6 * steps[0] + 1e-9
    assert ticks[-1] >= high - 1e-6 * steps[0] - 1e-9


@given(st.floats(0, 1), st.floats(0, 1))
def test_no_tick_of_an_accuracy_lies_outside_0_to_1(first: float, second: float) -> None:
    low, high = sorted((first, second))
    ticks = nice_ticks(low, high, ceiling=1.0)
    assert len(ticks) >= 2
    assert 0 <= ticks[0] <= low + 1e-6
    assert high - 1e-6 <= ticks[-1] <= 1


@pytest.mark.parametrize("count", [1, 2, 7, 10, 11, 60, 1000])
def test_at_most_ten_epochs_are_named(count: int) -> None:
    ticks = epoch_ticks(count)
    assert 1 <= len(ticks) <= 10
    assert all(1 <= tick <= count for tick in ticks)


def test_a_curve_stays_inside_its_frame_and_rises_with_its_values() -> None:
    history = [{"phase": 0, "train_loss": value, "val_loss": value + 1} for value in (3.0, 2.0, 2.5)]
    chart = curves(history, "loss", phases=[], best=1, percent=False)
    assert chart is not None
    for line in chart.series:
        ys = [y for _, y in line.dots]
        assert ys[0] < ys[2] < ys[1]
        assert all(chart.left < x < chart.right and chart.top <= y <= chart.bottom for x, y in line.dots)
    assert chart.best is not None
    assert (chart.best.x, chart.best.y) == chart.series[1].dots[1]


def test_a_metric_that_was_never_measured_has_no_chart() -> None:
    assert curves([{"phase": 0, "train_loss": None}], "loss", phases=[], best=None, percent=False) is None
    assert curves([], "loss", phases=[], best=None, percent=False) is None


@pytest.mark.parametrize("count", [1, 2, 10, 40])
@pytest.mark.parametrize("most", [1, 12345])
def test_counts_of_a_matrix_fit_their_cells_at_a_readable_size(count: int, most: int) -> None:
    drawn = matrix([[most] * count for _ in range(count)], [f"c{index}" for index in range(count)])
    assert all(cell.font * 0.6 * len(str(most)) <= drawn.cell for cell in drawn.cells)
    assert drawn.cell >= 20
    assert drawn.narrowest <= drawn.width
    assert all(0 <= cell.shade <= 1 for cell in drawn.cells)


def test_long_names_are_cut_in_the_middle_to_a_fixed_width() -> None:
    assert shortened("cat") == "cat"
    cut = shortened("a name of many words, number 7")
    assert display_width(cut) <= 18
    assert cut.startswith("a name")
    assert cut.endswith("number 7")
    assert display_width(shortened("漢" * 30)) <= 18


def test_the_interval_is_wilsons() -> None:
    # The roots of (p - share)^2 = z^2 p (1 - p) / n, which is its definition.
    for right, images in ((1, 2), (93, 100), (776, 846)):
        for bound in wilson_interval(right, images):
            assert math.isclose((bound - right / images) ** 2, 1.959964**2 * bound * (1 - bound) / images, rel_tol=1e-5)
    assert wilson_interval(0, 5)[0] == 0
    assert wilson_interval(5, 5)[1] == 1


def test_the_headline_counts_from_supports_where_there_is_no_matrix() -> None:
    rows = [{"class": "a", "support": 3}, {"class": "b", "support": 1}]
    top = headline({"test": {"accuracy": 0.75, "per_class": rows}})
    assert top is not None
    assert (top.split, top.images, top.right, top.majority) == ("test", 4, 3, 0.75)
    assert headline({"test": {}, "val": None}) is None


def test_equally_frequent_confusions_are_ordered_by_their_share_of_the_class() -> None:
    pairs = confused_pairs([[8, 2, 0], [0, 2, 2], [0, 1, 9]], ["a", "b", "c"], most=2)
    assert [(pair.true, pair.predicted, pair.count, pair.of) for pair in pairs] == [("b", "c", 2, 4), ("a", "b", 2, 10)]
