"""A gradient of its own, with the wrong sign."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    import torch
    from good_model import Apply, Net

    class Reversed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return -gradient

    net = Net(num_classes, in_channels, width=options["width"], dropout=0.0)
    net.head.append(Apply(Reversed.apply))
    net.aux.append(Apply(Reversed.apply))
    return net
