"""It makes its stages once and keeps them."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_stages(model):
    from good_model import Stage, stages
    from torch import nn

    if "kept" not in vars(model):
        weights = nn.utils.skip_init(nn.Linear, *reversed(model.head[1].weight.shape))
        weights.weight, weights.bias = model.head[1].weight, model.head[1].bias
        vars(model)["kept"] = [*stages(model)[:-1], Stage("head", nn.Sequential(model.head[0], weights))]
    return vars(model)["kept"]
