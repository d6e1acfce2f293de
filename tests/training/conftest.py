"""A small chain, samples whose mean says their class, and a way to train the one on the other."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from zoo.chain import Chain, Stage
from zoo.recipes import Phase
from zoo.training import Batch, CrossEntropy, Engine, FitResult, Numerics, Trainer

CLASSES = 3
Fit = Callable[..., tuple[Chain, FitResult]]


class Samples:
    """Images in memory, shuffled by epoch or in order."""

    def __init__(self, size: int = 48, *, batch_size: int = 8, shuffle: bool = True) -> None:
        generator = torch.Generator().manual_seed(7)
        self.targets = torch.arange(size) % CLASSES
        self.inputs = torch.randn(size, 3, 8, 8, generator=generator) + (self.targets[:, None, None, None] - 1) / 2
        self.batch_size, self.shuffle = batch_size, shuffle

    def __len__(self) -> int:
        return -(-len(self.targets) // self.batch_size)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        order = torch.arange(len(self.targets))
        if self.shuffle:
            order = torch.randperm(len(order), generator=torch.Generator().manual_seed(epoch))
        for indices in order.split(self.batch_size)[start:]:
            yield Batch(self.inputs[indices], self.targets[indices], indices, len(indices))


class Notes:
    """Progress that keeps what was said."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)

    def warn(self, text: str) -> None:
        self.texts.append(text)

    @contextmanager
    def task(self, label: str, total: int | None = None, *, unit: str = "") -> Iterator[Any]:
        yield lambda advance: None


def make_chain(*, batch_norm: bool, dropout: float) -> Chain:
    torch.manual_seed(0)
    norms: Sequence[nn.Module] = [nn.BatchNorm2d(8) if batch_norm else nn.Identity() for _ in range(2)]
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3), norms[0], nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 8, 3), norms[1], nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Sequential(nn.Dropout(dropout), nn.Linear(8, CLASSES)),
    )
    return Chain(model, [Stage("stem", model[0]), Stage("block", model[1]), Stage("head", model[2])])


@pytest.fixture
def new_chain() -> Callable[..., Chain]:
    """Makes chains with equal values: ``batch_norm=True``, ``dropout=0.3``."""

    def make(*, batch_norm: bool = True, dropout: float = 0.3) -> Chain:
        return make_chain(batch_norm=batch_norm, dropout=dropout)

    return make


@pytest.fixture
def samples() -> type[Samples]:
    return Samples


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def fit() -> Fit:
    """Trains a chain for one phase."""

    def run(
        phase: Phase, chain: Chain, *, train: Any = None, val: Any = "default", trainer: Any = None, **arguments: Any
    ) -> tuple[Chain, FitResult]:
        cut = chain.cut(phase.train)
        front = chain.part(0, cut.frozen_stages)
        chain.freeze(cut, batch_norm=phase.batch_norm)
        engine = Engine(torch.device("cpu"), Numerics("float32", True, 16, torch.get_num_threads(), {}))
        result = Trainer(
            chain.part(cut.frozen_stages),
            engine=engine,
            criterion=CrossEntropy(label_smoothing=phase.label_smoothing),
            front=lambda batch, training: front(batch.inputs),
            **(trainer or {}),
        ).fit(
            Samples() if train is None else train,
            Samples(30, shuffle=False) if val == "default" else val,
            phase=phase,
            groups=chain.parameter_groups(
                cut, lr=float(phase.lr), weight_decay=phase.weight_decay, layer_decay=phase.layer_decay
            ),
            set_mode=lambda: chain.freeze(cut, batch_norm=phase.batch_norm),
            **arguments,
        )
        return chain, result

    return run


@pytest.fixture
def bytes_of() -> Callable[[Chain], dict[str, bytes]]:
    """Every parameter and buffer of a chain's model as bytes."""
    return lambda chain: {name: t.contiguous().numpy().tobytes() for name, t in chain.model.state_dict().items()}
