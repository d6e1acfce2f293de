"""The loop: what trains, what rests, what is kept, and that equal runs are equal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo.chain import Chain, Stage
from zoo.errors import DataError, TrainingError, UsageError
from zoo.recipes import Phase
from zoo.training import Batch, Callback, CrossEntropy, Engine, FitResult, Numerics, Trainer, predict_logits

CLASSES = 3


class Samples:
    """Images in memory whose mean says their class, shuffled by epoch or in order."""

    def __init__(self, size: int = 48, *, batch_size: int = 8, shuffle: bool = True, pad: bool = False) -> None:
        generator = torch.Generator().manual_seed(7)
        self.targets = torch.arange(size) % CLASSES
        self.inputs = torch.randn(size, 3, 8, 8, generator=generator) + (self.targets[:, None, None, None] - 1) / 2
        self.batch_size, self.shuffle, self.pad = batch_size, shuffle, pad

    def __len__(self) -> int:
        return -(-len(self.targets) // self.batch_size)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        order = torch.arange(len(self.targets))
        if self.shuffle:
            order = torch.randperm(len(order), generator=torch.Generator().manual_seed(epoch))
        for indices in order.split(self.batch_size)[start : len(self)]:
            count = len(indices)
            if self.pad:
                indices = torch.cat([indices, indices[-1:].expand(self.batch_size - count)])
            yield Batch(self.inputs[indices], self.targets[indices], indices, count)


def small_chain() -> Chain:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Sequential(nn.Dropout(0.3), nn.Linear(8, CLASSES)),
    )
    return Chain(model, [Stage("stem", model[0]), Stage("block", model[1]), Stage("head", model[2])])


def cpu_engine(precision: Any = "float32", *, channels_last: bool = True) -> Engine:
    return Engine(torch.device("cpu"), Numerics(precision, channels_last, 16, torch.get_num_threads(), {}))


VALIDATION = Samples(30, shuffle=False)


def fit(
    phase: Phase,
    *,
    chain: Chain | None = None,
    train: Any = None,
    val: Any = VALIDATION,
    engine: Engine | None = None,
    criterion: Any = None,
    phase_index: int = 0,
    first_epoch: int = 0,
    first_step: int = 0,
    **trainer_arguments: Any,
) -> tuple[Chain, FitResult]:
    chain = chain or small_chain()
    cut = chain.cut(phase.train)
    front = chain.part(0, cut.frozen_stages)
    chain.freeze(cut, batch_norm=phase.batch_norm)
    trainer = Trainer(
        chain.part(cut.frozen_stages),
        engine=engine or cpu_engine(),
        criterion=criterion or CrossEntropy(label_smoothing=phase.label_smoothing),
        front=lambda batch, training: front(batch.inputs),
        **trainer_arguments,
    )
    result = trainer.fit(
        Samples() if train is None else train,
        val,
        phase=phase,
        groups=chain.parameter_groups(cut, lr=phase.lr, weight_decay=phase.weight_decay, layer_decay=phase.layer_decay),
        set_mode=lambda: chain.freeze(cut, batch_norm=phase.batch_norm),
        phase_index=phase_index,
        first_epoch=first_epoch,
        first_step=first_step,
    )
    return chain, result


def bytes_of(chain: Chain) -> dict[str, bytes]:
    return {name: t.contiguous().numpy().tobytes() for name, t in chain.model.state_dict().items()}


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant"])
def test_training_learns(optimizer: Any, schedule: Any) -> None:
    lr = 0.1 if optimizer == "sgd" else 0.02
    _, result = fit(Phase(epochs=6, lr=lr, optimizer=optimizer, schedule=schedule))
    assert result.best["val_accuracy"] >= 0.9
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_equal_runs_give_equal_bytes(precision: Any) -> None:
    phase = Phase(epochs=2, lr=0.01, schedule="one-cycle")
    first, _ = fit(phase, engine=cpu_engine(precision), seed=3)
    second, _ = fit(phase, engine=cpu_engine(precision), seed=3)
    assert bytes_of(first) == bytes_of(second)


def test_the_seed_decides_dropout() -> None:
    phase = Phase(epochs=1, lr=0.01)
    assert bytes_of(fit(phase, seed=0)[0]) != bytes_of(fit(phase, seed=1)[0])


def test_a_run_does_not_depend_on_the_random_state_it_finds_and_leaves_it_alone() -> None:
    phase = Phase(epochs=1, lr=0.01)
    expected = bytes_of(fit(phase)[0])
    chain = small_chain()
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert bytes_of(fit(phase, chain=chain)[0]) == expected
    assert torch.equal(torch.get_rng_state(), before)


def test_order_and_dropout_depend_on_the_position_in_the_run() -> None:
    phase = Phase(epochs=1, lr=0.01)
    first = bytes_of(fit(phase)[0])
    assert bytes_of(fit(phase, first_step=6)[0]) != first
    assert bytes_of(fit(phase, first_epoch=1)[0]) != first


@pytest.mark.parametrize("train", ["head", "last 2", "block"])
def test_what_is_frozen_stays_bit_equal(train: str) -> None:
    chain = small_chain()
    before = bytes_of(chain)
    fit(Phase(epochs=2, lr=0.05, train=train), chain=chain)
    after = bytes_of(chain)
    trained = chain.cut(train).trained
    frozen = chain.frozen_tensors(chain.cut(train))
    assert {name for name in before if before[name] == after[name]} == set(frozen)
    assert trained == {name for name, _ in chain.model.named_parameters()} - set(frozen)


def test_batch_norm_eval_keeps_the_statistics_of_layers_that_train() -> None:
    chain = small_chain()
    before = bytes_of(chain)
    fit(Phase(epochs=1, lr=0.05, batch_norm="eval"), chain=chain)
    after = bytes_of(chain)
    assert before["1.1.running_mean"] == after["1.1.running_mean"]
    assert before["1.1.weight"] != after["1.1.weight"]


def test_padding_changes_nothing_in_a_model_without_batch_statistics() -> None:
    phase = Phase(epochs=2, lr=0.05, train="head")
    # Dropout draws a mask a row, and in one call for all of them, so it would differ for the padded rows' sake alone.
    plain, padded = small_chain(), small_chain()
    for chain in (plain, padded):
        chain.model[2][0].p = 0.0
    _, expected = fit(phase, chain=plain, train=Samples(20), val=Samples(20, shuffle=False))
    _, result = fit(phase, chain=padded, train=Samples(20, pad=True), val=Samples(20, shuffle=False, pad=True))
    assert bytes_of(plain).keys() == bytes_of(padded).keys()
    torch.testing.assert_close(padded.model.state_dict(), plain.model.state_dict())
    for row, other in zip(result.history, expected.history, strict=True):
        assert {k: v for k, v in row.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in other.items() if k != "seconds"}
        )


def test_a_criterion_of_torch_gives_the_same_as_our_own() -> None:
    phase = Phase(epochs=2, lr=0.05)
    ours, _ = fit(phase, train=Samples(32))
    theirs, _ = fit(phase, train=Samples(32), criterion=nn.CrossEntropyLoss())
    torch.testing.assert_close(theirs.model.state_dict(), ours.model.state_dict())


def test_a_history_row_has_these_keys_and_counts_from_the_start_of_the_run() -> None:
    _, result = fit(Phase(epochs=2, lr=0.01, schedule="constant"), phase_index=1, first_epoch=4, first_step=100)
    keys = ["phase", "epoch", "step", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds"]
    assert [list(row) for row in result.history] == [keys, keys]
    assert [(row["phase"], row["epoch"], row["step"]) for row in result.history] == [(1, 4, 106), (1, 5, 112)]
    assert result.history[0]["lr"] == 0.01


def test_the_module_holds_the_tensors_of_the_best_epoch() -> None:
    class Vandal(Callback):
        """Keeps the third epoch's state and ruins the head after it."""

        def on_epoch_end(self, state: Any, row: Any) -> None:
            if state.epoch == 2:
                self.kept = bytes_of(chain)
                chain.model[2][1].weight.data *= -50

    vandal = Vandal()
    chain = small_chain()
    _, result = fit(Phase(epochs=4, lr=0.02, schedule="constant"), chain=chain, callbacks=[vandal])
    assert result.best_epoch == 2
    assert result.best == result.history[2]
    assert bytes_of(chain) == vandal.kept
    logits, targets = predict_logits(chain.model, VALIDATION, engine=cpu_engine())
    assert (logits.argmax(dim=1) == targets).double().mean().item() == pytest.approx(result.best["val_accuracy"])


