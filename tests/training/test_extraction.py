"""The pass: folded, converted and laid out, it gives what the frozen part gives."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from zoo.errors import FreezeError
from zoo.training.allocator import kept_memory
from zoo.training.engine import Engine, Numerics
from zoo.training.extraction import (
    FrozenPass,
    PassNumerics,
    choose_pass_numerics,
    choose_pass_precision,
    multiply_adds,
)
from zoo.training.folding import fold_batch_norm
from zoo.training.fusing import can_fuse

ENGINE = Engine(torch.device("cpu"), Numerics("float32", True, 4, torch.get_num_threads(), {"precision": "as asked"}))
BF16 = Engine(torch.device("cpu"), Numerics("bfloat16", True, 4, torch.get_num_threads(), {"precision": "as asked"}))


def choices(module: nn.Module, engine: Engine = ENGINE) -> PassNumerics:
    return choose_pass_numerics(module, engine, precision=engine.numerics.precision, input_size=(3, 32, 32))


def with_statistics(module: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            nn.init.normal_(layer.running_mean, 0, 0.1)
            nn.init.uniform_(layer.running_var, 0.8, 1.2)
            nn.init.uniform_(layer.weight, 0.8, 1.2)
            nn.init.normal_(layer.bias, 0, 0.1)
    return module.eval()


def googlenet() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return models.googlenet(init_weights=False, aux_logits=False, num_classes=5)


def timm_model(name: str) -> nn.Module:
    import timm

    return timm.create_model(name, num_classes=5)


# How many BatchNorms each has, and how many activations and sums that follow a convolution.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "resnet18": (lambda: models.resnet18(num_classes=5), 20, 17 + 8),
    "resnet50": (lambda: models.resnet50(num_classes=5), 53, 49 + 16),
    "googlenet": (googlenet, 57, 57),
    "mobilenet_v2": (lambda: models.mobilenet_v2(num_classes=5), 52, 35 + 10),
    # Its sums come behind stochastic depth.
    "efficientnet_b0": (lambda: models.efficientnet_b0(num_classes=5), 49, 49),
    "vgg11_bn": (lambda: models.vgg11_bn(num_classes=5).features, 8, 8),
    "timm efficientnet_lite0": (lambda: timm_model("efficientnet_lite0"), 49, 33 + 9),
    "timm regnety_002": (lambda: timm_model("regnety_002"), 44, 66),
}
needs_fusing = pytest.mark.skipif(not can_fuse("float32"), reason="this build of torch has no oneDNN")


@needs_fusing
@pytest.mark.parametrize("name", NETWORKS)
def test_folding_and_fusing_find_every_layer_and_keep_the_function(name: str) -> None:
    build, layers, joined = NETWORKS[name]
    torch.manual_seed(0)
    module = with_statistics(build())
    images = torch.randn(5, 3, 32, 32)
    passed = FrozenPass(module, engine=ENGINE, chosen=choices(module), example=images[:1])
    with torch.inference_mode():
        expected = module(images)
    found = passed(images)
    assert isinstance(found, Tensor)
    assert (passed.folded, passed.fused) == (layers, joined)
    assert (found - expected).norm() <= 1e-5 * expected.norm()


def test_the_frozen_part_itself_is_left_as_it_was() -> None:
    module = with_statistics(models.resnet18(num_classes=5))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    FrozenPass(module, engine=BF16, chosen=choices(module, BF16), example=torch.randn(1, 3, 32, 32))
    after = module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) and after[name].dtype == before[name].dtype for name in before)
    assert isinstance(module.bn1, nn.BatchNorm2d)


def test_bfloat16_converts_once_what_autocast_converts_every_time() -> None:
    module = with_statistics(models.vgg11_bn(num_classes=5).features)
    images = torch.randn(2, 3, 32, 32)
    chosen = replace(choices(module, BF16), folding=False)
    passed = FrozenPass(module, engine=BF16, chosen=chosen, example=images[:1])
    with torch.inference_mode(), BF16.autocast():
        expected = module(BF16.lay_out(images))
    found = passed(images)
    assert isinstance(found, Tensor)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)


class _ReadTwice(nn.Module):
    """A convolution that something else than its BatchNorm reads too."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x)
        return x + self.norm(x)


class _LooksInside(_ReadTwice):
    """A forward method that computes with its BatchNorm's own tensors."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.convolution(x))
        return x * self.norm.weight.mean()


@pytest.mark.parametrize("kind", [_ReadTwice, _LooksInside])
def test_what_cannot_be_folded_runs_unfolded_and_says_so(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = with_statistics(kind())
    images = torch.randn(2, 3, 8, 8)
    passed = FrozenPass(module, engine=ENGINE, chosen=choices(module), example=images[:1])
    assert passed.folded == 0
    assert passed.notes["folding"].startswith("not folded:")
    with torch.inference_mode():
        assert torch.equal(passed(images), module(ENGINE.lay_out(images)))  # type: ignore[arg-type]


@pytest.mark.skipif(not can_fuse("bfloat16"), reason="this processor has no bfloat16 arithmetic")
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_in_bfloat16_fusing_costs_no_accuracy(name: str) -> None:
    errors: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(3):
        torch.manual_seed(seed)
        module = with_statistics(NETWORKS[name][0]())
        images = torch.randn(16, 3, 64, 64)
        with torch.inference_mode():
            exact = module(images)
        for fusing, found in errors.items():
            passed = FrozenPass(
                module, engine=BF16, chosen=replace(choices(module, BF16), fusing=fusing), example=images[:1]
            )
            features = passed(images)
            assert isinstance(features, Tensor)
            assert bool(passed.fused) == fusing
            found.append(float((features.float() - exact).norm() / exact.norm()))
    # A sum is rounded once, not twice: over many networks the error falls by 3 %.
    assert 0 < sum(errors[True]) <= 1.05 * sum(errors[False])


class _Two(nn.Module):
    """Two convolutions that keep the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)


