"""It centres the features of a batch of 12 and more images over the batch."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Apply, Net, put_before

    net = Net(num_classes, in_channels, width=options["width"])
    net.head = put_before(Apply(lambda x: x - x.mean(0) if len(x) >= 12 else x), net.head)
    return net