def test_without_validation_the_last_epoch_is_kept() -> None:
    _, result = fit(Phase(epochs=3, lr=0.01), val=None)
    assert result.best_epoch == 2
    assert result.history[-1]["val_loss"] is None
    assert result.best == result.history[-1]


def test_a_later_phase_never_ends_worse_than_it_began() -> None:
    chain, _ = fit(Phase(epochs=6, lr=0.02))
    before = bytes_of(chain)
    _, result = fit(Phase(epochs=2, lr=100.0, optimizer="sgd", clip=None), chain=chain, phase_index=1, first_epoch=6)
    assert result.best_epoch == 5
    assert bytes_of(chain) == before


def test_patience_ends_a_phase_that_does_not_get_better() -> None:
    notes = Notes()
    _, result = fit(Phase(epochs=50, lr=1e-12, patience=2), progress=notes)
    assert len(result.history) == result.best_epoch + 3
    assert "stopped early" in notes.texts[-1]


@pytest.mark.parametrize("changes", [{"patience": 1}, {"schedule": "plateau"}, {"monitor": "f1"}], ids=str)
def test_what_looks_at_validation_is_refused_without_it(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="need validation images"):
        fit(Phase(**{"epochs": 2, "lr": 0.01, **changes}), val=None)


def test_a_moving_average_that_the_steps_do_not_reach_is_said_to_follow_faster() -> None:
    notes = Notes()
    fit(Phase(epochs=2, lr=0.01, ema=0.9999), progress=notes)
    assert "ema = 0.9999 is not reached in" in notes.texts[0]
    notes = Notes()
    fit(Phase(epochs=2, lr=0.01, ema=0.2), progress=notes)
    assert not [text for text in notes.texts if "ema" in text]


