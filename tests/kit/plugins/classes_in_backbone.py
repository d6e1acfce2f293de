"""The number of classes sizes a layer below the head."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Net, block
    from torch import nn

    net = Net(num_classes, in_channels, width=options["width"])
    net.block2 = block(options["width"], num_classes + 4)
    net.head = nn.Linear(num_classes + 4, num_classes)
    return net
