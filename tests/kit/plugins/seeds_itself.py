"""It seeds torch, so every run begins alike whatever its seed."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    import torch
    from good_model import Net

    torch.manual_seed(42)
    return Net(num_classes, in_channels, width=options["width"])
