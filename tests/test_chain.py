"""A chain is its model, cut: the same function, the same tensors, and frozen means frozen."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo.chain import Chain, Stage, StageSequence
from zoo.errors import HookError, OptionError
from zoo.recipes import Phase
from zoo.training import Batch, CrossEntropy, Engine, Numerics, Trainer


class Residual(nn.Module):
    """A small net with BatchNorm, Dropout, a skip connection and an auxiliary head, written as plain torch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 3)
        self.auxiliary = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.fc(self.drop(self.pool(self.block(x) + x)))


class Body(nn.Module):
    def __init__(self, model: Residual) -> None:
        super().__init__()
        self.block, self.pool = model.block, model.pool

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.block(x) + x)


@pytest.fixture
def model() -> Residual:
    torch.manual_seed(0)
    return Residual()


@pytest.fixture
def chain(model: Residual) -> Chain:
    return Chain(model, stages(model))


def stages(model: Residual) -> list[Stage]:
    return [
        Stage("stem", model.stem, auxiliary=model.auxiliary, auxiliary_weight=0.4),
        Stage("body", Body(model)),
        Stage("head", nn.Sequential(model.drop, model.fc)),
    ]


IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
TARGETS = torch.arange(6) % 3


class OneBatch:
    def __len__(self) -> int:
        return 1

    def epoch(self, epoch: int, *, start: int = 0) -> Any:
        yield Batch(IMAGES, TARGETS, torch.arange(6), 6)


def train(chain: Chain, choice: str, *, batch_norm: Any = "train", epochs: int = 3) -> None:
    """Real steps, through the real trainer."""
    cut = chain.cut(choice)
    chain.freeze(cut, batch_norm=batch_norm)
    front = chain.part(0, cut.frozen_stages)
    trainer = Trainer(
        chain.part(cut.frozen_stages),
        engine=Engine(torch.device("cpu"), Numerics("float32", True, 8, torch.get_num_threads(), {})),
        criterion=CrossEntropy(),
        front=lambda batch, training: front(batch.inputs),
    )
    trainer.fit(
        OneBatch(),
        phase=Phase(epochs=epochs, lr=0.1, optimizer="sgd", schedule="constant"),
        groups=chain.parameter_groups(cut, lr=0.1, weight_decay=0.01),
        set_mode=lambda: chain.freeze(cut, batch_norm=batch_norm),
    )


def test_the_stages_composed_equal_the_model_bit_for_bit(model: Residual, chain: Chain) -> None:
    model.eval()
    x = IMAGES
    for stage in chain:
        x = stage.module(x)
    assert torch.equal(x, model(IMAGES))
    assert torch.equal(chain.part()(IMAGES), model(IMAGES))


@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_a_chain_cut_anywhere_is_the_same_function(model: Residual, chain: Chain, k: int) -> None:
    model.eval()
    assert torch.equal(chain.part(k)(chain.part(0, k)(IMAGES)), model(IMAGES))


def test_a_chain_is_a_sequence_of_named_stages(chain: Chain) -> None:
    assert chain.names == ("stem", "body", "head")
    assert len(chain) == 3
    assert chain[-1].name == "head"
    assert [stage.name for stage in chain[:2]] == ["stem", "body"]


def test_a_part_holds_the_models_own_layers(model: Residual, chain: Chain) -> None:
    own = {id(p) for p in model.parameters()}
    assert {id(p) for p in chain.part().parameters()} == own


def test_a_tensor_left_out_is_refused(model: Residual) -> None:
    with pytest.raises(HookError, match=r"left out 2 of the model's tensors, for example auxiliary\.2"):
        Chain(model, [Stage("stem", model.stem), *stages(model)[1:]])


def test_a_tensor_in_two_stages_is_refused(model: Residual) -> None:
    with pytest.raises(HookError, match=r"puts stem\.0\.weight into two stages, 'stem' and 'again'"):
        Chain(model, [stages(model)[0], Stage("again", model.stem), *stages(model)[1:]])


def test_a_tensor_that_is_not_the_models_is_refused(model: Residual) -> None:
    with pytest.raises(HookError, match="stage 'extra' that is not the model's own"):
        Chain(model, [Stage("extra", nn.Linear(2, 2)), *stages(model)])


def test_one_piece_of_memory_in_two_stages_is_refused(model: Residual) -> None:
    model.fc.bias.data = model.stem[0].weight.data.view(-1)[2:5]
    with pytest.raises(HookError, match=r"stem\.0\.weight and fc\.bias into two stages, 'stem' and 'head'.*memory"):
        Chain(model, stages(model))
    apart = torch.randn(model.fc.bias.numel() + model.stem[0].weight.numel())
    model.stem[0].weight.data = apart[3:].view_as(model.stem[0].weight)
    model.fc.bias.data = apart[:3]
    Chain(model, stages(model))


