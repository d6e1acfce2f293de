"""The hooks of a built-in plugin, called as zoo calls them: by keyword, with the defaults behind them."""

import importlib
from collections.abc import Callable

import pluggy
import pytest

import zoo.defaults
import zoo.hookspecs


@pytest.fixture(scope="session")
def hooks_of() -> Callable[[str], pluggy.HookRelay]:
    """Give the hooks of a plugin module, for example ``hooks_of("zoo_resnet")``."""

    def hooks(module_name: str) -> pluggy.HookRelay:
        manager = pluggy.PluginManager(zoo.hookspecs.PROJECT)
        manager.add_hookspecs(zoo.hookspecs)
        manager.register(zoo.defaults)
        manager.register(importlib.import_module(module_name))
        manager.check_pending()
        return manager.hook

    return hooks
