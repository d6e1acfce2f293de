"""Building fails."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    return options["depth"]