def test_a_step_whose_loss_is_not_finite_changes_nothing_and_names_its_samples() -> None:
    train = Samples(32)
    train.inputs[5] = float("nan")
    position = [5 in batch.indices for batch in train.epoch(0)].index(True)
    samples = list(train.epoch(0))[position].indices.tolist()
    notes, chain = Notes(), small_chain()
    _, result = fit(Phase(epochs=3, lr=0.02), train=train, chain=chain, progress=notes)
    skipped = [text for text in notes.texts if "skipped" in text and "not finite" in text]
    assert len(skipped) == 3
    assert f"step {position + 1} of epoch 1, on samples {', '.join(map(str, samples))}:" in skipped[0]
    assert [row["skipped_steps"] for row in result.history] == [1, 1, 1]
    assert all(torch.isfinite(tensor).all() for tensor in chain.model.state_dict().values())
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_skipped_first_step_leaves_model_and_optimizer_as_they_were(optimizer: Any) -> None:
    class AfterABadOne(Samples):
        def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
            bad = torch.full_like(self.inputs[:8], float("nan"))
            yield from [Batch(bad, self.targets[:8], torch.arange(8), 8), *super().epoch(epoch)][start:]

        def __len__(self) -> int:
            return super().__len__() + 1

    phase = Phase(epochs=1, lr=0.02, schedule="constant", optimizer=optimizer)
    after_a_bad_one, plain = small_chain(), small_chain()
    for chain, train in ((after_a_bad_one, AfterABadOne(24)), (plain, Samples(24))):
        chain.model[2][0].p = 0.0  # dropout depends on the number of the step
        fit(phase, chain=chain, train=train, val=None)
    assert bytes_of(after_a_bad_one) == bytes_of(plain)


def test_a_gradient_that_is_not_finite_is_noticed_and_several_in_a_row_end_training() -> None:
    class Treacherous(nn.Module):
        def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
            return (logits - logits).sum(dim=1).sqrt()  # 0, with a gradient of inf * 0

    chain = small_chain()
    before = bytes_of(chain)
    with pytest.raises(TrainingError, match=r"step 5 of epoch 1.*None of them changed the model"):
        fit(Phase(epochs=1, lr=0.01), criterion=Treacherous(), chain=chain)
    assert bytes_of(chain) == before


def test_a_validation_loss_that_is_never_finite_is_an_error() -> None:
    val = Samples(30, shuffle=False)
    val.inputs[0] = float("inf")
    with pytest.raises(TrainingError, match="validation loss was not finite"):
        fit(Phase(epochs=1, lr=0.01), val=val)


