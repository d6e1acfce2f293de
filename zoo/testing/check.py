"""What a check is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from zoo.testing.subject import Subject

Scope = Literal["plugin", "architecture"]


class CheckFailedError(AssertionError):
    """A plugin does not keep what a check asks; the message says what was found."""


class NotApplicable(Exception):  # noqa: N818  # no error: there is nothing to check
    """There is nothing to check here; the message says why."""


class KitWarning(UserWarning):
    """A check that only warns found something."""


@dataclass(frozen=True)
class Check:
    """One thing that every plugin keeps.

    Attributes:
        id: Its public, stable name.
        claim: What is true of a plugin that passes.
        why: What goes wrong for a user otherwise.
        advice: What an author does about a failure.
        run: Raises :class:`CheckFailedError`, or anything else, where the claim does not hold.
        needs: Ids of the checks without which this one would only fail for the same reason again.
        scope: Whether it runs once, or once for each architecture.
        warns: A failure is a warning.
    """

    id: str
    claim: str
    why: str
    advice: str
    run: Callable[[Subject], None]
    needs: tuple[str, ...] = ()
    scope: Scope = "architecture"
    warns: bool = False


def check(
    *, why: str, advice: str, needs: Sequence[str] = ("builds",), scope: Scope = "architecture", warns: bool = False
) -> Callable[[Callable[[Subject], None]], Check]:
    """Make a check of a function: its name is the id, the first line of its docstring the claim."""

    def decorate(function: Callable[[Subject], None]) -> Check:
        claim = (inspect.getdoc(function) or "").partition("\n")[0]
        return Check(function.__name__, claim, why, advice, function, tuple(needs), scope, warns)

    return decorate


def fail_unless(holds: object, found: str) -> None:
    """Fail a check with what was found."""
    if not holds:
        raise CheckFailedError(found)
