"""A plugin that keeps everything; the wrong ones are this one with one thing changed."""

from __future__ import annotations

from zoo.architecture import Architecture, Option, Preprocessing
from zoo.hookspecs import hookimpl

ZOO_HOOK_API = 1
NET = Architecture(
    name="net",
    family="tests",
    preprocessing=Preprocessing(input_size=(3, 16, 16)),
    options=(
        Option(name="width", default=4, minimum=2, maximum=8, help="channels of the first block"),
        Option(name="dropout", default=0.1, minimum=0.0, maximum=0.5, help="share dropped in the head"),
    ),
    smallest_input=4,
    smallest_training_input=4,
)


@hookimpl
def zoo_architectures():
    return [NET]


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Net

    return Net(num_classes, in_channels, width=options["width"], dropout=options["dropout"])


@hookimpl
def zoo_stages(model):
    from good_model import stages

    return stages(model)
