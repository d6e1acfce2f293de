"""A functional dropout that does not ask for the mode."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Apply, Net
    from torch import nn

    net = Net(num_classes, in_channels, width=options["width"])
    net.head = nn.Sequential(Apply(nn.functional.dropout), net.head[1])
    return net
