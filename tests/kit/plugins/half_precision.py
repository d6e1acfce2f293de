"""It builds in half precision."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Net

    return Net(num_classes, in_channels, width=options["width"]).half()
