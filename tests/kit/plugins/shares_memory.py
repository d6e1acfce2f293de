"""A weight of its head is a view of the first convolution's."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Net
    from torch import nn

    net = Net(num_classes, in_channels, width=options["width"])
    net.head.insert(1, nn.Linear(2 * options["width"], 1))
    net.head[1].weight.data = net.block2[0].weight.data.view(-1)[: 2 * options["width"]].view(1, -1)
    net.head[2] = nn.Linear(1, num_classes)
    return net
