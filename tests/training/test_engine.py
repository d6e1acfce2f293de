"""Device, numerics, optimizer and seeds."""

from typing import Any

import pytest
import torch
from torch import nn

from zoo.errors import UsageError
from zoo.features.frozen import suffix_engine
from zoo.recipes import Phase
from zoo.training import Batch, Engine, Numerics, choose_device, choose_numerics
from zoo.training.engine import make_optimizer, mix

CPU = torch.device("cpu")


def engine(precision: Any = "float32", *, channels_last: bool = True) -> Engine:
    return Engine(CPU, Numerics(precision, channels_last, 8, torch.get_num_threads(), {}))


def plain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8, 2))


def depthwise() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1))


@pytest.fixture
def _bfloat16_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)


@pytest.fixture
def _no_bfloat16_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)


@pytest.mark.usefixtures("_bfloat16_hardware")
def test_convolutions_run_in_bfloat16_where_the_hardware_has_it() -> None:
    numerics = choose_numerics(plain(), CPU)
    assert (numerics.precision, numerics.channels_last) == ("bfloat16", True)
    assert numerics.threads == torch.get_num_threads()
    assert set(numerics.reasons) == {"precision", "channels_last"}


@pytest.mark.usefixtures("_bfloat16_hardware")
def test_depthwise_models_and_those_without_convolutions_stay_in_float32() -> None:
    assert choose_numerics(depthwise(), CPU).precision == "float32"
    assert "33% of its convolutions are depthwise" in choose_numerics(depthwise(), CPU).reasons["precision"]
    numerics = choose_numerics(nn.Linear(4, 2), CPU)
    assert (numerics.precision, numerics.channels_last) == ("float32", False)


@pytest.mark.usefixtures("_bfloat16_hardware")
def test_torchvisions_families_fall_on_their_measured_sides() -> None:
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        assert choose_numerics(models.resnet18(), CPU).precision == "bfloat16"
        assert choose_numerics(models.resnext50_32x4d(), CPU).precision == "bfloat16"
        assert choose_numerics(models.efficientnet_b0(), CPU).precision == "float32"
        assert choose_numerics(models.mobilenet_v3_small(), CPU).precision == "float32"
        assert not choose_numerics(models.vit_b_16(), CPU).channels_last


@pytest.mark.usefixtures("_no_bfloat16_hardware")
def test_without_the_hardware_it_is_float32_unless_asked_for() -> None:
    assert choose_numerics(plain(), CPU).precision == "float32"
    asked = choose_numerics(plain(), CPU, precision="bfloat16")
    assert (asked.precision, asked.reasons["precision"]) == ("bfloat16", "as asked")


def test_placing_lays_out_and_keeps_the_parameters_the_same_objects() -> None:
    model = plain()
    parameters = list(model.parameters())
    values = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    engine().place(model)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert model[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(values[name], tensor) for name, tensor in model.state_dict().items())


def test_features_that_are_laid_out_already_are_not_copied() -> None:
    x = torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    flat = torch.zeros(2, 3)
    laid_out = engine().lay_out((x, flat))
    assert laid_out[0].data_ptr() == x.data_ptr()
    assert laid_out[1] is flat
    plain_x = torch.zeros(2, 3, 4, 4)
    assert engine(channels_last=False).lay_out(plain_x) is plain_x


def test_a_batch_moves_with_everything_it_says() -> None:
    batch = Batch(torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), torch.tensor([5, 6]), 1, epoch=3)
    moved = engine().to_device(batch)
    assert isinstance(moved.inputs, torch.Tensor)
    assert moved.inputs.is_contiguous(memory_format=torch.channels_last)
    assert (moved.indices.tolist(), moved.count, moved.epoch) == ([5, 6], 1, 3)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_autocast_follows_the_numerics(precision: str, dtype: torch.dtype) -> None:
    with engine(precision).autocast():
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtype


def test_making_an_engine_sets_the_threads() -> None:
    threads = torch.get_num_threads()
    try:
        Engine(CPU, Numerics("float32", False, 8, threads + 1, {}))
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)


def test_other_threads_hold_within_the_block_alone() -> None:
    threads = torch.get_num_threads()
    other = engine().with_numerics(Numerics("float32", False, 8, threads + 1, {}))
    assert torch.get_num_threads() == threads
    with other.reproducible():
        assert torch.get_num_threads() == threads + 1
    assert torch.get_num_threads() == threads


def test_a_small_head_trains_on_one_thread_and_in_float32() -> None:
    made = engine("bfloat16").with_numerics(Numerics("bfloat16", True, 8, 7, {}))
    small = suffix_engine(made, nn.Sequential(nn.Flatten(), nn.Linear(512, 10))).numerics
    assert (small.threads, small.precision) == (1, "float32")
    assert suffix_engine(made, nn.Linear(4096, 4096)).numerics.threads == 7
    assert suffix_engine(made, nn.Conv2d(3, 3, 3)) is made


def test_with_one_process_the_sum_over_all_is_the_value() -> None:
    assert engine().all_sum(torch.tensor(3.0)) == 3


def test_a_device_that_is_not_here_is_an_error() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in {"cpu", "cuda", "mps"}
    for name in ("cuda:99", "tpu"):
        with pytest.raises(UsageError, match=f"device '{name}' cannot be used here"):
            choose_device(name)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adamw", lambda groups: torch.optim.AdamW(groups, foreach=False)),
        ("adam", lambda groups: torch.optim.Adam(groups, foreach=False)),
        ("sgd", lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True, foreach=False)),
    ],
)
def test_fused_optimizers_equal_the_plain_ones_on_channels_last_weights(name: Any, reference: Any) -> None:
    torch.manual_seed(0)
    ours, theirs = plain(), plain()
    theirs.load_state_dict(ours.state_dict())
    engine().place(ours)
    optimizers = []
    for model, make in (
        (ours, lambda groups: make_optimizer(groups, Phase(epochs=1, optimizer=name))),
        (theirs, reference),
    ):
        decayed = [p for p in model.parameters() if p.ndim > 1]
        rest = [p for p in model.parameters() if p.ndim <= 1]
        optimizers.append(
            make(
                [
                    {"params": decayed, "lr": 1e-2, "weight_decay": 0.1},
                    {"params": rest, "lr": 1e-2, "weight_decay": 0.0},
                ]
            )
        )
    for _ in range(5):
        x = torch.randn(4, 3, 5, 5)
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            model(x).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-4, atol=1e-5)


def test_seeds_differ_by_every_part_and_its_place() -> None:
    seeds = {mix(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mix(1, 2) != mix(2, 1)
    assert mix(-1) != mix(1)
