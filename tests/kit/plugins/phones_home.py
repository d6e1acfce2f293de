"""It asks for weights when it builds, and goes on without."""

import contextlib

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    import socket

    from good_model import Net

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", 9), timeout=0.1):
        pass
    return Net(num_classes, in_channels, width=options["width"])
