"""One optimizer step: in parts, out of memory, mixed, and with values that are not finite."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from zoo.errors import TrainingError
from zoo.recipes import Phase


@pytest.mark.parametrize("changes", [{}, {"mixup": 0.4}, {"cutmix": 1.0}, {"label_smoothing": 0.1}, {"clip": 0.1}])
@pytest.mark.parametrize("micro_batch", [1, 3, 5])
def test_a_step_in_parts_is_the_step(
    fit: Any, new_chain: Any, samples: Any, changes: dict[str, Any], micro_batch: int
) -> None:
    if micro_batch == 1 and ({"mixup", "cutmix"} & set(changes)):
        pytest.skip("refused: there would be no second image")
    phase = Phase(epochs=2, lr=0.02, **changes)
    whole, expected = fit(phase, new_chain(batch_norm=False, dropout=0.0), train=samples(20))
    parts, result = fit(
        Phase(epochs=2, lr=0.02, micro_batch=micro_batch, **changes),
        new_chain(batch_norm=False, dropout=0.0),
        train=samples(20),
    )
    torch.testing.assert_close(parts.model.state_dict(), whole.model.state_dict(), rtol=1e-4, atol=1e-5)
    assert [row["train_loss"] for row in result.history] == pytest.approx(
        [row["train_loss"] for row in expected.history], rel=1e-4
    )


def test_out_of_memory_halves_the_parts_and_keeps_the_step(
    fit: Any, new_chain: Any, notes: Any, bytes_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = fit(Phase(epochs=1, lr=0.02, micro_batch=2), new_chain())
    # The whole step in its forward pass, then half of it in the second part's backward pass.
    monkeypatch.setenv("ZOO_FAULT", "forward:1:oom,backward:2:oom")
    chain, _ = fit(Phase(epochs=1, lr=0.02), new_chain(), trainer={"progress": notes})
    warnings = [text for text in notes.texts if "memory ran out" in text]
    assert ["4 images at a time" in warnings[0], "2 images at a time" in warnings[1]] == [True, True]
    assert "BatchNorm layers that train see fewer" in warnings[0]
    assert bytes_of(chain) == bytes_of(expected)


def test_out_of_memory_with_one_image_is_an_error_with_advice(
    fit: Any, new_chain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_FAULT", "forward:1-99:oom")
    with pytest.raises(TrainingError, match=r"with 1 image\(s\) at once.*--image-size"):
        fit(Phase(epochs=1, lr=0.02), new_chain())


def test_pairs_stay_together_when_memory_runs_out(
    fit: Any, new_chain: Any, notes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_FAULT", "forward:1-2:oom")
    fit(Phase(epochs=1, lr=0.02, mixup=0.2), new_chain(), trainer={"progress": notes})
    assert "2 images at a time" in [text for text in notes.texts if "memory" in text][-1]
    monkeypatch.setenv("ZOO_FAULT", "forward:1-3:oom,unused:1:oom")
    with pytest.raises(TrainingError, match=r"with 2 image\(s\)"):
        fit(Phase(epochs=1, lr=0.02, mixup=0.2), new_chain())


def test_out_of_memory_in_validation_halves_the_batch_and_changes_no_figure(
    fit: Any, new_chain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    phase = Phase(epochs=1, lr=0.02)
    _, expected = fit(phase, new_chain())
    monkeypatch.setenv("ZOO_FAULT", "inference:1-2:oom")
    _, result = fit(phase, new_chain())
    assert result.history[0]["val_accuracy"] == expected.history[0]["val_accuracy"]
    assert result.history[0]["val_loss"] == pytest.approx(expected.history[0]["val_loss"])


def test_steps_that_are_not_finite_now_and_then_do_not_end_training(
    fit: Any, new_chain: Any, notes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_FAULT", "loss:2-5:value,loss:8-11:value")
    chain, result = fit(Phase(epochs=3, lr=0.02, ema=0.9), new_chain(), trainer={"progress": notes})
    assert [row.get("skipped_steps", 0) for row in result.history] == [4, 4, 0]
    assert all(torch.isfinite(tensor).all() for tensor in chain.model.state_dict().values())
    assert sum("this step is skipped" in text for text in notes.texts) == 8


def test_the_row_of_an_epoch_that_was_skipped_whole_says_so(
    fit: Any, new_chain: Any, samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_FAULT", "loss:1-2:value")
    _, result = fit(Phase(epochs=2, lr=0.02), new_chain(), train=samples(16))
    assert result.history[0]["skipped_steps"] == 2
    assert result.history[0]["train_loss"] != result.history[0]["train_loss"]


@pytest.mark.parametrize("train", ["all", "block"])
@pytest.mark.parametrize("micro_batch", [None, 3])
def test_activations_computed_again_change_no_bit(
    fit: Any, new_chain: Any, bytes_of: Callable[..., Any], train: str, micro_batch: int | None
) -> None:
    phase = Phase(epochs=2, lr=0.02, train=train, micro_batch=micro_batch)
    kept, expected = fit(phase, new_chain())
    again, result = fit(replace(phase, recompute=True), new_chain())
    assert bytes_of(again) == bytes_of(kept)
    assert [row["val_loss"] for row in result.history] == [row["val_loss"] for row in expected.history]


def test_activations_computed_again_are_not_kept(new_chain: Any) -> None:
    x = torch.randn(4, 3, 8, 8)

    def saved_bytes(recompute: bool) -> int:
        part = new_chain().part()
        part.recompute = recompute
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (saved.append(t.nbytes), t)[1], lambda t: t):
            part(x)
        return sum(saved)

    assert saved_bytes(recompute=True) < saved_bytes(recompute=False) / 2


@pytest.mark.slow
def test_a_compiled_step_is_the_step(fit: Any, new_chain: Any, samples: Any) -> None:
    # Adam would blow up the rounding in the gradients of biases before BatchNorm, which are zero.
    phase = Phase(epochs=1, lr=0.02, optimizer="sgd")
    plain, _ = fit(phase, new_chain(dropout=0.0), train=samples(20))
    compiled, _ = fit(replace(phase, compile=True), new_chain(dropout=0.0), train=samples(20))
    torch.testing.assert_close(compiled.model.state_dict(), plain.model.state_dict(), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_compiled_says_so(fit: Any, new_chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(module: object) -> Callable[..., Any]:
        def run(features: object) -> Any:
            raise torch._dynamo.exc.TorchDynamoException("no C++ compiler\nand more")

        return run

    monkeypatch.setattr(torch, "compile", refuses)
    with pytest.raises(TrainingError, match=r"could not be compiled: no C\+\+ compiler\. Leave out --compile\."):
        fit(Phase(epochs=1, lr=0.02, compile=True), new_chain())
