"""It decides for the whole process how convolutions are computed."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    import torch
    from good_model import Net

    torch.backends.cudnn.benchmark = True
    return Net(num_classes, in_channels, width=options["width"])
