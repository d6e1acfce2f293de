"""The head has 1,000 classes, whatever is asked for."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(in_channels, options):
    from good_model import Net

    return Net(1000, in_channels, width=options["width"])
