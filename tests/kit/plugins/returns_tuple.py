"""In eval mode it gives its auxiliary logits too."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Net

    class Both(Net):
        def forward(self, x):
            x = self.block1(x)
            return self.head(self.pool(self.block2(x))), self.aux(x)

    return Both(num_classes, in_channels, width=options["width"])
