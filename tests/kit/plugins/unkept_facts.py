"""A note with half a character, as a broken decoder leaves it: it has no JSON."""

import dataclasses

from good_plugin import *  # noqa: F403
from good_plugin import NET

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_architectures():
    return [dataclasses.replace(NET, note="half a character: \ud83d")]
