"""Whether a recipe and a model go together, found out before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zoo.chain import Chain, batch_norm_layers
from zoo.errors import OptionError
from zoo.models import Model
from zoo.phases.stepwise import expanded
from zoo.recipes import Phase, Recipe
from zoo.training.losses import Criterion
from zoo.training.solver import linear_layer

# With one stage and a head all activations are back when the backward pass begins.
_FEWEST_RECOMPUTED = 3


def check_recipe(model: Model, recipe: Recipe, *, criterion: Criterion | None = None, cache: bool = True) -> Recipe:
    """Refuse phases that the model cannot train, and values of the user's that would do nothing on it.

    Args:
        model: What is to train.
        recipe: As it was chosen.
        criterion: The caller's own, in place of the task's loss.
        cache: Whether features of frozen parts may be kept.

    Returns:
        The recipe with ``"stepwise"`` phases expanded for the model.

    Raises:
        OptionError: A phase names a stage that is not there, asks for what does not go with it or has no effect, or the
            images are too small to train on.
    """
    chain = model.chain()
    _check_size(model, chain, recipe)
    for i, phase in enumerate(recipe.phases):
        where = f"phase {i + 1} of recipe {recipe.name!r}"
        parts = expanded(replace(recipe, phases=(phase,)), chain).phases
        wrong = (
            _misfit(chain, parts) or _without_criterion(phase, criterion) or _without_views(chain, parts, cache=cache)
        )
        if recipe.strict:
            wrong = wrong or _without_effect(chain, phase, parts)
        if wrong:
            raise OptionError(f"{where}: {wrong}.")
    return expanded(recipe, chain)


def _check_size(model: Model, chain: Chain, recipe: Recipe) -> None:
    size = min(model.preprocessing.input_size[1:])
    smallest = model.architecture.smallest_training_input
    phases = expanded(recipe, chain).phases
    if size < smallest and any(chain.cut(phase.train).frozen_stages < len(chain) - 1 for phase in phases):
        raise OptionError(
            f"image size {size} is too small to train {model.architecture.name}: it needs at least {smallest} pixels."
        )


def _misfit(chain: Chain, parts: Sequence[Phase]) -> str:
    most = max(len(chain) - chain.cut(part.train).frozen_stages for part in parts)
    if parts[0].recompute and most < _FEWEST_RECOMPUTED:
        return (
            f"recompute has no effect with train = {parts[-1].train!r}: {most} stage(s) of this model train, and no "
            "activations can be dropped between them"
        )
    for part in parts:
        cut = chain.cut(part.train)
        if part.cutmix and cut.frozen_stages:
            return (
                f"cutmix cuts images, and with train = {part.train!r} what trains sees features; use mixup, or "
                "train = 'all'"
            )
        if part.solver == "lbfgs":
            chain.freeze(cut)
            try:
                linear_layer(chain.part(cut.frozen_stages))
            except OptionError as error:
                return str(error).removesuffix(".")
            finally:
                chain.model.eval().requires_grad_(True)
    return ""


def _without_criterion(phase: Phase, criterion: Criterion | None) -> str:
    if criterion is not None and (phase.label_smoothing or phase.class_weights == "balanced"):
        return "label_smoothing and class_weights have no effect with a criterion of your own: build them into it"
    return ""


def _without_views(chain: Chain, parts: Sequence[Phase], *, cache: bool) -> str:
    """Nothing that ships has views, so they are always the user's."""
    if not any(part.views for part in parts):
        return ""
    if not cache and parts[0].solver == "gradient":
        return "views has no effect without the cache that keeps them: leave out one of --views and --no-cache"
    if not any(chain.cut(part.train).frozen_stages for part in parts):
        trained = parts[0].train
        return f"views has no effect with train = {trained!r}: no stage of this model is frozen that could run once"
    return ""


def _without_effect(chain: Chain, phase: Phase, parts: Sequence[Phase]) -> str:
    cuts = [chain.cut(part.train) for part in parts]
    trained = f"train = {phase.train!r}"
    if phase.layer_decay != 1:
        groups = [
            group for cut in cuts for group in chain.parameter_groups(cut, lr=1.0, weight_decay=0.0, layer_decay=0.5)
        ]
        if all(group["lr"] == 1.0 for group in groups):
            return f"layer_decay has no effect with {trained}, which trains the last stage of this model alone"
    if phase.batch_norm == "eval" and not any(
        batch_norm_layers(chain.part(cut.frozen_stages)) for cut in cuts if not cut.partial
    ):
        return f'batch_norm = "eval" has no effect with {trained}: no BatchNorm layer of this model trains'
    return ""
