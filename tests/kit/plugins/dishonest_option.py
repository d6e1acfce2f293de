"""An option allows what the network refuses."""

import dataclasses

from good_plugin import *  # noqa: F403
from good_plugin import NET

from zoo.architecture import Option
from zoo.hookspecs import hookimpl

DROPOUT = Option(name="dropout", default=0.1, minimum=0.0, maximum=1.5, help="share dropped in the head")


@hookimpl
def zoo_architectures():
    return [dataclasses.replace(NET, options=(NET.options[0], DROPOUT))]