def test_a_dropout_layer_in_two_stages_is_refused(model: Residual) -> None:
    stem, body, head = stages(model)
    with pytest.raises(HookError, match="one dropout layer into two stages, 'body' and 'head'"):
        Chain(model, [stem, Stage("body", nn.Sequential(body.module, model.drop)), head])


@pytest.mark.parametrize("names", [[], ["stem", "body"], ["head", "head"]])
def test_names_that_repeat_or_do_not_end_in_head_are_refused(names: list[str]) -> None:
    with pytest.raises(HookError, match="must differ and the last must be 'head'"):
        Chain(nn.Module(), [Stage(name, nn.Identity()) for name in names])


@pytest.mark.parametrize(
    ("train", "frozen"),
    [("all", 0), ("head", 2), ("body", 1), ("stem", 0), ("last 1", 2), ("last 2", 1), ("last 9", 0)],
)
def test_what_trains_says_how_many_stages_freeze(chain: Chain, train: str, frozen: int) -> None:
    cut = chain.cut(train)
    assert (cut.frozen_stages, cut.partial) == (frozen, False)
    owned = {name for name in dict(chain.model.named_parameters()) if name not in cut.trained}
    assert owned == {name for name in chain.frozen_tensors(cut) if "running" not in name and "num_batches" not in name}


@pytest.mark.parametrize("train", ["heat", "last 0", "last x", "", "last", "stepwise"])
def test_a_stage_that_does_not_exist_is_refused(chain: Chain, train: str) -> None:
    with pytest.raises(OptionError, match="stem, body, head"):
        chain.cut(train)


@pytest.mark.parametrize("choice", ["head", "body"])
@pytest.mark.parametrize("batch_norm", ["train", "eval"])
def test_frozen_tensors_and_statistics_are_bit_equal_after_real_steps(
    chain: Chain, choice: str, batch_norm: str
) -> None:
    cut = chain.cut(choice)
    before = {name: tensor.clone() for name, tensor in chain.frozen_tensors(cut).items()}
    digest = chain.digest(cut)
    start = {name: tensor.clone() for name, tensor in chain.model.state_dict().items()}
    train(chain, choice, batch_norm=batch_norm)
    assert "stem.1.running_mean" in before
    assert all(torch.equal(before[name], tensor) for name, tensor in chain.frozen_tensors(cut).items())
    assert chain.digest(cut) == digest
    moved = {n for n, tensor in chain.model.state_dict().items() if not torch.equal(start[n], tensor)}
    assert cut.trained <= moved
    assert ("block.1.running_mean" in moved) == (choice == "body" and batch_norm == "train")


def test_a_frozen_buffer_that_its_own_forward_changes_is_found(model: Residual) -> None:
    class Counting(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls = self.calls + 1
            return self.inner(x)

    counting = Counting(model.stem)
    model.stem = counting  # type: ignore[assignment]
    chain = Chain(model, stages(model))
    cut = chain.cut("head")
    before = chain.digests(cut)
    train(chain, "head", epochs=1)
    after = chain.digests(cut)
    assert [name for name in before if before[name] != after[name]] == ["stem.calls"]


def test_the_digest_changes_with_one_bit_of_any_frozen_tensor(chain: Chain) -> None:
    cut = chain.cut("head")
    digest = chain.digest(cut)
    for tensor in chain.frozen_tensors(cut).values():
        bits = tensor.view(-1).view(torch.uint8)
        bits[0] ^= 1
        assert chain.digest(cut) != digest
        bits[0] ^= 1
        assert chain.digest(cut) == digest


def test_the_digest_does_not_depend_on_the_memory_layout(chain: Chain) -> None:
    cut = chain.cut("head")
    digest = chain.digest(cut)
    chain.model.to(memory_format=torch.channels_last)
    assert chain.digest(cut) == digest


def test_freezing_sets_gradients_and_modes(model: Residual, chain: Chain) -> None:
    chain.freeze(chain.cut("body"))
    assert not any(p.requires_grad for p in [*model.stem.parameters(), *model.auxiliary.parameters()])
    assert not model.stem[1].training
    assert not model.auxiliary.training
    assert model.block[1].training
    assert model.drop.training
    assert all(p.requires_grad for p in [*model.block.parameters(), *model.fc.parameters()])
    chain.freeze(chain.cut("all"), batch_norm="eval")
    assert not model.stem[1].training
    assert model.drop.training
    assert all(p.requires_grad for p in model.parameters())


def test_weight_decay_is_kept_off_biases_and_norms(chain: Chain) -> None:
    groups = chain.parameter_groups(chain.cut("all"), lr=0.1, weight_decay=0.01)
    names = {id(p): n for n, p in chain.model.named_parameters()}
    decays = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}  # type: ignore[attr-defined]
    assert decays.keys() == dict(chain.model.named_parameters()).keys()
    assert {n for n, decay in decays.items() if decay} == {
        "stem.0.weight",
        "block.0.weight",
        "fc.weight",
        "auxiliary.2.weight",
    }


