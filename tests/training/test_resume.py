"""A phase that is left at any step and entered again is the phase that was never left."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from zoo.chain import Chain
from zoo.errors import TrainingError
from zoo.recipes import Phase
from zoo.training import trainer
from zoo.training.checkpoint import Snapshot
from zoo.training.signals import StopRequest
from zoo.training.trainer import Stopped

STEPS_AN_EPOCH = 6
PHASES = {
    "adamw": Phase(epochs=3, lr=0.02),
    "sgd": Phase(epochs=3, lr=0.05, optimizer="sgd", schedule="one-cycle", clip=None),
    "everything": Phase(epochs=3, lr=0.02, ema=0.9, mixup=0.2, cutmix=1.0, optimizer="adam", micro_batch=3, patience=2),
    "plateau": Phase(epochs=4, lr=0.1, schedule="plateau", plateau=1, monitor="f1"),
    "head": Phase(epochs=3, lr=0.02, train="head", ema=0.9),
}


class KeptSaver:
    """Keeps copies of what it is given, with the model's tensors at the time."""

    def __init__(self, chain: Chain, *, every: int = 1) -> None:
        self._chain = chain
        self._every = every
        self.kept: dict[int, tuple[Snapshot, dict[str, torch.Tensor]]] = {}

    def due(self, step: int) -> bool:
        return step % self._every == 0

    def save(self, step: int, snapshot: Snapshot) -> None:
        import json

        copied = Snapshot(
            json.loads(json.dumps(snapshot.facts)), {name: t.clone() for name, t in snapshot.tensors.items()}
        )
        self.kept[step] = (copied, {name: t.clone() for name, t in self._chain.model.state_dict().items()})


def without_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


@pytest.mark.parametrize("name", PHASES)
def test_every_step_can_be_entered_and_gives_the_same_bytes(
    fit: Any, new_chain: Any, bytes_of: Callable[..., Any], name: str
) -> None:
    phase = PHASES[name]
    expected, uninterrupted = fit(phase, new_chain())
    chain = new_chain()
    saver = KeptSaver(chain)
    fit(phase, chain, saver=saver)
    assert bytes_of(chain) == bytes_of(expected)
    assert len(saver.kept) == STEPS_AN_EPOCH * len(uninterrupted.history) - 1
    for step in sorted(saver.kept)[:: 1 if name == "everything" else 4]:
        snapshot, tensors = saver.kept[step]
        resumed = new_chain()
        resumed.model.load_state_dict(tensors)
        _, result = fit(phase, resumed, resume=snapshot)
        assert bytes_of(resumed) == bytes_of(expected), f"entered after step {step}"
        assert without_times(result.history) == without_times(uninterrupted.history)
        assert without_times([result.best]) == without_times([uninterrupted.best])


@pytest.mark.parametrize(
    "left_out",
    ["optimizer/", "best/", "average/", "epoch/", "model", "step", "step_in_epoch", "history", "micro_batch"],
)
def test_nothing_of_the_state_can_be_left_out(
    fit: Any, new_chain: Any, bytes_of: Callable[..., Any], left_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The best epoch is the first, and the parts become smaller, so that both are part of what matters.
    phase = Phase(epochs=3, lr=0.3, ema=0.5, patience=9, schedule="constant")
    monkeypatch.setenv("ZOO_FAULT", f"forward:1:oom,counted-anew-{left_out}:1:oom")
    chain = new_chain()
    saver = KeptSaver(chain)
    expected, uninterrupted = fit(phase, chain, saver=saver)
    snapshot, tensors = saver.kept[9]
    facts = dict(snapshot.facts)
    kept = {name: t for name, t in snapshot.tensors.items() if not name.startswith(left_out)}
    resumed = new_chain()
    if left_out != "model":
        resumed.model.load_state_dict(tensors)
    beginning = {"step": 0, "step_in_epoch": 0, "history": [], "micro_batch": None}
    if left_out in beginning:
        facts[left_out] = beginning[left_out]
    try:
        _, result = fit(phase, resumed, resume=Snapshot(facts, kept))
    except (KeyError, ValueError, IndexError):
        return  # refused, which is as good as noticed
    same = bytes_of(resumed) == bytes_of(expected)
    assert not (same and without_times(result.history) == without_times(uninterrupted.history))


class StopAt:
    """Samples that ask for a stop when a step of an epoch is drawn."""

    def __init__(self, samples: Any, stop: StopRequest, epoch: int, step: int) -> None:
        self._samples, self._stop, self._at = samples, stop, (epoch, step)

    def __len__(self) -> int:
        return len(self._samples)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Any]:
        for step, batch in enumerate(self._samples.epoch(epoch, start=start), start=start):
            if (epoch, step) == self._at:
                self._stop.signal = 15
            yield batch


