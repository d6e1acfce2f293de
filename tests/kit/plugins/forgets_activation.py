"""forward does something between the modules that no stage does."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Net

    class Activated(Net):
        def forward(self, x):
            return self.head(self.pool(self.block2(self.block1(x))).tanh())

    return Activated(num_classes, in_channels, width=options["width"])
