"""It exports other names, and imports them as they are."""

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_export_state(model):
    return {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
