"""Which images a step takes: balanced over classes, and shared out among processes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.batches import evaluation_steps, training_steps
from zoo.data.sampling import balanced_steps, every_nth_step, shared_steps
from zoo.errors import OptionError

LABELS = [0] * 90 + [1] * 9 + [2] * 30


def test_a_balanced_epoch_shows_every_class_equally_often() -> None:
    for epoch in range(3):
        positions = np.concatenate(balanced_steps(LABELS, 16, seed=0)(epoch))
        assert len(positions) == len(LABELS)
        counts = np.bincount(np.asarray(LABELS)[positions])
        assert counts.max() - counts.min() <= 1


def test_no_image_comes_again_before_each_of_its_class_came() -> None:
    positions = np.concatenate(balanced_steps(LABELS, 16, seed=0)(0))
    for label in range(3):
        times = np.bincount(positions, minlength=len(LABELS))[np.asarray(LABELS) == label]
        assert times.max() - times.min() <= 1


def test_a_large_class_is_seen_whole_over_the_epochs() -> None:
    steps = balanced_steps(LABELS, 16, seed=0)
    seen = np.unique(np.concatenate([np.concatenate(steps(epoch)) for epoch in range(12)]))
    assert len(seen) == len(LABELS)


def test_balanced_orders_depend_on_seed_and_epoch_alone() -> None:
    one, same, other = (balanced_steps(LABELS, 16, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one(4), same(4), strict=True))
    assert not np.array_equal(np.concatenate(one(4)), np.concatenate(one(5)))
    assert not np.array_equal(np.concatenate(one(4)), np.concatenate(other(4)))


@given(count=st.integers(8, 200), batch_size=st.integers(4, 64), world_size=st.integers(1, 4), epoch=st.integers(0, 3))
def test_processes_together_take_the_steps_of_one(count: int, batch_size: int, world_size: int, epoch: int) -> None:
    steps = training_steps(count, batch_size, seed=0)
    if min(map(len, steps(0))) < world_size:
        with pytest.raises(OptionError, match="cannot be shared"):
            shared_steps(steps, 0, world_size)
        return
    parts = [shared_steps(steps, rank, world_size)(epoch) for rank in range(world_size)]
    for number, whole in enumerate(steps(epoch)):
        assert np.array_equal(np.concatenate([part[number] for part in parts]), whole)
        assert all(len(part[number]) for part in parts)
        if len(whole) >= 2 * world_size:  # pairs stay together
            assert all(len(part[number]) % 2 == 0 for part in parts[:-1])


@given(count=st.integers(1, 100), batch_size=st.integers(1, 16), world_size=st.integers(1, 5))
def test_an_evaluation_counts_every_image_once(count: int, batch_size: int, world_size: int) -> None:
    steps = evaluation_steps(count, batch_size)
    taken = [part for rank in range(world_size) for part in every_nth_step(steps, rank, world_size)(0)]
    assert sorted(np.concatenate(taken).tolist()) == list(range(count))
