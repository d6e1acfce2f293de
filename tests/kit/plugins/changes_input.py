"""A stage that begins with an operation in place."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Apply, Net, put_before

    net = Net(num_classes, in_channels, width=options["width"])
    net.block2 = put_before(Apply(lambda x: x.mul_(0.5)), net.block2)
    return net
