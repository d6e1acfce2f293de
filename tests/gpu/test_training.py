"""Training on a CUDA GPU: equal runs, frozen parts, and the CPU's answers."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from zoo.chain import Chain, Stage
from zoo.recipes import Phase
from zoo.training import (
    Batch,
    CrossEntropy,
    Engine,
    Numerics,
    Trainer,
    balanced_class_weights,
    choose_device,
    choose_numerics,
    predict_logits,
)

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


class Samples:
    """Images in pinned memory, in order."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.targets = torch.arange(128) % 4
        self.inputs = torch.randn(128, 3, 64, 64, generator=generator) + self.targets[:, None, None, None] / 4
        self.inputs = self.inputs.pin_memory()

    def __len__(self) -> int:
        return 4

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        for indices in torch.arange(128).split(32)[start:]:
            yield Batch(self.inputs[indices], self.targets[indices], indices, len(indices))


def chain() -> Chain:
    """With the layers whose gradients add up in any order on a GPU unless asked otherwise."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 32, 7, stride=2, padding=3), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
        nn.Sequential(nn.Conv2d(32, 64, 3, padding=1, groups=2), nn.BatchNorm2d(64), nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 49, 4)),
    )
    return Chain(model, [Stage("stem", model[0]), Stage("block", model[1]), Stage("head", model[2])])


def train(chain: Chain, choice: str) -> None:
    device = choose_device("cuda")
    engine = Engine(device, choose_numerics(chain.model, device))
    engine.place(chain.model)
    cut = chain.cut(choice)
    front = chain.part(0, cut.frozen_stages)
    chain.freeze(cut)
    samples = Samples()
    Trainer(
        chain.part(cut.frozen_stages),
        engine=engine,
        criterion=CrossEntropy(class_weights=balanced_class_weights(samples.targets, 4)),
        front=lambda batch, training: front(batch.inputs),
    ).fit(
        samples,
        samples,
        phase=Phase(epochs=3, lr=1e-3, schedule="one-cycle"),
        groups=chain.parameter_groups(cut, lr=1e-3, weight_decay=0.01),
        set_mode=lambda: chain.freeze(cut),
    )


def test_equal_runs_give_equal_bytes_on_a_gpu() -> None:
    first, second = chain(), chain()
    train(first, "all")
    train(second, "all")
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


def test_what_is_frozen_stays_bit_equal_on_a_gpu() -> None:
    model = chain()
    digests = model.digests(model.cut("head"))
    train(model, "head")
    assert model.digests(model.cut("head")) == digests


def test_a_gpu_gives_the_logits_of_the_cpu() -> None:
    threads = torch.get_num_threads()
    model = chain().model
    logits = [
        predict_logits(
            model, Samples(), engine=Engine(torch.device(device), Numerics("float32", True, 32, threads, {}))
        )
        for device in ("cpu", "cuda")
    ]
    torch.testing.assert_close(logits[1][0], logits[0][0], rtol=5e-3, atol=5e-3)
    assert torch.equal(logits[0][1], logits[1][1])
