"""In eval mode it drops at random, in batches of 16 and more."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Apply, Net, put_before
    from torch.nn.functional import dropout

    net = Net(num_classes, in_channels, width=options["width"])
    net.head = put_before(Apply(lambda x: dropout(x, training=len(x) >= 16)), net.head)
    return net
