"""It takes images of 16 pixels and no others, and does not say so."""

import dataclasses

from good_plugin import *  # noqa: F403
from good_plugin import NET

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_architectures():
    return [dataclasses.replace(NET, smallest_input=16, smallest_training_input=16)]


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Net
    from torch import nn

    width = options["width"]
    net = Net(num_classes, in_channels, width=width)
    net.pool = nn.Flatten(1)
    net.head = nn.Linear(2 * width * 4 * 4, num_classes)
    return net
