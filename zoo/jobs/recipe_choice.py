"""Which recipe a run follows: the one asked for, or the one that suits the weights."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from zoo.data.augment import CROPPING
from zoo.errors import OptionError
from zoo.models import Request
from zoo.recipes import Augment, Phase, Recipe, never_reached
from zoo.registry import Registry, validate_phase


def choose_recipe(
    registry: Registry,
    request: Request,
    recipe: str | Recipe | Sequence[Phase] | None,
    *,
    epochs: int | Sequence[int] | None = None,
    lr: float | Literal["auto"] | Sequence[float | Literal["auto"]] | None = None,
    batch_size: int | None = None,
    augment: Augment | None = None,
    views: int | None = None,
    micro_batch: int | None = None,
    recompute: bool | None = None,
    compile: bool | None = None,
) -> Recipe:
    """The recipe that was asked for, or the one that suits the weights, with the values given in its place.

    Raises:
        OptionError: There are more or fewer values than phases, or a value is not allowed.
        UnknownNameError: There is no recipe of that name.
    """
    if isinstance(recipe, Recipe):
        found = recipe
    elif recipe is not None and not isinstance(recipe, str):
        found = Recipe(name="own", phases=tuple(recipe))
    else:
        found = registry.recipe(recipe or _default_recipe(request))
    changes: dict[str, Any] = {
        "epochs": epochs,
        "lr": lr,
        "batch_size": batch_size,
        "augment": augment,
        "views": views,
        "micro_batch": micro_batch,
        "recompute": recompute,
        "compile": compile,
    }
    phases = [
        replace(phase, **{key: _for_phase(key, value, i, found) for key, value in changes.items() if value is not None})
        for i, phase in enumerate(found.phases)
    ]
    written = [key for key, value in changes.items() if value is not None]
    for i, (phase, before) in enumerate(zip(phases, found.phases, strict=True)):
        where = f"phase {i + 1} of recipe {found.name!r}"
        validate_phase(phase, where, written=written)
        if found.strict and (idle := never_reached(before)):
            raise OptionError(f"{where}: {idle}.")
    return replace(found, phases=tuple(phases))


def _default_recipe(request: Request) -> str:
    architecture, preset = request.architecture, request.resolved.preset
    if preset and preset.recipe:
        return preset.recipe
    if request.weights is None or (request.weights == "default" and architecture.default_weights is None):
        return architecture.scratch_recipe or architecture.default_recipe or "full"
    return architecture.default_recipe or "frozen"


def check_cached_images(recipe: Recipe, cache_images: float | None) -> None:
    """Refuse to keep decoded images that no phase would look at twice.

    Raises:
        OptionError: There is no such phase.
    """
    epochs = sum(phase.epochs for phase in recipe.phases if phase.augment in CROPPING and not phase.views)
    if cache_images is not None and epochs < 2:
        raise OptionError(
            f"cache_images = {cache_images:g} has no effect with recipe {recipe.name!r}: it keeps decoded images for "
            "random crops that are new in every epoch, and that takes two epochs or more with augment = 'standard' or "
            "'strong' and without views. Centre crops are kept in memory without it."
        )


def _for_phase(key: str, value: Any, index: int, recipe: Recipe) -> Any:
    if not isinstance(value, Sequence) or isinstance(value, str):
        if value != "auto" and key in ("epochs", "lr") and len(recipe.phases) > 1:
            value = [value]
        else:
            return value
    if len(value) != len(recipe.phases):
        raise OptionError(
            f"{key} has {len(value)} value(s) and recipe {recipe.name!r} {len(recipe.phases)} phase(s); give one each, "
            f"for example --{key} {','.join(str(getattr(phase, key)) for phase in recipe.phases)}."
        )
    return value[index]
