"""Gradual unfreezing as phases."""

import pytest
from torch import nn

from zoo.chain import Chain, Stage
from zoo.phases.stepwise import expanded
from zoo.recipes import Phase, Recipe


def chain(stages: int) -> Chain:
    """Linear stages with a stage without parameters among them."""
    modules: list[nn.Module] = [nn.Linear(2, 2) for _ in range(stages)]
    modules.insert(1, nn.Flatten())
    model = nn.Sequential(*modules)
    names = [*(f"s{i}" for i in range(stages)), "head"]
    return Chain(model, [Stage(name, module) for name, module in zip(names, model, strict=True)])


def stepwise(epochs: int, stages: int, **changes: object) -> list[tuple[str, int]]:
    phase = Phase(epochs=epochs, train="stepwise", **changes)  # type: ignore[arg-type]
    return [(p.train, p.epochs) for p in expanded(Recipe(name="gradual", phases=(phase,)), chain(stages)).phases]


def test_each_part_trains_one_stage_more_and_the_last_trains_all() -> None:
    # The stage without parameters is no part of its own.
    assert stepwise(8, 4) == [("head", 2), ("last 2", 2), ("last 3", 2), ("all", 2)]
    assert stepwise(6, 4) == [("head", 1), ("last 2", 2), ("last 3", 1), ("all", 2)]


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 11])
@pytest.mark.parametrize("stages", [2, 4, 18])
def test_epochs_add_up_and_parts_reach_evenly_back(epochs: int, stages: int) -> None:
    parts = stepwise(epochs, stages)
    assert sum(epochs for _, epochs in parts) == epochs
    assert len(parts) == min(epochs, stages)
    assert parts[-1][0] == "all"
    assert len({train for train, _ in parts}) == len(parts)
    assert parts[0][0] == ("all" if len(parts) == 1 else "head")


def test_other_phases_stay_and_a_head_alone_has_no_layer_decay() -> None:
    head = Phase(epochs=3, train="head")
    recipe = Recipe(name="own", phases=(head, Phase(epochs=4, train="stepwise", layer_decay=0.7)))
    phases = expanded(recipe, chain(2)).phases
    assert phases[0] == head
    assert [(phase.train, phase.layer_decay) for phase in phases[1:]] == [("head", 1.0), ("all", 0.7)]
    assert expanded(expanded(recipe, chain(2)), chain(2)) == expanded(recipe, chain(2))


def test_views_go_as_far_as_something_is_frozen() -> None:
    recipe = Recipe(name="own", phases=(Phase(epochs=9, train="stepwise", augment="light", views=3),))
    assert [phase.views for phase in expanded(recipe, chain(2)).phases] == [3, 0]
    assert {phase.augment for phase in expanded(recipe, chain(2)).phases} == {"light"}


def test_a_model_that_is_no_chain_has_its_head_and_all() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    whole = Chain(model, [Stage("head", model)], head_parameters=["1.weight", "1.bias"])
    phases = expanded(Recipe(name="gradual", phases=(Phase(epochs=4, train="stepwise"),)), whole).phases
    assert [(phase.train, phase.epochs) for phase in phases] == [("head", 2), ("all", 2)]