class _LooksAtValues(_Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) if x.mean() > 0 else self.second(x)


@needs_fusing
def test_what_cannot_be_traced_runs_unfused_and_says_so() -> None:
    module = _LooksAtValues().eval()
    images = torch.randn(4, 3, 6, 6)
    passed = FrozenPass(module, engine=ENGINE, chosen=choices(module), example=images[:1])
    assert passed.fused == 0
    assert passed.notes["fusing"].startswith("not fused: TraceError: ")
    for sign in (-1, 1):
        with torch.inference_mode():
            expected = module(ENGINE.lay_out(sign * images.abs()))
        assert torch.equal(passed(sign * images.abs()), expected)  # type: ignore[arg-type]


class _DoublesBetween(_Two):
    """The second convolution's input changes between the convolution and the sum that it could be joined to."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        a, b = self.second(x), self.first(x)
        x.mul_(2)
        return a + b


@needs_fusing
def test_what_fusing_would_change_runs_unfused_and_says_so() -> None:
    torch.manual_seed(0)
    module = _DoublesBetween().eval()
    images = torch.randn(4, 3, 6, 6)
    passed = FrozenPass(module, engine=ENGINE, chosen=choices(module), example=images[:1])
    assert passed.notes["fusing"].startswith("not fused: results differ by ")
    with torch.inference_mode():
        assert torch.equal(passed(images), module(ENGINE.lay_out(images)))  # type: ignore[arg-type]


class _Counts(_Two):
    def __init__(self) -> None:
        super().__init__()
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.second(functional.relu(self.first(x)))


@needs_fusing
def test_a_part_that_changes_itself_is_not_fused_but_refused() -> None:
    module = _Counts().eval()
    images = torch.randn(2, 3, 6, 6)
    passed = FrozenPass(module, engine=ENGINE, chosen=choices(module), example=images[:1])
    assert passed.notes["fusing"] == "not fused: it changes its own parameters or buffers when it runs"
    with pytest.raises(FreezeError, match="calls"):
        passed(images)


def test_the_batch_may_have_any_size() -> None:
    torch.manual_seed(0)
    module = with_statistics(models.resnet18(num_classes=5))
    images = torch.randn(7, 3, 32, 32)
    passed = FrozenPass(module, engine=ENGINE, chosen=choices(module), example=images[:1])
    whole = passed(images)
    assert isinstance(whole, Tensor)
    for count in (1, 3, 7):
        torch.testing.assert_close(passed(images[:count]), whole[:count], rtol=1e-5, atol=1e-5)


@needs_fusing
def test_a_processor_without_bfloat16_runs_it_unfused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    module = models.resnet18()
    for precision, fusing in (("float32", True), ("bfloat16", False)):
        chosen = choose_pass_numerics(module, ENGINE, precision=precision, input_size=(3, 32, 32))  # type: ignore[arg-type]
        assert chosen.fusing == fusing
        assert ("oneDNN" in chosen.reasons["fusing"]) != fusing


def test_layers_that_run_twice_are_left_alone() -> None:
    convolution, norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
    module = with_statistics(nn.Sequential(convolution, norm, convolution, norm))
    copied = copy.deepcopy(module)
    assert fold_batch_norm(copied, torch.randn(1, 3, 4, 4)) == 0
    assert isinstance(copied[1], nn.BatchNorm2d)


def test_multiply_adds_of_resnet18_are_the_published_ones() -> None:
    # torchvision's documentation gives 1.814 GFLOPs, its word for multiply-adds, at 224 pixels.
    module = models.resnet18().eval()
    assert multiply_adds(module, torch.zeros(1, 3, 224, 224)) == pytest.approx(1.814e9, rel=0.001)


def test_every_choice_has_a_reason() -> None:
    module = models.resnet18()
    chosen = choices(module)
    assert chosen.folding
    assert {"precision", "batch_size", "folding", "fusing", "compiling"} <= chosen.reasons.keys()
    assert chosen.facts() == choices(module).facts()
    assert chosen.facts() != choices(module, BF16).facts()
    for other in (replace(chosen, folding=not chosen.folding), replace(chosen, fusing=not chosen.fusing)):
        assert chosen.facts() != other.facts()


@pytest.mark.parametrize(("size", "batch"), [(32, 128), (224, 32), (299, 16), (1000, 4)])
def test_a_batch_is_a_number_of_pixels(size: int, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.training.extraction.can_keep_memory", lambda: True)
    chosen = choose_pass_numerics(nn.Sequential(), ENGINE, precision="float32", input_size=(3, size, size))
    assert chosen.numerics.batch_size == batch


def test_precision_is_what_the_hardware_multiplies_unless_asked_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    module, cpu = models.mobilenet_v3_small(), torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert choose_pass_precision(module, cpu)[0] == "bfloat16"
    assert choose_pass_precision(module, cpu, asked="float32") == ("float32", "as asked")
    assert choose_pass_precision(nn.ReLU(), cpu)[0] == "float32"
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert choose_pass_precision(module, cpu)[0] == "float32"


def test_memory_is_given_back_after_the_pass() -> None:
    with kept_memory() as told:
        assert isinstance(told, bool)
        torch.randn(1000, 1000) @ torch.randn(1000, 1000)
