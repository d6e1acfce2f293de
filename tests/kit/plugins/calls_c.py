"""It calls a C library by hand."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    import ctypes

    from good_model import Net

    ctypes.CDLL(None).abs(-1)
    return Net(num_classes, in_channels, width=options["width"])
