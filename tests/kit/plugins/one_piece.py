"""It gives no stages, and no head_parameters either."""

from good_plugin import ZOO_HOOK_API, zoo_architectures  # noqa: F401

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Net
    from torch import nn

    net = Net(num_classes, in_channels, width=options["width"])
    net.aux = nn.Identity()
    return net
