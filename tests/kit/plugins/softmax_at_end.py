"""It ends in a softmax."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Net
    from torch import nn

    net = Net(num_classes, in_channels, width=options["width"])
    net.head.append(nn.Softmax(1))
    return net
