"""A weight of its own drawing, which no seed decides."""

import time

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    import torch
    from good_model import Net

    net = Net(num_classes, in_channels, width=options["width"])
    generator = torch.Generator().manual_seed(time.perf_counter_ns())
    torch.nn.init.normal_(net.head[1].weight, generator=generator)
    return net
