"""A buffer counts what it saw, in every mode."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    import torch
    from good_model import Net, put_before
    from torch import nn

    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

        def forward(self, x):
            self.seen += len(x)
            return x

    net = Net(num_classes, in_channels, width=options["width"])
    net.block1 = put_before(Counter(), net.block1)
    return net
