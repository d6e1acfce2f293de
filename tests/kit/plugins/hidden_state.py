"""Something decides the logits that no state_dict holds."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    import torch
    from good_model import Net, put_before
    from torch import nn

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.rand(1) + 0.5, persistent=False)

        def forward(self, x):
            return x * self.scale

    net = Net(num_classes, in_channels, width=options["width"])
    net.block1 = put_before(Mixed(), net.block1)
    return net
