"""A hook with a letter too many, which would be silently never called."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_stagess(model):
    return []
