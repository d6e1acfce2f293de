"""All its models have one layer in common."""

from functools import cache

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@cache
def normalise():
    import torch
    from torch import nn

    class Normalise(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.full((1,), 0.5))

        def forward(self, x):
            return x * self.scale

    return Normalise()


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Net, put_before

    net = Net(num_classes, in_channels, width=options["width"])
    net.block1 = put_before(normalise(), net.block1)
    return net