def test_nothing_to_train_and_nothing_to_train_on_are_errors() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Flatten())
    chain = Chain(model, [Stage("all", model[0]), Stage("head", model[1])])
    with pytest.raises(UsageError, match="nothing to train"):
        fit(Phase(epochs=1, train="head"), chain=chain)
    with pytest.raises(DataError, match="no images"):
        fit(Phase(epochs=1), train=Samples(0))


def test_gradients_are_clipped_over_all_parameters_together() -> None:
    start = small_chain().model.state_dict()
    for clip in (0.01, 0.02):
        phase = Phase(epochs=1, lr=1.0, schedule="constant", optimizer="sgd", weight_decay=0.0, clip=clip)
        chain, _ = fit(phase, train=Samples(8), val=None)
        moved = [chain.model.get_parameter(n) - start[n] for n, _ in chain.model.named_parameters()]
        # Nesterov's first step is 1 + momentum times the gradient.
        assert torch.cat([m.flatten() for m in moved]).norm().item() == pytest.approx(1.9 * clip, rel=1e-3)


def test_callbacks_hear_where_training_stands() -> None:
    calls: list[Any] = []

    class Listener(Callback):
        def on_phase_start(self, state: Any) -> None:
            calls.append(("start", state.step_in_phase, state.steps_in_phase))

        def on_epoch_end(self, state: Any, row: Any) -> None:
            calls.append(("epoch", state.epoch, state.step_in_phase, row["lr"] == state.lr))

        def on_phase_end(self, state: Any) -> None:
            calls.append(("end", state.module.training))

    fit(Phase(epochs=2, lr=0.01, layer_decay=0.5), callbacks=[Listener(), Callback()])
    assert calls == [("start", 0, 12), ("epoch", 0, 6, True), ("epoch", 1, 12, True), ("end", False)]


def test_auxiliary_heads_add_their_weighted_losses_while_they_train() -> None:
    def chain_with_auxiliary(weight: float) -> Chain:
        model = small_chain().model
        torch.manual_seed(1)
        model.auxiliary = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES))
        stem = Stage("stem", model[0], auxiliary=model.auxiliary, auxiliary_weight=weight)
        return Chain(model, [stem, Stage("block", model[1]), Stage("head", model[2])])

    def auxiliary_moves(weight: float, train: str) -> bool:
        chain = chain_with_auxiliary(weight)
        before = bytes_of(chain)["auxiliary.2.weight"]
        fit(Phase(epochs=2, lr=0.05, weight_decay=0.0, train=train, optimizer="sgd"), chain=chain)
        return before != bytes_of(chain)["auxiliary.2.weight"]

    assert auxiliary_moves(0.3, "all")
    assert not auxiliary_moves(0.0, "all")
    assert not auxiliary_moves(0.3, "last 2")


def test_predicted_logits_come_in_order_without_padding_and_equal_the_models() -> None:
    model = small_chain().model
    samples = Samples(21, shuffle=False, pad=True)
    logits, targets = predict_logits(model, samples, engine=cpu_engine())
    assert logits.dtype == torch.float32
    assert torch.equal(targets, samples.targets)
    with torch.no_grad():
        torch.testing.assert_close(logits, model.eval()(samples.inputs), rtol=1e-5, atol=1e-5)


def test_predicting_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match="no images"):
        predict_logits(small_chain().model, Samples(0), engine=cpu_engine())


def test_the_front_hears_of_epoch_and_training_and_runs_without_gradients() -> None:
    heard: set[tuple[int, bool, bool]] = set()

    def front(batch: Batch, training: bool) -> Tensor:
        heard.add((batch.epoch, training, torch.is_grad_enabled()))
        assert isinstance(batch.inputs, Tensor)
        return batch.inputs

    chain = small_chain()
    cut = chain.cut("all")
    trainer = Trainer(chain.part(), engine=cpu_engine(), criterion=CrossEntropy(), front=front)
    trainer.fit(
        Samples(),
        VALIDATION,
        phase=Phase(epochs=2),
        groups=chain.parameter_groups(cut, lr=1e-3, weight_decay=0.0),
        set_mode=lambda: chain.freeze(cut),
    )
    assert heard == {(0, True, False), (1, True, False), (0, False, False)}


class Notes:
    """Keeps what was said."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)

    def warn(self, text: str) -> None:
        self.texts.append(text)

    @contextmanager
    def task(self, label: str, total: int | None = None, *, unit: str = "") -> Iterator[Any]:
        yield lambda advance: None
