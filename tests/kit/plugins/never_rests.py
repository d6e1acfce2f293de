"""A BatchNorm that follows its batches, frozen or not: in training mode whatever the mode."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Net
    from torch import nn

    class Restless(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(True)

    net = Net(num_classes, in_channels, width=options["width"])
    net.block1[1] = Restless(options["width"])
    return net
