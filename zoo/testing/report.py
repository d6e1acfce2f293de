"""What became of the checks, as data and as text."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from zoo.testing.check import Check

_WIDTH = 110


class Outcome(StrEnum):
    """What became of one check."""

    passed = "passed"
    failed = "failed"
    warned = "warned"
    failed_as_expected = "failed as expected"
    passed_unexpectedly = "passed unexpectedly"
    not_applicable = "not applicable"
    not_run = "not run"


@dataclass(frozen=True)
class Result:
    """One check on one plugin or architecture.

    Attributes:
        check: The check.
        architecture: The architecture; empty for a check of the whole plugin.
        outcome: What became of it.
        detail: What was found, why it was not run, or why it was expected to fail.
        cause: The exception behind a failure.
    """

    check: Check
    architecture: str
    outcome: Outcome
    detail: str = ""
    cause: BaseException | None = None

    @property
    def id(self) -> str:
        """The check's id, and the architecture's name behind a slash."""
        return f"{self.check.id}/{self.architecture}" if self.architecture else self.check.id

    @property
    def counts_against(self) -> bool:
        """Whether the plugin does not pass because of it."""
        return self.outcome in (Outcome.failed, Outcome.passed_unexpectedly, Outcome.not_run)

    def text(self) -> str:
        """What was found, why it matters and what to do."""
        return "\n".join(
            [
                f"{self.id}: {self.outcome}",
                _paragraph("claim", self.check.claim),
                _paragraph("found", self.detail),
                _paragraph("why", self.check.why),
                _paragraph("do", self._advice),
            ]
        )

    @property
    def _advice(self) -> str:
        if self.outcome is Outcome.passed_unexpectedly:
            return f"Remove {self.id!r} from expected_failures."
        return self.check.advice


@dataclass(frozen=True)
class KitReport:
    """What the kit found out about a plugin.

    Attributes:
        plugin: Its name, distribution and version.
        results: One for each check, or for each check and architecture.
        checked: The architectures that were checked.
        unchecked: How many others the plugin has.
        chosen: Whether those checked were asked for; else they are the smallest of each kind.
    """

    plugin: str
    results: tuple[Result, ...]
    checked: tuple[str, ...]
    unchecked: int = 0
    chosen: bool = False

    @property
    def passed(self) -> bool:
        """Whether checks were run and none counts against the plugin."""
        ran = any(result.outcome not in (Outcome.not_run, Outcome.not_applicable) for result in self.results)
        return ran and not any(result.counts_against for result in self.results)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many checks had each outcome."""
        counted = Counter(result.outcome for result in self.results)
        return {str(outcome): counted[outcome] for outcome in Outcome if counted[outcome]}

    def failures(self) -> tuple[Result, ...]:
        """The results that count against the plugin and say something of their own."""
        return tuple(
            result for result in self.results if result.counts_against and result.outcome is not Outcome.not_run
        )

    def summary(self) -> str:
        """One line: how many checks, and what became of them."""
        counted = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items())
        return f"{len(self.results)} checks: {counted or 'none was run'}"

    def data(self) -> dict[str, object]:
        """The same as :meth:`text`, as data."""
        return {
            "plugin": self.plugin,
            "passed": self.passed,
            "checked": list(self.checked),
            "unchecked": self.unchecked,
            "counts": dict(self.counts),
            "results": [
                {
                    "id": result.id,
                    "outcome": str(result.outcome),
                    "claim": result.check.claim,
                    "found": result.detail,
                    "why": result.check.why,
                    "do": result.check.advice,
                }
                for result in self.results
            ],
        }

    def text(self) -> str:
        """Which architectures were checked, every failure with its reason and remedy, and the counts."""
        lines = [f"{self.plugin}: checked {', '.join(self.checked) or 'no architecture'}"]
        if self.unchecked:
            lines[0] += "" if self.chosen else ", the smallest of each kind"
            lines[0] += f"; {self.unchecked} more were not (--all checks every one)"
        told = (Outcome.failed, Outcome.passed_unexpectedly, Outcome.warned)
        lines += [f"\n{result.text()}" for result in self.results if result.outcome in told]
        kept = [r for r in self.results if r.outcome in (Outcome.failed_as_expected, Outcome.not_run)]
        if kept:
            lines.append("")
            lines += [f"{result.id}: {result.outcome}: {result.detail}" for result in kept]
        return "\n".join([*lines, "", self.summary()])


def _paragraph(label: str, text: str) -> str:
    lead = f"  {label:<6}"
    lines = textwrap.wrap(" ".join(text.split()), _WIDTH - len(lead), break_long_words=False, break_on_hyphens=False)
    return "\n".join((lead if i == 0 else " " * len(lead)) + line for i, line in enumerate(lines or [""]))
