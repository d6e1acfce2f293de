"""Its facts are those of one process, the same at every call."""

import dataclasses
import os

from good_plugin import *  # noqa: F403
from good_plugin import NET

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_architectures():
    return [dataclasses.replace(NET, note=f"listed by process {os.getpid()}")]
