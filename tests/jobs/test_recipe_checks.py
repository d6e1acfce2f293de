"""A value of the user's that would do nothing on the model at hand is an error, before anything is written."""

from typing import Any

import pytest

from zoo.errors import OptionError
from zoo.jobs.recipe_checks import check_recipe
from zoo.models import Model, build_model, request_model
from zoo.plugins.catalogue import open_plugins
from zoo.recipes import Phase, Recipe
from zoo.training import CrossEntropy


def small_cnn(*, batch_norm: bool) -> Model:
    """Stages block1, block2, flatten, which has no parameters, and head, which has two linear layers."""
    plugins = open_plugins(None)
    options = {"widths": "4,8", "batch_norm": batch_norm}
    request = request_model(plugins, "simple_cnn", weights=None, options=options, in_channels=3, image_size=16)
    return build_model(plugins, request, classes=("a", "b"))


def check(*phases: Phase, batch_norm: bool = True, strict: bool = True, **settings: Any) -> Recipe:
    recipe = Recipe(name="mine", phases=phases, strict=strict)
    return check_recipe(small_cnn(batch_norm=batch_norm), recipe, **settings)


@pytest.mark.parametrize(
    ("batch_norm", "phase", "said"),
    [
        (False, Phase(epochs=1, train="all", batch_norm="eval"), 'batch_norm = "eval"'),
        (True, Phase(epochs=1, train="head", batch_norm="eval"), 'batch_norm = "eval"'),
        (True, Phase(epochs=1, train="last 2", layer_decay=0.8), "layer_decay"),
    ],
    ids=["no BatchNorm", "BatchNorm is frozen", "one stage with parameters"],
)
def test_what_would_do_nothing_is_refused_in_a_recipe_of_the_users(batch_norm: bool, phase: Phase, said: str) -> None:
    with pytest.raises(OptionError, match=f"^phase 1 of recipe 'mine': {said} has no effect with train = "):
        check(phase, batch_norm=batch_norm)
    assert check(phase, batch_norm=batch_norm, strict=False).phases == (phase,)


@pytest.mark.parametrize(
    "phase",
    [
        Phase(epochs=1, train="all", batch_norm="eval", layer_decay=0.8),
        Phase(epochs=2, train="last 3", batch_norm="eval", augment="light", views=2, layer_decay=0.8),
        Phase(epochs=6, train="stepwise", batch_norm="eval", augment="light", views=2, layer_decay=0.8),
    ],
    ids=lambda phase: phase.train,
)
def test_what_does_something_passes(phase: Phase) -> None:
    assert check(phase).phases[-1].batch_norm == "eval"


@pytest.mark.parametrize("strict", [True, False])
def test_a_criterion_of_ones_own_leaves_no_place_for_smoothing_and_weights(strict: bool) -> None:
    for phase in (Phase(epochs=1, label_smoothing=0.1), Phase(epochs=1, class_weights="balanced")):
        with pytest.raises(OptionError, match="no effect with a criterion of your own"):
            check(phase, strict=strict, criterion=CrossEntropy())
    assert check(Phase(epochs=1), strict=strict, criterion=CrossEntropy()).strict is strict


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("train", ["last 9", "block1"])
def test_views_need_something_that_is_frozen(strict: bool, train: str) -> None:
    phase = Phase(epochs=2, train=train, augment="light", views=2)
    with pytest.raises(OptionError, match=f"views has no effect with train = '{train}'"):
        check(phase, strict=strict)


@pytest.mark.parametrize("strict", [True, False])
def test_views_need_the_cache_that_keeps_them(strict: bool) -> None:
    phase = Phase(epochs=2, train="head", augment="light", views=2)
    with pytest.raises(OptionError, match="--views and --no-cache"):
        check(phase, strict=strict, cache=False)
    assert check(phase, strict=strict).phases == (phase,)


def test_a_solver_for_one_linear_layer_is_refused_where_there_are_two_and_the_model_stays_as_it_was() -> None:
    model = small_cnn(batch_norm=True)
    with pytest.raises(OptionError, match=r"phase 1 of recipe .mine.: .*2 linear layers"):
        check_recipe(model, Recipe(name="mine", phases=(Phase(epochs=3, train="head", solver="lbfgs"),)))
    assert all(parameter.requires_grad for parameter in model.module.parameters())
    assert not any(module.training for module in model.module.modules())


def test_cutmix_is_refused_where_what_trains_sees_no_images() -> None:
    with pytest.raises(OptionError, match="phase 2 of recipe 'mine': cutmix cuts images"):
        check(Phase(epochs=1), Phase(epochs=1, train="last 3", cutmix=1.0))
