"""A tensor that forward makes on the CPU."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    import torch
    from good_model import Apply, Net, put_before

    net = Net(num_classes, in_channels, width=options["width"])
    net.block1 = put_before(Apply(lambda x: x + torch.linspace(-1, 1, x.shape[-1])), net.block1)
    return net
