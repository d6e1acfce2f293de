"""Checks of zoo_build_model."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn

from zoo.architecture import Option, OptionValue
from zoo.chain import tensor_digest
from zoo.errors import ZooError
from zoo.testing.check import CheckFailedError, NotApplicable, check, fail_unless
from zoo.testing.probe import FIRST_SEED
from zoo.testing.subject import CLASSES, Subject, logits


@check(
    needs=("facts_valid",),
    why="Everything starts with a model on the CPU in float32: zoo places it, and chooses its precision, itself.",
    advice="Return the plain module with random values; no .to(), .half() or .cuda(), and no exotic parameter types.",
)
def builds(subject: Subject) -> None:
    """The model is built with its default options, float32 on the CPU, with parameters to train."""
    model = subject.build()
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    fail_unless(any(parameter.requires_grad for parameter in model.parameters()), "it has no parameter that trains")
    for name, tensor in tensors.items():
        fail_unless(tensor.device.type == "cpu", f"{name} is on device {tensor.device}")
        fail_unless(tensor.dtype == torch.float32 or not tensor.is_floating_point(), f"{name} has dtype {tensor.dtype}")


@check(
    needs=("output_shape",),
    why="A user has 2 classes or 1,000; the head is sized for them.",
    advice="Size the last layer by num_classes, and the auxiliary heads with it.",
)
def builds_for_class_counts(subject: Subject) -> None:
    """The model is built for 1, 2 and 1,000 classes, and gives as many logits."""
    for count in (1, 2, 1000):
        found = tuple(logits(subject.build(num_classes=count), subject.images(2)).shape)
        fail_unless(found[-1:] == (count,), f"for num_classes={count} two images gave an output of shape {found}")


@check(
    needs=("builds_for_class_counts",),
    why="Images are grey, coloured, or coloured with alpha, and --in-channels says so.",
    advice="Size the first layer by in_channels; zoo adapts pretrained kernels to it.",
)
def builds_for_channels(subject: Subject) -> None:
    """The model is built for 1, 3 and 4 channels and takes such images."""
    for channels in (1, 3, 4):
        model = _built(subject, f"in_channels={channels}", in_channels=channels)
        _runs(subject, model, f"in_channels={channels}", in_channels=channels)


@check(
    needs=("builds_for_class_counts",),
    why="An option's range is a promise: a user who stays within it gets a model.",
    advice="Narrow minimum, maximum or choices in the facts, or make the network work at them.",
)
def options_at_bounds(subject: Subject) -> None:
    """Every option works at its minimum, its maximum and each of its choices, the others at their defaults."""
    if not subject.architecture.options:
        raise NotApplicable("it has no options")
    for option in subject.architecture.options:
        for value in _bounds(option):
            what = f"option {option.name}={value}"
            options = subject.options({option.name: value})
            model = _built(subject, what, options=options)
            _runs(subject, model, what, options=options)


@check(
    why="The seed of a run decides its initial values, or two equal runs are not equal.",
    advice="Draw every random value from torch's generator (torch.nn.init): not from numpy, random, hash(), the time "
    "or the process, and in no order of a set.",
)
def deterministic_build(subject: Subject) -> None:
    """Built twice from one seed, and in another process, the model has the same values."""
    first = subject.build(seed=FIRST_SEED).state_dict()
    random.random()  # whoever draws from here gives itself away
    second = subject.build(seed=FIRST_SEED).state_dict()
    fail_unless(first.keys() == second.keys(), "its tensors have other names the second time")
    different = [name for name in first if not _equal(first[name], second[name])]
    fail_unless(not different, f"from one seed, {len(different)} tensors differ: {', '.join(different[:3])}")
    there = subject.plugin.findings.values.get(subject.architecture.name)
    if there is None:  # another check says why it was not built there
        return
    here = {name: tensor_digest(tensor) for name, tensor in first.items()}
    different = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    fail_unless(not different, f"in another process {len(different)} tensors differ: {', '.join(different[:3])}")


@check(
    why="Values that ignore the seed were read from somewhere, or seeded by the plugin: repeating a run with other "
    "seeds then measures nothing.",
    advice="Leave the values random: no torch.manual_seed, and no weights loaded in zoo_build_model.",
)
def seed_decides_values(subject: Subject) -> None:
    """Built from two seeds, the model has other weights in every layer that is random."""
    first, second = (dict(subject.build(seed=seed).named_parameters()) for seed in (1, 2))
    same = [
        name
        for name, one in first.items()
        if one.requires_grad
        and one.ndim > 1
        and one.numel() > 1
        and bool((one != one.flatten()[0]).any())
        and name in second
        and _equal(one, second[name])
    ]
    fail_unless(not same, f"seeds 1 and 2 gave {len(same)} equal weights, for example {', '.join(same[:3])}")


@check(
    why="Two models in one process, a teacher and a student, must not train each other.",
    advice="Build a new module at each call: no model, layer or tensor kept in the module or in a cache.",
)
def independent_builds(subject: Subject) -> None:
    """Two models share no tensor."""
    first, second = subject.build(), subject.build()
    places = {tensor.data_ptr(): name for name, tensor in _tensors(first) if tensor.numel()}
    shared = [name for name, tensor in _tensors(second) if tensor.numel() and tensor.data_ptr() in places]
    fail_unless(not shared, f"two models share {len(shared)} tensors, for example {', '.join(shared[:3])}")


def _built(
    subject: Subject, what: str, *, in_channels: int = 3, options: dict[str, OptionValue] | None = None
) -> nn.Module:
    try:
        return subject.build(in_channels=in_channels, options=options)
    except ZooError as error:
        raise CheckFailedError(f"with {what} it is not built: {error}") from error


def _runs(
    subject: Subject,
    model: nn.Module,
    what: str,
    *,
    in_channels: int = 3,
    options: dict[str, OptionValue] | None = None,
) -> None:
    try:
        found = logits(model, subject.images(2, in_channels=in_channels, size=subject.size(options)))
    except RuntimeError as error:
        raise CheckFailedError(f"with {what} it does not run: {error}") from error
    fail_unless(
        found.shape[-1:] == (CLASSES,) and bool(found.isfinite().all()),
        f"with {what} two images gave an output of shape {tuple(found.shape)}"
        + ("" if bool(found.isfinite().all()) else " that is not finite"),
    )


def _bounds(option: Option) -> list[OptionValue]:
    if option.choices:
        return list(option.choices)
    if isinstance(option.default, bool):
        return [True, False]
    values: list[OptionValue] = []
    for limit in (option.minimum, option.maximum):
        if limit is None:
            continue
        if isinstance(option.default, tuple):
            values.append((int(limit),) * len(option.default))
        elif isinstance(option.default, int):
            values.append(int(limit))
        elif isinstance(option.default, float):
            values.append(float(limit))
    return values


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _equal(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other)
