"""Fused convolutions compute what the layers one by one do, whoever else reads a tensor."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from zoo.errors import FreezeError
from zoo.training.engine import Engine, Numerics, Precision
from zoo.training.extraction import FrozenPass, choose_pass_numerics
from zoo.training.fusing import can_fuse, fuse_convolutions

pytestmark = pytest.mark.skipif(not can_fuse("float32"), reason="this build of torch has no oneDNN")


def googlenet() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return models.googlenet(init_weights=False, aux_logits=False, num_classes=5)


def regnet() -> nn.Module:
    import timm

    return timm.create_model("regnety_002", num_classes=5)


# How many activations and sums follow a convolution in each, and the pixels it is tried at.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "resnet18": (lambda: models.resnet18(num_classes=5), 17 + 8, 32),
    "resnet50": (lambda: models.resnet50(num_classes=5), 49 + 16, 32),
    "googlenet": (googlenet, 57, 32),
    "vgg11_bn": (lambda: models.vgg11_bn(num_classes=5).features, 8, 32),
    "mobilenet_v2": (lambda: models.mobilenet_v2(num_classes=5), 35 + 10, 32),
    # Two activations a block, the stem's and the last one's; its sums come behind stochastic depth.
    "efficientnet_b0": (lambda: models.efficientnet_b0(num_classes=5), 16 + 16 + 15 + 2, 32),
    "timm regnety_002": (regnet, 66, 32),
}


def engine(precision: Precision = "float32") -> Engine:
    return Engine(torch.device("cpu"), Numerics(precision, True, 4, torch.get_num_threads(), {"precision": "as asked"}))


def fast_pass(
    module: nn.Module, images: Tensor, *, precision: Precision = "float32", fusing: bool = True
) -> FrozenPass:
    chosen = choose_pass_numerics(module, engine(precision), precision=precision, input_size=(3, 32, 32))
    chosen = replace(chosen, fusing=fusing)
    return FrozenPass(module, engine=engine(precision), chosen=chosen, example=images[:1])


def with_statistics(module: nn.Module) -> nn.Module:
    """BatchNorms at rest whose statistics are not 0 and 1."""
    module.train()
    with torch.no_grad():
        module(torch.randn(8, 3, 64, 64) + 0.5)
    return module.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_fused_network_is_the_same_function(name: str) -> None:
    build, joined, size = NETWORKS[name]
    torch.manual_seed(0)
    module = with_statistics(build())
    images = torch.randn(5, 3, size, size)
    passed = fast_pass(module, images)
    with torch.inference_mode():
        expected = module(images)
    found = passed(images)
    assert isinstance(found, Tensor)
    assert passed.fused == joined
    assert (found - expected).norm() <= 1e-5 * expected.norm()


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
            passed = fast_pass(module, images, precision="bfloat16", fusing=fusing)
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


class _Residual(_Two):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return functional.relu(self.second(functional.relu(x)) + x)


class _SummandReadLater(_Two):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return (self.second(x * 2) + x) * x


class _SummandIsConvolved(_Two):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(x) + x


class _Doubled(_Two):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return functional.relu(self.second(functional.relu(x + x)))


class _SummandIsTheInput(_Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) + x


class _SummandIsViewed(_Two):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        rows = x.flatten(1)
        return (self.second(x * 2) + x).flatten(1) * rows


class _InputOverwrittenBetween(_Two):
    """The second sum's convolution reads what the first sum takes as its memory."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.first(x), self.second(x)
        late = self.second(first)
        summed = self.first(second * 2) + first
        return late + summed


class _SummandIsAParameter(_Two):
    def __init__(self) -> None:
        super().__init__()
        self.everywhere = nn.Parameter(torch.randn(1, 3, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) + self.everywhere


class _ReadTwice(_Two):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(functional.relu(x)) + functional.silu(x)


@pytest.mark.parametrize(
    ("kind", "joined"),
    [
        (_Residual, 0),
        (_SummandReadLater, 0),
        (_SummandIsConvolved, 0),
        (_Doubled, 1),
        (_SummandIsTheInput, 0),
        (_SummandIsViewed, 0),
        (_InputOverwrittenBetween, 1),
        (_SummandIsAParameter, 0),
        (_ReadTwice, 0),
    ],
)
def test_no_tensor_that_something_else_reads_is_overwritten(kind: type[nn.Module], joined: int) -> None:
    torch.manual_seed(0)
    module = kind().eval()
    images = torch.randn(4, 3, 6, 6)
    with torch.no_grad():
        expected, before = module(images), images.clone()
        fused, found = fuse_convolutions(module, images[:1])
        torch.testing.assert_close(fused(images), expected, rtol=1e-5, atol=1e-6)
    assert found == joined
    assert torch.equal(images, before)


class _LooksAtValues(_Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) if x.mean() > 0 else self.second(x)


def test_what_cannot_be_traced_runs_unfused_and_says_so() -> None:
    module = _LooksAtValues().eval()
    images = torch.randn(4, 3, 6, 6)
    passed = fast_pass(module, images)
    assert passed.fused == 0
    assert passed.notes["fusing"].startswith("not fused: TraceError: ")
    for sign in (-1, 1):
        with torch.inference_mode():
            expected = module(engine().lay_out(sign * images.abs()))
        assert torch.equal(passed(sign * images.abs()), expected)  # type: ignore[arg-type]


class _Counts(_Two):
    def __init__(self) -> None:
        super().__init__()
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.second(functional.relu(self.first(x)))


def test_a_part_that_changes_itself_is_not_fused_but_refused() -> None:
    module = _Counts().eval()
    images = torch.randn(2, 3, 6, 6)
    passed = fast_pass(module, images)
    assert passed.notes["fusing"] == "not fused: it changes its own parameters or buffers when it runs"
    with pytest.raises(FreezeError, match="calls"):
        passed(images)


def test_the_batch_may_have_any_size() -> None:
    torch.manual_seed(0)
    module = with_statistics(models.resnet18(num_classes=5))
    images = torch.randn(7, 3, 32, 32)
    passed = fast_pass(module, images)
    whole = passed(images)
    assert isinstance(whole, Tensor)
    for count in (1, 3, 7):
        torch.testing.assert_close(passed(images[:count]), whole[:count], rtol=1e-5, atol=1e-5)


def test_a_processor_without_bfloat16_runs_it_unfused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    module = models.resnet18()
    for precision, fusing in (("float32", True), ("bfloat16", False)):
        chosen = choose_pass_numerics(module, engine(), precision=precision, input_size=(3, 32, 32))  # type: ignore[arg-type]
        assert chosen.fusing == fusing
        assert ("oneDNN" in chosen.reasons["fusing"]) != fusing
