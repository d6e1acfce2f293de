"""It squeezes what is pooled, and with it a batch of one."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    import torch
    from good_model import Apply, Net
    from torch import nn

    net = Net(num_classes, in_channels, width=options["width"])
    net.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), Apply(torch.squeeze))
    return net
