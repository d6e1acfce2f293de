"""Its facts allow images that its poolings leave nothing of."""

import dataclasses

from good_plugin import *  # noqa: F403
from good_plugin import NET

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_architectures():
    return [dataclasses.replace(NET, smallest_input=2)]