@pytest.mark.parametrize(("epoch", "step"), [(0, 0), (0, 5), (1, 2), (2, 5)])
def test_asked_to_stop_it_finishes_the_step_saves_and_can_go_on(
    fit: Any, new_chain: Any, samples: Any, bytes_of: Callable[..., Any], epoch: int, step: int
) -> None:
    phase = PHASES["everything"]
    expected, _ = fit(phase, new_chain())
    chain, stop = new_chain(), StopRequest()
    saver = KeptSaver(chain, every=1000)
    with pytest.raises(Stopped):
        fit(phase, chain, train=StopAt(samples(), stop, epoch, step), trainer={"stop": stop}, saver=saver)
    ((at, (snapshot, tensors)),) = saver.kept.items()
    assert at == epoch * STEPS_AN_EPOCH + step + 1
    resumed = new_chain()
    resumed.model.load_state_dict(tensors)
    fit(phase, resumed, resume=snapshot)
    assert bytes_of(resumed) == bytes_of(expected)


def test_a_stop_during_validation_is_entered_before_it(
    fit: Any, new_chain: Any, samples: Any, bytes_of: Callable[..., Any]
) -> None:
    phase = PHASES["everything"]
    expected, uninterrupted = fit(phase, new_chain())
    chain, stop = new_chain(), StopRequest()
    saver = KeptSaver(chain, every=1000)
    val = StopAt(samples(30, shuffle=False), stop, 0, 1)
    with pytest.raises(Stopped):
        fit(phase, chain, val=val, trainer={"stop": stop}, saver=saver)
    ((at, (snapshot, tensors)),) = saver.kept.items()
    assert at == STEPS_AN_EPOCH
    resumed = new_chain()
    resumed.model.load_state_dict(tensors)
    _, result = fit(phase, resumed, resume=snapshot)
    assert bytes_of(resumed) == bytes_of(expected)
    assert without_times(result.history) == without_times(uninterrupted.history)


def test_giving_up_on_losses_that_are_not_finite_saves_the_state_before_them(
    fit: Any, new_chain: Any, bytes_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    phase = Phase(epochs=3, lr=0.02, ema=0.9, mixup=0.2)
    bad_steps = "loss:8-12:value"  # the last five steps of the second epoch
    with monkeypatch.context() as patient:
        patient.setattr(trainer, "_BAD_STEPS", 99)
        patient.setenv("ZOO_FAULT", f"{bad_steps},patient:1:value")
        expected, uninterrupted = fit(phase, new_chain())
    monkeypatch.setenv("ZOO_FAULT", f"{bad_steps},impatient:1:value")
    chain = new_chain()
    saver = KeptSaver(chain, every=1000)
    with pytest.raises(TrainingError, match="which is saved"):
        fit(phase, chain, saver=saver)
    ((snapshot, tensors),) = saver.kept.values()
    resumed = new_chain()
    resumed.model.load_state_dict(tensors)
    _, result = fit(phase, resumed, resume=snapshot)
    assert bytes_of(resumed) == bytes_of(expected)
    assert without_times(result.history) == without_times(uninterrupted.history)
