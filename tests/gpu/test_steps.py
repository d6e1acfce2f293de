"""Steps on a CUDA GPU: skipped without waiting for it, entered anywhere, and halved when memory runs out."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from zoo.chain import Chain, Stage
from zoo.progress import Silent
from zoo.recipes import Phase
from zoo.training import Batch, CrossEntropy, Engine, Trainer, choose_device, choose_numerics
from zoo.training.checkpoint import Snapshot

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


class Samples:
    """Images whose mean says their class; those of the bad steps are NaN."""

    def __init__(self, *, bad: tuple[int, ...] = (), size: int = 16) -> None:
        generator = torch.Generator().manual_seed(0)
        self.targets = torch.arange(128) % 4
        self.inputs = torch.randn(128, 3, size, size, generator=generator) + self.targets[:, None, None, None] / 4
        self.bad = bad

    def __len__(self) -> int:
        return 8 + len(self.bad)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        parts = [*torch.arange(128).split(16)]
        for number in self.bad:
            parts.insert(number, torch.arange(16))
        for number, indices in list(enumerate(parts))[start:]:
            inputs = self.inputs[indices]
            yield Batch(inputs * float("nan") if number in self.bad else inputs, self.targets[indices], indices, 16)


def new_chain() -> Chain:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.0), nn.Linear(32, 4)),
    )
    return Chain(model, [Stage(name, part) for name, part in zip(("stem", "block", "head"), model, strict=True)])


class Told(Silent):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, text: str) -> None:
        self.texts.append(text)


def fit(phase: Phase, chain: Chain, train: Samples, *, told: Any = None, **arguments: Any) -> Any:
    device = choose_device("cuda")
    cut = chain.cut("all")
    chain.freeze(cut)
    engine = Engine(device, choose_numerics(chain.model, device))
    engine.place(chain.model)
    return Trainer(chain.part(), engine=engine, criterion=CrossEntropy(), progress=told or Silent()).fit(
        train,
        Samples(),
        phase=phase,
        groups=chain.parameter_groups(cut, lr=float(phase.lr), weight_decay=0.01),
        set_mode=lambda: chain.freeze(cut),
        **arguments,
    )


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("bad", [(0,), (3, 4), (8,)])
def test_a_skipped_step_leaves_everything_as_it_was(optimizer: Any, bad: tuple[int, ...]) -> None:
    phase = Phase(epochs=1, lr=1e-3, schedule="constant", optimizer=optimizer)
    with_bad, without = new_chain(), new_chain()
    result = fit(phase, with_bad, Samples(bad=bad))
    expected = fit(phase, without, Samples())
    assert result.history[0]["skipped_steps"] == len(bad)
    assert result.history[0]["train_loss"] == expected.history[0]["train_loss"]
    for name, tensor in without.model.state_dict().items():
        assert torch.equal(tensor, with_bad.model.state_dict()[name]), name


class Kept:
    """Keeps what it is given."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.kept: list[tuple[Snapshot, dict[str, torch.Tensor]]] = []

    def due(self, step: int) -> bool:
        return True

    def save(self, step: int, snapshot: Snapshot) -> None:
        copied = Snapshot(json.loads(json.dumps(snapshot.facts)), {n: t.cpu() for n, t in snapshot.tensors.items()})
        self.kept.append((copied, {n: t.cpu().clone() for n, t in self.chain.model.state_dict().items()}))


def test_a_phase_is_entered_at_any_step_with_the_same_bytes() -> None:
    phase = Phase(epochs=2, lr=1e-3, ema=0.9, mixup=0.2, cutmix=1.0)
    chain = new_chain()
    saver = Kept(chain)
    fit(phase, chain, Samples(), saver=saver)
    for snapshot, tensors in saver.kept[::4]:
        resumed = new_chain()
        resumed.model.load_state_dict(tensors)
        fit(phase, resumed, Samples(), resume=snapshot)
        for name, tensor in chain.model.state_dict().items():
            assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_when_memory_really_runs_out_the_parts_become_smaller() -> None:
    torch.cuda.empty_cache()
    train = Samples(size=512)
    fit(Phase(epochs=1, lr=1e-3, micro_batch=2), new_chain(), train)
    _, total = torch.cuda.mem_get_info()
    torch.cuda.empty_cache()
    try:
        # Sixteen images of 512 x 512 need more than this for their activations.
        torch.cuda.set_per_process_memory_fraction(min(1.0, 1.2e9 / total))
        told = Told()
        result = fit(Phase(epochs=1, lr=1e-3), new_chain(), train, told=told)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any("images at a time" in text for text in told.texts)
    assert result.history[0]["train_loss"] > 0
