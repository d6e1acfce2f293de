"""Building timm's models, and reading the checkpoints that are published for them."""

import importlib
import inspect
import warnings
from collections.abc import Mapping
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from zoo.architecture import Architecture, OptionValue
from zoo.errors import OptionError
from zoo_timm.catalogue import Layout, layout

_ARGUMENTS = {"image_size": "img_size", "dropout": "drop_rate", "stochastic_depth": "drop_path_rate"}
# Families whose first layer sees blocks of pixels: whether its inputs are ordered by pixel or by channel.
_PIXELS_FIRST = {"tresnet": True, "naflexvit": True, "gemma4_vit": False}


def build(
    architecture: Architecture, *, num_classes: int, in_channels: int, options: Mapping[str, OptionValue]
) -> nn.Module:
    """Build a model with random values.

    Args:
        architecture: One of the plugin's.
        num_classes: Outputs of its classifier.
        in_channels: Channels of the input.
        options: Of the architecture; what differs from the defaults is passed on to timm.

    Raises:
        OptionError: timm cannot build it with these options.
    """
    chosen = {name: value for name, value in options.items() if value != architecture.option(name).default}
    arguments: dict[str, Any] = {_ARGUMENTS[name]: value for name, value in chosen.items()}
    arguments |= {"num_classes": num_classes, "in_chans": in_channels}
    edge = cast(int, chosen.get("image_size", architecture.preprocessing.input_size[1]))
    try:
        if in_channels != 3 or "image_size" in chosen:
            _try(architecture.name, edge, arguments)
        return timm.create_model(architecture.name, pretrained=False, **arguments)
    except Exception as error:
        if in_channels == 3 and not chosen:
            raise
        given = [f"{name}={value}" for name, value in chosen.items()]
        given += [f"in_channels={in_channels}"] if in_channels != 3 else []
        raise OptionError(f"timm cannot build {architecture.name} with {', '.join(given)}: {error}") from error


def _try(name: str, edge: int, arguments: Mapping[str, Any]) -> None:
    """Let a model compute shapes, without values: many sizes are refused only when an image comes."""
    with torch.no_grad(), torch.device("meta"), warnings.catch_warnings(action="ignore"):
        timm.create_model(name, pretrained=False, **arguments).eval()(torch.zeros(1, arguments["in_chans"], edge, edge))


def import_state(architecture: Architecture, model: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Give a checkpoint's tensors the model's names and, where timm knows how, its shapes.

    What has the model's names and shapes already, apart from the classes and the input's channels, is not touched.
    """
    how = layout(architecture.name)
    if how is not None and not _is_native(model, state):
        state = _converted(how, model, state)
    pixels_first = _PIXELS_FIRST.get(architecture.family)
    return state if pixels_first is None else _grey(pixels_first, model, state)


def _converted(how: Layout, model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    expected = model.state_dict()
    module, _, name = how.function.partition(":")
    if not module.startswith("timm."):
        return {key: tensor for key, tensor in state.items() if how.strict or key in expected}
    if "<locals>" in name:  # timm's CrossViT has it inside another function
        return {_crossvit_name(key): tensor for key, tensor in state.items()}
    function = getattr(importlib.import_module(module), name)
    takes_model = len(inspect.signature(function).parameters) > 1
    converted = function(dict(state), *([model] if takes_model else []), **how.arguments)
    return {
        key: value for key, value in converted.items() if isinstance(value, Tensor) and (how.strict or key in expected)
    }


def _grey(pixels_first: bool, model: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Sum a first layer over RGB that sees several pixels of each channel at once, which the core does not know of."""
    name = f"{cast(Any, model).pretrained_cfg['first_conv']}.weight"
    found, expected = state.get(name), model.state_dict().get(name)
    if found is None or expected is None or found.shape[1] != 3 * expected.shape[1]:
        return state
    inputs = (-1, 3) if pixels_first else (3, -1)
    split = found.reshape(found.shape[0], *inputs, *found.shape[2:])
    return {**state, name: split.sum(2 if pixels_first else 1)}


def _is_native(model: nn.Module, state: Mapping[str, Tensor]) -> bool:
    expected = model.state_dict()
    classifiers = cast(Any, model).get_classifier()
    modules = classifiers if isinstance(classifiers, tuple | list) else [classifiers]
    per_class = {id(tensor) for module in modules for tensor in module.state_dict(keep_vars=True).values()}
    head = {name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in per_class}
    return all(
        name in state and _same_shape(state[name], tensor)
        for name, tensor in expected.items()
        if name not in head and not name.endswith(".num_batches_tracked")
    ) and all(name in expected for name in state)


def _same_shape(found: Tensor, expected: Tensor) -> bool:
    if found.ndim == expected.ndim == 4:  # channels of the input may differ, and are fitted later
        return found.shape[0] == expected.shape[0] and found.shape[2:] == expected.shape[2:]
    return found.shape == expected.shape


def _crossvit_name(name: str) -> str:
    return name.replace(".", "_") if "pos_embed" in name or "cls_token" in name else name
