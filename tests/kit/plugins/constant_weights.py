"""One layer begins with the same values, whatever the seed."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    import torch
    from good_model import Net

    net = Net(num_classes, in_channels, width=options["width"])
    torch.nn.init.normal_(net.block2[0].weight, generator=torch.Generator().manual_seed(0))
    return net
