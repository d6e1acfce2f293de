"""It has another program look at the machine when it builds."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    import subprocess

    from good_model import Net

    subprocess.run(["uname"], capture_output=True)
    return Net(num_classes, in_channels, width=options["width"])
