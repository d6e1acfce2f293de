"""Mixup and CutMix as functions of seed and step."""

import pytest
import torch

from zoo.recipes import Phase
from zoo.training.mixing import Mixture, draw_mixture, neighbours

CPU = torch.device("cpu")


def test_neighbours_are_pairs_and_a_last_one_is_alone() -> None:
    assert neighbours(4, CPU).tolist() == [1, 0, 3, 2]
    assert neighbours(5, CPU).tolist() == [1, 0, 3, 2, 4]
    assert neighbours(1, CPU).tolist() == [0]


def test_a_phase_that_does_not_mix_draws_nothing() -> None:
    assert draw_mixture(Phase(epochs=1), seed=0, step=3) is None


def test_the_mixture_depends_on_seed_and_step_alone() -> None:
    phase = Phase(epochs=1, mixup=0.4, cutmix=1.0)
    drawn = [draw_mixture(phase, seed=1, step=step) for step in range(50)]
    assert drawn == [draw_mixture(phase, seed=1, step=step) for step in range(50)]
    assert drawn != [draw_mixture(phase, seed=2, step=step) for step in range(50)]
    assert 10 < sum(mixture is not None and mixture.box is not None for mixture in drawn) < 40


def test_shares_follow_the_beta_distribution() -> None:
    shares = [draw_mixture(Phase(epochs=1, mixup=0.2), seed=0, step=step).share for step in range(2000)]  # type: ignore[union-attr]
    expected = torch.distributions.Beta(0.2, 0.2)
    assert sum(shares) / 2000 == pytest.approx(0.5, abs=0.03)
    assert torch.tensor(shares).std().item() == pytest.approx(expected.stddev.item(), rel=0.05)


def test_mixup_is_the_weighted_mean_of_a_pair_and_leaves_padding() -> None:
    x = torch.arange(12.0).reshape(4, 3)
    mixed = Mixture(0.25).features(x, 3)
    assert isinstance(mixed, torch.Tensor)
    torch.testing.assert_close(mixed[0], 0.25 * x[0] + 0.75 * x[1])
    torch.testing.assert_close(mixed[1], 0.25 * x[1] + 0.75 * x[0])
    assert torch.equal(mixed[2:], x[2:])
    both = Mixture(0.25).features((x, 2 * x), 4)
    torch.testing.assert_close(both[1], 2 * both[0])


def test_cutmix_takes_a_box_and_counts_its_pixels() -> None:
    x = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    mixture = Mixture(0.5, (0.0, 0.5, 0.25, 1.0))
    mixed = mixture.features(x, 2)
    assert isinstance(mixed, torch.Tensor)
    assert mixed[0].mean().item() == pytest.approx(4 * 6 / 64)
    assert mixture.loss_share(x) == pytest.approx(1 - mixed[0].mean().item())
    assert torch.equal(mixed[0], 1 - mixed[1])