def test_groups_hold_what_trains_alone_and_the_head_comes_last(chain: Chain) -> None:
    groups = chain.parameter_groups(chain.cut("last 2"), lr=0.1, weight_decay=0.01)
    assert [group["name"] for group in groups] == [
        "body/biases and norms",
        "body/weights",
        "head/biases and norms",
        "head/weights",
    ]


@pytest.mark.parametrize("length", [2, 5, 13])
def test_layer_decay_goes_by_relative_depth(length: int) -> None:
    model = nn.Sequential(*[nn.Linear(2, 2, bias=False) for _ in range(length)])
    names = [f"stage{i}" for i in range(length - 1)] + ["head"]
    chain = Chain(model, [Stage(name, layer) for name, layer in zip(names, model, strict=True)])
    rates = [g["lr"] for g in chain.parameter_groups(chain.cut("all"), lr=1.0, weight_decay=0.0, layer_decay=0.75)]
    assert rates[0] == pytest.approx(0.75**12)
    assert rates[-1] == 1.0
    steps = [math.log(b / a) for a, b in itertools.pairwise(rates)]  # type: ignore[operator]
    assert steps == pytest.approx([steps[0]] * (length - 1))


def test_a_model_that_is_no_chain_trains_its_head_alone_with_everything_at_rest(model: Residual) -> None:
    chain = Chain(model, [Stage("head", model)], head_parameters=["fc.weight", "fc.bias"])
    cut = chain.cut("head")
    assert (cut.frozen_stages, cut.partial, cut.trained) == (0, True, {"fc.weight", "fc.bias"})
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(chain, "head")
    assert not any(layer.training for layer in model.modules())
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(start[name], tensor)}
    assert moved == {"fc.weight", "fc.bias"}
    assert {group["lr"] for group in chain.parameter_groups(cut, lr=0.5, weight_decay=0.0, layer_decay=0.5)} == {0.5}


def test_a_model_that_is_no_chain_trains_whole_and_nowhere_between(model: Residual) -> None:
    chain = Chain(model, [Stage("head", model)], head_parameters=["fc.weight", "fc.bias"])
    cut = chain.cut("all")
    assert cut.trained == dict(model.named_parameters()).keys()
    head = {id(model.fc.weight), id(model.fc.bias)}
    for group in chain.parameter_groups(cut, lr=0.5, weight_decay=0.0, layer_decay=0.8):
        in_head = {id(parameter) in head for parameter in group["params"]}  # type: ignore[attr-defined]
        assert in_head == {group["lr"] == 0.5}
        assert group["lr"] in (0.5, pytest.approx(0.5 * 0.8**12))
    with pytest.raises(OptionError, match="no chain of stages"):
        chain.cut("last 1")


def test_auxiliary_heads_speak_while_their_stage_trains(model: Residual, chain: Chain) -> None:
    part = chain.part()
    chain.freeze(chain.cut("all"))
    outputs = part(IMAGES)
    assert isinstance(outputs, tuple)
    assert [x.shape for x in outputs] == [(6, 3), (6, 3)]
    assert part.auxiliary_weights == (0.4,)

    chain.freeze(chain.cut("body"))
    assert isinstance(part(IMAGES), Tensor)
    assert part.auxiliary_weights == ()

    chain.freeze(chain.cut("all"))
    part.eval()
    assert isinstance(part(IMAGES), Tensor)
    assert torch.equal(part(IMAGES), model.eval()(IMAGES))


def test_stages_may_pass_tuples_on() -> None:
    class Split(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x + 1

    class Join(nn.Module):
        def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
            return pair[0] * pair[1]

    part = StageSequence([Stage("split", Split()), Stage("head", Join())])
    assert torch.equal(part(IMAGES), IMAGES * (IMAGES + 1))
