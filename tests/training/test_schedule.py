"""Learning rates by step."""

import pytest
import torch

from zoo.training.schedule import factor


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


def test_constant_stays() -> None:
    assert {factor("constant", step, 5, warmup=0.5) for step in range(5)} == {1.0}


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
