"""The networks against the paper, and their stages against the networks."""

import copy

import pytest
import torch
import zoo_cifar_resnet
from zoo_cifar_resnet.model import CifarResNet, ZeroPadding

from zoo.chain import Chain

# He et al. 2015, table 6: layers and parameters in millions.
PARAMETERS = {"resnet20": 0.27, "resnet32": 0.46, "resnet44": 0.66, "resnet56": 0.85, "resnet110": 1.7}
ARCHITECTURES = {architecture.name: architecture for architecture in zoo_cifar_resnet.zoo_architectures()}


def _build(name: str, *, num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    torch.manual_seed(0)
    return zoo_cifar_resnet.zoo_build_model(ARCHITECTURES[name], num_classes, in_channels)


@pytest.mark.parametrize(("name", "millions"), PARAMETERS.items())
def test_sizes_are_the_papers(name: str, millions: float) -> None:
    model = _build(name)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert round(total / 1e6, 1 if millions > 1 else 2) == millions
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    assert f"resnet{len(layers)}" == name


def test_every_architecture_of_the_paper_is_listed() -> None:
    assert list(ARCHITECTURES) == list(PARAMETERS)


@pytest.mark.parametrize(("num_classes", "in_channels"), [(1, 3), (2, 1), (7, 4)])
def test_stages_in_order_equal_the_model(num_classes: int, in_channels: int) -> None:
    model = _build("resnet20", num_classes=num_classes, in_channels=in_channels).eval()
    x = torch.randn(2, in_channels, 32, 32)
    for twin in (model, copy.deepcopy(model)):
        chain = Chain(twin, zoo_cifar_resnet.zoo_stages(twin))
        with torch.no_grad():
            assert torch.equal(chain.part()(x), model(x))
            assert chain.part(0, -1)(x).shape == (2, 64)


def test_shortcuts_take_every_second_pixel_between_zero_channels() -> None:
    x = torch.randn(1, 16, 4, 6)
    y = ZeroPadding(32, 2)(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


def test_one_pixel_can_be_evaluated() -> None:
    with torch.no_grad():
        assert _build("resnet20").eval()(torch.randn(1, 3, 1, 1)).isfinite().all()
