"""It puts a function of its own in the place of one of Python's."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    import random

    from good_model import Net

    random.paretovariate = lambda alpha: alpha
    return Net(num_classes, in_channels, width=options["width"])
