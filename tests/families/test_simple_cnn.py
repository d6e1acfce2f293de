"""The network of the plugin ``simple_cnn`` against its description."""

from collections.abc import Callable, Mapping

import pluggy
import pytest
import torch
from torch import nn

from zoo.errors import OptionError

HooksOf = Callable[[str], pluggy.HookRelay]


@pytest.fixture
def build(hooks_of: HooksOf) -> Callable[[Mapping[str, object]], nn.Module]:
    hooks = hooks_of("zoo_simple_cnn")
    (architecture,) = hooks.zoo_architectures()
    return lambda options: hooks.zoo_build_model(
        architecture=architecture, num_classes=10, in_channels=3, options=architecture.parse_options(options)
    )


def _layers(model: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in model.modules() if not list(layer.children())]


def test_the_default_network_is_three_blocks_and_a_hidden_layer(build: Callable[..., nn.Module]) -> None:
    model = build({})
    block = ["Conv2d", "ReLU", "MaxPool2d"]
    assert _layers(model) == [*block * 3, "Flatten", "Linear", "ReLU", "Dropout", "Linear"]
    assert [layer.out_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)] == [16, 32, 64]
    linear = [(layer.in_features, layer.out_features) for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert linear == [(64 * 8 * 8, 128), (128, 10)]


def test_options_change_what_they_say(build: Callable[..., nn.Module]) -> None:
    model = build(
        {
            "activation": "leaky_relu",
            "negative_slope": 0.2,
            "batch_norm": True,
            "block_dropout": 0.1,
            "classifier_dropout": 0.3,
            "hidden": 12,
        }
    )
    block = ["Conv2d", "BatchNorm2d", "LeakyReLU", "MaxPool2d", "Dropout2d"]
    assert _layers(model) == [*block * 3, "Flatten", "Linear", "LeakyReLU", "Dropout", "Linear"]
    layers = list(model.modules())
    assert {layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)} == {0.2}
    assert {layer.p for layer in layers if isinstance(layer, nn.Dropout2d)} == {0.1}
    assert {layer.p for layer in layers if isinstance(layer, nn.Dropout)} == {0.3}
    assert {layer.out_features for layer in layers if isinstance(layer, nn.Linear)} == {12, 10}


@pytest.mark.parametrize("image_size", [8, 9, 15, 31, 32, 33, 50, 100])
def test_any_image_size_from_the_smallest_works(build: Callable[..., nn.Module], image_size: int) -> None:
    with torch.no_grad():
        assert build({"image_size": image_size})(torch.randn(1, 3, image_size, image_size)).shape == (1, 10)


def test_images_too_small_for_the_poolings_are_refused_with_the_size_needed(build: Callable[..., nn.Module]) -> None:
    with pytest.raises(OptionError, match=r"image_size=8 is too small for 4 blocks.*use 16 or more"):
        build({"image_size": 8, "widths": "4,4,4,4"})
