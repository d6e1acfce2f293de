"""A buffer has one value a channel, so weights for colour are for colour only."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    import torch
    from good_model import Net, put_before
    from torch import nn

    class Normalise(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.full((in_channels, 1, 1), 0.1))

        def forward(self, x):
            return x - self.mean

    net = Net(num_classes, in_channels, width=options["width"])
    net.block1 = put_before(Normalise(), net.block1)
    return net
