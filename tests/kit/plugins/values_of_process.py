"""Some first values are the hash of a text, which is another in every process."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    import torch
    from good_model import Net

    net = Net(num_classes, in_channels, width=options["width"])
    with torch.no_grad():
        net.head[1].bias.fill_(hash("bias") % 1_000_003 / 1e6)
    return net
