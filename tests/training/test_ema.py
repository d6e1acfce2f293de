"""The moving average of the weights."""

from typing import Any

import pytest
import torch
from torch import nn

from zoo.recipes import Phase
from zoo.training.ema import MovingAverage


def test_the_average_is_the_sum_of_shares() -> None:
    module = nn.BatchNorm1d(2)
    optimizer = torch.optim.SGD(module.parameters())
    average = MovingAverage(module, optimizer, decay=0.5)
    expected = torch.ones(2)
    for step in range(1, 30):
        with torch.no_grad():
            module.weight.fill_(float(step))
        module.num_batches_tracked.fill_(step)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average.applied():
        torch.testing.assert_close(module.weight.detach(), expected)
        assert int(module.num_batches_tracked) == 29
    assert module.weight.tolist() == [29.0, 29.0]
    average.apply()
    torch.testing.assert_close(module.weight.detach(), expected)


def test_the_model_that_is_kept_is_the_average(fit: Any, new_chain: Any) -> None:
    phase = Phase(epochs=3, lr=0.02, schedule="constant")
    plain, _ = fit(phase, new_chain(), val=None)
    averaged, _ = fit(Phase(epochs=3, lr=0.02, schedule="constant", ema=0.9), new_chain(), val=None)
    weights = [chain.model[2][1].weight.detach() for chain in (plain, averaged)]
    assert not torch.equal(*weights)
    assert float((weights[0] - weights[1]).norm()) < float(weights[0].norm())


def test_the_figures_of_validation_are_the_averages_own(fit: Any, new_chain: Any, samples: Any) -> None:
    chain, result = fit(Phase(epochs=2, lr=0.02, ema=0.8), new_chain())
    val = samples(30, shuffle=False)
    with torch.no_grad():
        logits = chain.model.eval()(val.inputs)
    assert float((logits.argmax(dim=1) == val.targets).double().mean()) == pytest.approx(result.best["val_accuracy"])
