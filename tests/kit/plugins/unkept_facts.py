"""An option without an end, infinity: it has no JSON."""

import dataclasses

from good_plugin import *  # noqa: F403
from good_plugin import NET

from zoo.architecture import Option
from zoo.hookspecs import hookimpl

SCALE = Option(name="scale", default=float("inf"), help="scale")


@hookimpl
def zoo_architectures():
    return [dataclasses.replace(NET, options=(*NET.options, SCALE))]
