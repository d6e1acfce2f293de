"""No gradient passes its middle."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    import torch
    from good_model import Apply, Net, put_before

    net = Net(num_classes, in_channels, width=options["width"])
    net.head = put_before(Apply(torch.detach), net.head)
    return net
