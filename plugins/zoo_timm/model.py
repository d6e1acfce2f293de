"""Building timm's models, and reading the checkpoints that are published for them."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from zoo.architecture import Architecture, OptionValue
from zoo.errors import OptionError
from zoo_timm.catalogue import Layout, layout

_ARGUMENTS = {"image_size": "img_size", "dropout": "drop_rate", "stochastic_depth": "drop_path_rate"}


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
    try:
        if "image_size" in chosen:
            _try(architecture.name, cast(int, chosen["image_size"]), arguments)
        return timm.create_model(architecture.name, pretrained=False, **arguments)
    except Exception as error:
        if not chosen:
            raise
        listed = ", ".join(f"{name}={value}" for name, value in chosen.items())
        raise OptionError(f"timm cannot build {architecture.name} with {listed}: {error}") from error


def _try(name: str, edge: int, arguments: Mapping[str, Any]) -> None:
    """Let a model compute shapes, without values: many sizes are refused only when an image comes."""
    with torch.no_grad(), torch.device("meta"):
        timm.create_model(name, pretrained=False, **arguments).eval()(torch.zeros(1, arguments["in_chans"], edge, edge))


def import_state(architecture: Architecture, model: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Give a checkpoint's tensors the model's names and, where timm knows how, its shapes.

    What has the model's names and shapes already, apart from the classes and the input's channels, is not touched.
    """
    how = layout(architecture.name)
    if how is None or _is_native(model, state):
        return state
    converted = _converted(how, model, state)
    if how.strict:
        return converted
    wanted = model.state_dict()
    return {name: tensor for name, tensor in converted.items() if name in wanted}


def _converted(how: Layout, model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    module, _, name = how.function.partition(":")
    if not module.startswith("timm."):
        return dict(state)
    if "<locals>" in name:  # timm's CrossViT has it inside another function
        return {_crossvit_name(key): tensor for key, tensor in state.items()}
    function = getattr(importlib.import_module(module), name)
    takes_model = len(inspect.signature(function).parameters) > 1
    converted = function(dict(state), *([model] if takes_model else []), **how.arguments)
    return {key: value for key, value in converted.items() if isinstance(value, Tensor)}


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
