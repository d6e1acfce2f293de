"""A view that only one memory layout has."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Apply, Net
    from torch import nn

    net = Net(num_classes, in_channels, width=options["width"])
    net.pool = Apply(lambda x: x.view(len(x), x.shape[1] // 2, -1).mean(-1))
    net.head = nn.Linear(options["width"], num_classes)
    return net
