"""Values far from 1, which bfloat16 cannot tell apart."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Apply, Net
    from torch import nn

    net = Net(num_classes, in_channels, width=options["width"])
    net.block2 = nn.Sequential(net.block2[0], Apply(lambda x: (x + 1000.0) - 1000.0), *list(net.block2)[1:])
    return net
