"""Its facts are of the moment."""

import dataclasses
import time

from good_plugin import *  # noqa: F403
from good_plugin import NET

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_architectures():
    return [dataclasses.replace(NET, note=f"listed at {time.perf_counter_ns()}")]
