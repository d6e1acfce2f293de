"""A learning rate by trying them."""

import itertools
from typing import Any

import pytest
import torch

from zoo.recipes import Phase
from zoo.training import CrossEntropy, Engine, Numerics, Trainer
from zoo.training.lr_finder import find_lr


def find(chain: Any, train: Any, phase: Phase, **arguments: Any) -> Any:
    cut = chain.cut(phase.train)
    engine = Engine(torch.device("cpu"), Numerics("float32", True, 16, torch.get_num_threads(), {}))
    front = chain.part(0, cut.frozen_stages)
    chain.freeze(cut)
    trainer = Trainer(
        chain.part(cut.frozen_stages), engine=engine, criterion=CrossEntropy(), front=lambda b, t: front(b.inputs)
    )
    return find_lr(
        trainer,
        train,
        phase=phase,
        groups=chain.parameter_groups(cut, lr=1.0, weight_decay=0.0),
        set_mode=lambda: chain.freeze(cut),
        **arguments,
    )


@pytest.mark.parametrize("train", ["all", "head"])
def test_it_suggests_a_rate_that_trains_and_puts_everything_back(
    fit: Any, new_chain: Any, samples: Any, bytes_of: Any, train: str
) -> None:
    phase = Phase(epochs=4, train=train)
    chain = new_chain()
    before = bytes_of(chain)
    curve = find(chain, samples(), phase)
    assert bytes_of(chain) == before
    assert all(parameter.grad is None for parameter in chain.model.parameters())
    assert 1e-5 < curve.suggestion < 1
    assert curve.rates == tuple(sorted(curve.rates))
    _, result = fit(Phase(epochs=4, train=train, lr=curve.suggestion), chain)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


def test_equal_calls_give_equal_curves(new_chain: Any, samples: Any) -> None:
    phase = Phase(epochs=1, mixup=0.2)
    assert find(new_chain(), samples(), phase) == find(new_chain(), samples(), phase)


def test_a_loss_that_never_falls_suggests_nothing(
    new_chain: Any, samples: Any, bytes_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = new_chain()
    before = bytes_of(chain)
    monkeypatch.setenv("ZOO_FAULT", "loss:1-999:value,lr-finder:1:value")
    assert find(chain, samples(), Phase(epochs=1)).suggestion is None
    assert bytes_of(chain) == before


def test_the_suggestion_lies_between_the_steepest_fall_and_the_lowest_loss(new_chain: Any, samples: Any) -> None:
    curve = find(new_chain(), samples(), Phase(epochs=1))
    falls = [before - after for before, after in itertools.pairwise(curve.losses)]
    # The first tenth of the steps counts neither for the one nor for the other.
    first = len(falls) // 10
    steepest = max(range(first, len(falls)), key=lambda i: falls[i])
    lowest = min(range(first, len(curve.losses)), key=lambda i: curve.losses[i])
    assert curve.rates[steepest] < curve.suggestion < curve.rates[lowest]
