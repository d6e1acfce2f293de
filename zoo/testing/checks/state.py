"""Checks of the tensors that go out and come in: export, import, artifacts, other classes and channels."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.artifact import Header, Plugin, write_artifact
from zoo.errors import ZooError
from zoo.models import effective_preprocessing, load_artifact, request_model
from zoo.testing.check import CheckFailedError, check, fail_unless
from zoo.testing.subject import CLASSES, Subject, distance, logits
from zoo.weights.loading import build

_FEWER_CLASSES = 3


@check(
    why="What was exported is what is loaded again; a tensor lost or renamed on the way is a model lost.",
    advice="Make zoo_import_state undo zoo_export_state, name by name; without either, both are the model's own names.",
)
def import_export_inverse(subject: Subject) -> None:
    """Importing what was exported gives the model's tensors again, and changes neither model."""
    model, other = subject.trained(), subject.build(seed=1)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    untouched = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    exported = {
        name: tensor.detach().clone()
        for name, tensor in subject.hooks.export_state(subject.architecture, model).items()
    }
    imported = subject.hooks.import_state(subject.architecture, other, exported)
    fail_unless(imported.keys() == expected.keys(), f"names differ: {_names(imported, expected)}")
    different = [name for name in expected if not _same(imported[name], expected[name])]
    fail_unless(not different, f"other values in {len(different)} tensors: {', '.join(different[:3])}")
    for what, found, was in (("exported from", model, expected), ("given to import", other, untouched)):
        changed = [name for name, tensor in found.state_dict().items() if not torch.equal(tensor, was[name])]
        fail_unless(not changed, f"the model {what} was changed: {', '.join(changed[:3])}")


@check(
    needs=("eval_deterministic", "import_export_inverse"),
    why="The artifact is the one file that a run leaves: it has to give the same model on another day.",
    advice="Keep everything that decides the logits in parameters, persistent buffers and options.",
)
def artifact_round_trip(subject: Subject) -> None:
    """Written as an artifact and read into a fresh model, the logits are the same bit for bit."""
    architecture, record = subject.architecture, subject.hooks.record
    options = subject.options()
    request = request_model(subject.plugin.plugins, architecture.full_name, weights=None)
    height, width = subject.size()
    model, images = subject.trained(options=options, seed=1), subject.images(2)  # loading builds with another seed
    header = Header(
        architecture=architecture.full_name,
        options=options,
        plugin=Plugin(name=record.name, distribution=record.distribution, version=record.version),
        classes=[f"class {i}" for i in range(CLASSES)],
        in_channels=3,
        preprocessing=replace(effective_preprocessing(request), input_size=(3, height, width)),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        try:
            write_artifact(path, header, subject.hooks.export_state(architecture, model))
            loaded = load_artifact(subject.plugin.plugins, path)
        except ZooError as error:
            raise CheckFailedError(f"{type(error).__name__}: {error}") from error
    expected, found = logits(model, images), logits(loaded.module, images)
    fail_unless(torch.equal(found, expected), f"the logits differ by {distance(found, expected):.1e} of the largest")


@check(
    needs=("import_export_inverse", "tensors_owned_once", "builds_for_class_counts"),
    why="Fine-tuning keeps the backbone of the weights and makes a new head for the user's classes.",
    advice="Let num_classes size nothing but the head and the auxiliary heads.",
)
def new_classes_keep_backbone(subject: Subject) -> None:
    """Loaded for another number of classes, all but the heads is kept bit for bit."""
    chain = subject.chain(subject.build())
    old = subject.trained()
    loaded = _load(subject, old, num_classes=_FEWER_CLASSES)
    replaced = _names_of_heads(subject, chain.model)
    state = loaded.state_dict()
    changed = [
        name for name, tensor in old.state_dict().items() if name not in replaced and not _same(state[name], tensor)
    ]
    fail_unless(not changed, f"other values outside the heads: {', '.join(changed[:3])}")
    found = logits(loaded, subject.images(2))
    fail_unless(found.shape == (2, _FEWER_CLASSES), f"two images gave logits of shape {tuple(found.shape)}")


@check(
    needs=("import_export_inverse", "builds_for_channels"),
    why="Weights for colour are used for grey and for alpha images: zoo adapts the kernels of the first convolution.",
    advice="Let in_channels size nothing but the first convolution, and no buffer.",
)
def weights_fit_other_channels(subject: Subject) -> None:
    """Weights for 3 channels load into the models for 1 and for 4."""
    old = subject.trained()
    for channels in (1, 4):
        loaded = _load(subject, old, in_channels=channels)
        found = logits(loaded, subject.images(2, in_channels=channels))
        fail_unless(found.isfinite().all(), f"for {channels} channels the logits are not finite")


def _load(subject: Subject, model: nn.Module, *, num_classes: int = CLASSES, in_channels: int = 3) -> nn.Module:
    state = {
        name: tensor.detach().clone()
        for name, tensor in subject.hooks.export_state(subject.architecture, model).items()
    }
    try:
        loaded, _ = build(
            subject.hooks,
            subject.architecture,
            num_classes=num_classes,
            in_channels=in_channels,
            options=subject.options(),
            state=state,
            seed=0,
        )
    except ZooError as error:
        raise CheckFailedError(f"for {num_classes} classes and {in_channels} channels: {error}") from error
    return loaded


def _names_of_heads(subject: Subject, model: nn.Module) -> set[str]:
    named = subject.architecture.head_parameters
    if named:
        return set(named)
    stages = subject.stages(model)
    heads = [stages[-1].module, *(stage.auxiliary for stage in stages if stage.auxiliary is not None)]
    inside = {id(tensor) for head in heads for tensor in head.state_dict(keep_vars=True).values()}
    return {name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in inside}


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)


def _names(found: Mapping[str, object], expected: Mapping[str, object]) -> str:
    missing = [f"{name} is missing" for name in expected if name not in found]
    return ", ".join((missing + [f"{name} is new" for name in found if name not in expected])[:3])
