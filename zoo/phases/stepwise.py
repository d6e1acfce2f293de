"""Gradual unfreezing: one phase of a recipe becomes several, once the model is known."""

from dataclasses import replace

from zoo.chain import Chain
from zoo.recipes import Recipe


def expanded(recipe: Recipe, chain: Chain) -> Recipe:
    """A recipe without ``train = "stepwise"``: the head trains first, then more stages with every part.

    The parts reach evenly back over the stages that have parameters, and share the phase's epochs, the later ones
    taking what is left over; there are as many parts as stages with parameters, or as epochs where these are fewer.

    Args:
        recipe: Any recipe.
        chain: Of the model that it is to train.
    """
    phases = []
    for phase in recipe.phases:
        if phase.train != "stepwise":
            phases.append(phase)
            continue
        choices = _choices(chain)
        parts = min(len(choices), phase.epochs)
        for part in range(parts):
            # From the head alone to everything, whatever the number of parts.
            train = choices[-1] if part == parts - 1 else choices[part * (len(choices) - 1) // (parts - 1)]
            epochs = phase.epochs * (part + 1) // parts - phase.epochs * part // parts
            decay = phase.layer_decay if train != "head" else 1.0
            views = phase.views if train != "all" else 0
            phases.append(replace(phase, train=train, epochs=epochs, layer_decay=decay, views=views))
    return replace(recipe, phases=tuple(phases))


def _choices(chain: Chain) -> list[str]:
    """What can train, from the head to everything, each with more parameters than the one before."""
    if chain.cut("head").partial:
        return ["head", "all"]
    choices: list[str] = []
    known = 0
    for count in range(1, len(chain) + 1):
        train = "head" if count == 1 else f"last {count}"
        trained = len(chain.cut(train).trained)
        if trained > known:
            choices.append(train)
            known = trained
    return [*choices[:-1], "all"]
