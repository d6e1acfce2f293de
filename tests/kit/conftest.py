"""The kit of the plugins that lie in ``tests/kit/plugins``, which are not installed."""

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from zoo.plugins import Plugins
from zoo.registry import load_registry
from zoo.testing import Kit

PLUGINS = Path(__file__).parent / "plugins"


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Kit]:
    """Make the kit of one of the plugins."""
    monkeypatch.syspath_prepend(PLUGINS)

    def make(name: str, **settings: Any) -> Kit:
        point = EntryPoint(name, name, "zoo.plugins")
        return Kit(Plugins(load_registry(), entry_points=[point]), name, **settings)

    return make
