"""It loads weights of its own when it builds."""

from pathlib import Path

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    import torch
    from good_model import Net

    net = Net(num_classes, in_channels, width=options["width"])
    seed = len(Path(__file__).with_name("weights.bin").read_bytes())
    weight = net.block2[0].weight
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))
    return net
