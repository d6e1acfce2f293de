"""Running the checks: which there are for a plugin, in which order, and what each came to."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from zoo.errors import PluginError, UnknownNameError, did_you_mean
from zoo.plugins import Plugins
from zoo.plugins.catalogue import open_plugins
from zoo.progress import Progress, Silent
from zoo.testing.check import Check, CheckFailedError, KitWarning, NotApplicable
from zoo.testing.checks import CHECKS
from zoo.testing.report import KitReport, Outcome, Result
from zoo.testing.selection import Wanted, select
from zoo.testing.subject import PluginUnderTest, Subject

if TYPE_CHECKING:
    import pytest


class ConformanceError(AssertionError):
    """A plugin does not keep the contract; the message is the report's text.

    Attributes:
        report: What the kit found.
    """

    def __init__(self, report: KitReport) -> None:
        super().__init__(report.text())
        self.report = report


def check_plugin(
    name: str,
    *,
    expected_failures: Mapping[str, str] | None = None,
    architectures: Wanted = None,
    registry: str | Path | None = None,
) -> KitReport:
    """Run every check on an installed plugin and print the counts.

    Args:
        name: The plugin, for example ``"lab"``.
        expected_failures: Reasons by the id of a check, ``"bfloat16_close"``, or of a check on one architecture,
            ``"bfloat16_close/lab_net"``. They have to fail.
        architectures: Which to check: names, ``"all"``, or None for the smallest of each kind.
        registry: A registry.toml that goes before all others.

    Returns:
        What became of every check, when none counts against the plugin.

    Raises:
        ConformanceError: A check failed, or passed that was expected to fail, or none was run.
        UnknownNameError: There is no plugin, architecture or check of a name.
    """
    kit = Kit(open_plugins(registry), name, expected_failures=expected_failures, architectures=architectures)
    report = kit.report()
    print(report.summary())
    if not report.passed:
        raise ConformanceError(report)
    return report


def parametrize_checks(
    name: str,
    *,
    expected_failures: Mapping[str, str] | None = None,
    architectures: Wanted = None,
    registry: str | Path | None = None,
) -> pytest.MarkDecorator:
    """Make one pytest test of every check: a decorator for ``def test_conformance(check): check()``.

    Arguments are those of :func:`check_plugin`. A declared failure shows as xfailed, one that passes fails. A check
    that another one stands before shows as skipped when that one failed.
    """
    import pytest

    kit = Kit(open_plugins(registry), name, expected_failures=expected_failures, architectures=architectures)
    return pytest.mark.parametrize("check", [pytest.param(_AsTest(kit, case), id=case.id) for case in kit.cases])


@dataclass(frozen=True)
class Case:
    """A check to be run on the whole plugin, or on one architecture."""

    check: Check
    architecture: str = ""

    @property
    def id(self) -> str:
        """As :attr:`Result.id`."""
        return f"{self.check.id}/{self.architecture}" if self.architecture else self.check.id


class Kit:
    """All checks of one plugin, each run once.

    Args:
        plugins: Where the plugin is.
        name: Its name.
        expected_failures: As for :func:`check_plugin`.
        architectures: As for :func:`check_plugin`.

    Attributes:
        cases: What there is to run.

    Raises:
        UnknownNameError: There is no plugin, architecture or check of a name.
        UsageError: The registry disables the plugin.
    """

    def __init__(
        self,
        plugins: Plugins,
        name: str,
        *,
        expected_failures: Mapping[str, str] | None = None,
        architectures: Wanted = None,
    ) -> None:
        self._plugin = PluginUnderTest(plugins, name)
        self._expected = dict(expected_failures or {})
        self._results: dict[str, Result] = {}
        self._chosen = architectures is not None
        self._label = plugins.record(name).label
        try:
            self._plugin.checked = select(self._plugin, architectures)
            self._label = self._plugin.hooks.record.label
        except PluginError:  # the first checks tell
            self._plugin.checked = ()
        self.cases = self._cases()
        known = {case.id for case in self.cases} | {check.id for check in CHECKS}
        for asked in self._expected:
            if asked not in known:
                raise UnknownNameError(
                    f"expected_failures names {asked!r}, which is no check of plugin {name!r}."
                    f"{did_you_mean(asked, known)}"
                )

    def result(self, case: Case) -> Result:
        """What a check came to; runs it, and those it needs, where that was not done before."""
        if case.id not in self._results:
            self._results[case.id] = self._run(case)
        return self._results[case.id]

    def report(self, *, progress: Progress = Silent()) -> KitReport:
        """Run everything that was not run before."""
        results = []
        with progress.task("checking", len(self.cases), unit="checks") as advance:
            for case in self.cases:
                results.append(self.result(case))
                advance(1)
        unchecked = 0
        if self._plugin.checked:
            unchecked = len(self._plugin.architectures) - len(self._plugin.checked)
        return KitReport(self._label, tuple(results), self._plugin.checked, unchecked, self._chosen)

    def _cases(self) -> tuple[Case, ...]:
        cases = [Case(check) for check in CHECKS if check.scope == "plugin"]
        for name in self._plugin.checked:
            cases += [Case(check, name) for check in CHECKS if check.scope == "architecture"]
        return tuple(cases)

    def _run(self, case: Case) -> Result:
        for needed in self._needed(case):
            if self.result(needed).outcome in (Outcome.failed, Outcome.not_run):
                return Result(case.check, case.architecture, Outcome.not_run, f"it needs {needed.id}")
        detail, cause = "", None
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                case.check.run(self._subject(case))
            outcome = Outcome.passed
        except NotApplicable as nothing:
            return Result(case.check, case.architecture, Outcome.not_applicable, str(nothing))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            outcome = Outcome.warned if case.check.warns else Outcome.failed
            detail, cause = _found(error), error
        reason = self._expected.get(case.id, self._expected.get(case.check.id))
        if reason is not None:
            if outcome is Outcome.passed:
                return Result(case.check, case.architecture, Outcome.passed_unexpectedly, f"expected to fail: {reason}")
            return Result(case.check, case.architecture, Outcome.failed_as_expected, reason, cause)
        return Result(case.check, case.architecture, outcome, detail, cause)

    def _needed(self, case: Case) -> list[Case]:
        checks = {check.id: check for check in CHECKS}
        return [
            Case(checks[needed], case.architecture if checks[needed].scope == "architecture" else "")
            for needed in case.check.needs
        ]

    def _subject(self, case: Case) -> Subject:
        if not case.architecture:
            return Subject(self._plugin)
        found = next(a for a in self._plugin.architectures if a.name == case.architecture)
        return Subject(self._plugin, found)


class _AsTest:
    """One check as pytest calls it."""

    def __init__(self, kit: Kit, case: Case) -> None:
        self._kit = kit
        self._case = case

    def __call__(self) -> None:
        import pytest

        result = self._kit.result(self._case)
        reactions: dict[Outcome, Callable[[str], object]] = {
            Outcome.failed_as_expected: pytest.xfail,
            Outcome.not_run: pytest.skip,
            Outcome.warned: lambda _: warnings.warn(result.text(), KitWarning, stacklevel=3),
        }
        if result.outcome in reactions:
            reactions[result.outcome](result.detail)
        elif result.counts_against:
            raise CheckFailedError(f"\n{result.text()}") from result.cause

    def __repr__(self) -> str:
        return self._case.id


def _found(error: BaseException) -> str:
    if isinstance(error, CheckFailedError | PluginError):
        return str(error)
    return f"{type(error).__name__}: {error}"
