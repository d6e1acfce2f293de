"""Checks of zoo_stages."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from zoo.testing.check import CheckFailedError, NotApplicable, check, fail_unless
from zoo.testing.subject import Subject, distance, logits


@check(
    needs=("eval_deterministic",),
    why="Frozen stages run apart from the rest, so an artifact trained in stages must be the model that predicts.",
    advice="Put what forward does between the modules into a stage, as a module: flatten, activations, pooling.",
)
def stages_compose(subject: Subject) -> None:
    """In eval mode the stages in order give what the model gives, bit for bit."""
    model, images = subject.trained(), subject.images(2)
    _compare(_composed(subject, model, images), logits(model, images), "the stages in order")


@check(
    needs=("stages_compose", "tensors_owned_once"),
    why="Weights are loaded, and models copied, after stages were made; stages are made anew then.",
    advice="Make the stages in zoo_stages from the model that is given; keep none, on the model or elsewhere.",
)
def stages_after_load_and_copy(subject: Subject) -> None:
    """Stages made anew after a copy, and after loading, are those of the model as it is."""
    model, images = subject.trained(), subject.images(2)
    subject.chain(model)
    twin = copy.deepcopy(model)
    other = subject.trained(seed=1)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.1)
    subject.chain(twin)
    _compare(_composed(subject, twin, images), logits(twin, images), "after a copy, the stages")
    model.load_state_dict(other.state_dict(), assign=True)
    subject.chain(model)
    _compare(_composed(subject, model, images), logits(model, images), "after loading, the stages")


@check(
    why="What no stage owns would neither be frozen, trained nor hashed; what two own would be both at once.",
    advice="Name every module in exactly one stage; layers that two stages share must be two layers.",
)
def tensors_owned_once(subject: Subject) -> None:
    """The stages own every parameter and buffer once, have different names, and the last is 'head'."""
    subject.chain(subject.build())


@check(
    needs=("tensors_owned_once",),
    why="Looking at a model must not change it: its tensors' names are the artifact's, its mode the trainer's.",
    advice="Build views (nn.Sequential of the model's modules) and assign nothing to the model.",
)
def hooks_leave_model_alone(subject: Subject) -> None:
    """zoo_stages and zoo_export_state change neither tensors, names nor modes of the model."""
    model = subject.build().train()
    before = _description(model)
    subject.stages(model)
    fail_unless(_description(model) == before, f"zoo_stages changed {_changed(before, _description(model))}")
    subject.hooks.export_state(subject.architecture, model)
    fail_unless(_description(model) == before, f"zoo_export_state changed {_changed(before, _description(model))}")


@check(
    needs=("stages_compose",),
    why="Features of a frozen backbone are kept on disk: vectors take kilobytes an image where maps take megabytes.",
    advice="Let the last backbone stage end in the pooling and nn.Flatten(1), and the head begin behind it.",
)
def backbone_gives_vectors(subject: Subject) -> None:
    """The stages before the head end in one vector an image."""
    model = subject.build()
    stages = subject.stages(model)
    if len(stages) == 1:
        raise NotApplicable("it is one stage")
    features: Tensor | tuple[Tensor, ...] = subject.images(2)
    with torch.no_grad():
        for stage in stages[:-1]:
            features = stage.module(features)
    fail_unless(
        isinstance(features, torch.Tensor) and features.ndim == 2 and len(features) == 2,
        "for two images the backbone gave "
        + (f"{len(features)} tensors" if isinstance(features, tuple) else f"features of shape {tuple(features.shape)}"),
    )


@check(
    needs=("stages_compose",),
    why="train = 'head' and layer decay mean nothing on a model of one piece, and every epoch computes all of it.",
    advice="Implement zoo_stages, or name head_parameters in the facts of a network that is no chain.",
)
def has_backbone_and_head(subject: Subject) -> None:
    """There is a backbone to freeze and a head to train: two stages, or head_parameters in the facts."""
    model = subject.build()
    named = subject.architecture.head_parameters
    if len(subject.stages(model)) > 1:
        fail_unless(not named, "it has stages and head_parameters; head_parameters are for a model of one stage")
        return
    known = dict(model.named_parameters())
    fail_unless(named, "it is one stage, and its facts name no head_parameters")
    missing = [name for name in named if name not in known]
    fail_unless(not missing, f"head_parameters that the model does not have: {', '.join(missing[:3])}")
    fail_unless(len(named) < len(known), "head_parameters are all of its parameters")


def _composed(subject: Subject, model: nn.Module, images: Tensor) -> Tensor:
    features: Tensor | tuple[Tensor, ...] = images
    for stage in subject.stages(model):
        try:
            with torch.inference_mode():
                features = stage.module.eval()(features)
        except (RuntimeError, TypeError, ValueError) as error:
            raise CheckFailedError(
                f"stage {stage.name!r} does not take what the stage before gives: {error}"
            ) from error
    fail_unless(isinstance(features, torch.Tensor), "the last stage gave no tensor")
    assert isinstance(features, torch.Tensor)
    return features


def _compare(found: Tensor, expected: Tensor, what: str) -> None:
    fail_unless(
        found.shape == expected.shape,
        f"{what} give an output of shape {tuple(found.shape)}, the model {tuple(expected.shape)}",
    )
    fail_unless(
        torch.equal(found, expected), f"{what} give other logits than the model: {distance(found, expected):.1e} off"
    )


def _description(model: nn.Module) -> dict[str, object]:
    tensors = {name: (tensor.data_ptr(), tensor._version) for name, tensor in model.state_dict(keep_vars=True).items()}
    modes = {f"the mode of {name or 'the model'}": module.training for name, module in model.named_modules()}
    return {**tensors, **modes}


def _changed(before: dict[str, object], after: dict[str, object]) -> str:
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return ", ".join(names[:3])
