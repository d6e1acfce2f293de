"""The conformance kit for authors of plugins.

In a test of a plugin package::

    from zoo.testing import parametrize_checks

    @parametrize_checks("lab")
    def test_conformance(check):
        check()

or all at once, as ``zoo plugins check lab`` does::

    from zoo.testing import check_plugin

    def test_conformance():
        check_plugin("lab")

No fixtures, and pytest is imported only by :func:`parametrize_checks`. The ids of the checks are public and stay; a
check that is added only warns for one minor release. What a plugin cannot keep is declared with a reason, strictly: a
declared failure that passes fails::

    check_plugin("lab", expected_failures={"bfloat16_close": "its attention needs float32"})
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.testing.check import Check, CheckFailedError, KitWarning
    from zoo.testing.checks import CHECKS
    from zoo.testing.kit import ConformanceError, Kit, check_plugin, parametrize_checks
    from zoo.testing.report import KitReport, Outcome, Result

__all__ = [
    "CHECKS",
    "Check",
    "CheckFailedError",
    "ConformanceError",
    "Kit",
    "KitReport",
    "KitWarning",
    "Outcome",
    "Result",
    "check_plugin",
    "parametrize_checks",
]

_HOMES = {
    "CHECKS": "checks",
    "Check": "check",
    "CheckFailedError": "check",
    "ConformanceError": "kit",
    "Kit": "kit",
    "KitReport": "report",
    "KitWarning": "check",
    "Outcome": "report",
    "Result": "report",
    "check_plugin": "kit",
    "parametrize_checks": "kit",
}


# As in zoo itself: the process in which a plugin is watched imports from here before torch may be there.
def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zoo.testing' has no attribute {name!r}")
    return getattr(import_module(f"zoo.testing.{_HOMES[name]}"), name)
