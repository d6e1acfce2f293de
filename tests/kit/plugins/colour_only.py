"""It takes three channels, whatever is asked for."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, options):
    from good_model import Net

    return Net(num_classes, 3, width=options["width"])
