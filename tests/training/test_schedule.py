"""Learning rates by step."""

import pytest
import torch

from zoo.recipes import Phase
from zoo.training.schedule import factor, plateau_factor, warmup_of


@pytest.mark.parametrize("steps", [5, 10, 37, 400])
def test_one_cycle_equals_torchs(steps: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=steps, pct_start=0.25, div_factor=25, final_div_factor=400
    )
    for step in range(steps):
        assert factor("one-cycle", step, steps) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        if step + 1 < steps:
            scheduler.step()


def test_cosine_equals_torchs_without_warmup() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for step in range(20):
        assert factor("cosine", step, 20) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


def test_warmup_rises_in_equal_parts_to_the_peak() -> None:
    factors = [factor("cosine", step, 40, warmup=0.1) for step in range(40)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[4:] == sorted(factors[4:], reverse=True)


def test_constant_stays_after_its_warmup() -> None:
    assert {factor("constant", step, 5) for step in range(5)} == {1.0}
    assert [factor("constant", step, 5, warmup=0.4) for step in range(5)] == pytest.approx([1 / 3, 2 / 3, 1, 1, 1])


def rows(*accuracies: float) -> list[dict[str, float]]:
    return [{"val_accuracy": accuracy, "val_loss": 1 - accuracy} for accuracy in accuracies]


def test_plateau_lowers_the_rate_whenever_the_metric_stops_getting_better() -> None:
    phase = Phase(epochs=9, schedule="plateau", plateau=2)
    assert plateau_factor(phase, []) == 1
    assert plateau_factor(phase, rows(0.5, 0.6, 0.6)) == 1
    assert plateau_factor(phase, rows(0.5, 0.6, 0.6, 0.6)) == pytest.approx(0.1)
    assert plateau_factor(phase, rows(0.5, 0.6, 0.6, 0.6, 0.7, 0.6, 0.5)) == pytest.approx(0.01)


def test_a_metric_that_is_not_finite_never_counts_as_better() -> None:
    phase = Phase(epochs=9, schedule="plateau", plateau=1)
    assert plateau_factor(phase, [*rows(0.5), {"val_accuracy": 0.9, "val_loss": float("nan")}]) == pytest.approx(0.1)


def test_warmup_is_the_schedules_own_unless_given() -> None:
    assert warmup_of(Phase(epochs=1)) == 0.05
    assert warmup_of(Phase(epochs=1, schedule="constant")) == 0
    assert warmup_of(Phase(epochs=1, schedule="constant", warmup=0.2)) == 0.2


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 100])
def test_every_step_learns_and_none_beyond_the_peak(schedule, warmup, steps) -> None:  # type: ignore[no-untyped-def]
    factors = [factor(schedule, step, steps, warmup=warmup) for step in range(steps)]
    assert all(0 < value <= 1 for value in factors)
    assert max(factors) >= 0.5


@pytest.mark.parametrize("step", [-1, 5])
def test_a_step_outside_the_phase_is_refused(step: int) -> None:
    with pytest.raises(ValueError, match="5 steps"):
        factor("cosine", step, 5)
