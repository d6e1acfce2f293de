"""Write docs/plugins/kit-tables.md: what the kit finds in zoo's own plugins, and in deliberately wrong ones.

``python scripts/generate_kit_tables.py`` runs the kit over the plugins, which takes minutes. ``--wrong`` keeps what the
page says of them and writes only the table of wrong plugins anew, from FAILS in tests/kit/test_wrong_plugins.py.
"""

import argparse
import ast
import runpy
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch

from zoo.plugins.catalogue import open_plugins
from zoo.testing import CHECKS, Kit, KitReport, Outcome, Result

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "plugins" / "kit-tables.md"
WRONG = ROOT / "tests" / "kit"
# None: what the kit chooses by itself, the smallest of each kind. Of timm's families a sample of small members.
COLUMNS: Mapping[str, Sequence[str] | None] = MappingProxyType(
    {
        "simple_cnn": None,
        "resnet": ("resnet18",),
        "vgg": ("vgg11_bn",),
        "inception": ("googlenet", "inception_v3"),
        "efficientnet": ("efficientnet_b0",),
        "timm": (
            "resnet10t",
            "vit_tiny_patch16_224",
            "convnext_atto",
            "mobilenetv3_small_050",
            "mixer_s32_224",
            "swin_s3_tiny_224",
        ),
        "tensorboard": None,
        "trackio": None,
    }
)
WORDS = {
    Outcome.passed: "pass",
    Outcome.failed: "**fail**",
    Outcome.warned: "**warn**",
    Outcome.not_applicable: "n/a",
    Outcome.not_run: "**not run**",
}
WRONG_TITLE = "## Deliberately wrong plugins"


def page(built_in: str) -> str:
    """The whole page around the part about zoo's own plugins."""
    return f"""# What the kit finds

The [checks](checks.md) of `zoo plugins check`, run over zoo's own plugins, and over plugins that are wrong on purpose.
Written by `scripts/generate_kit_tables.py`.

{built_in}

{wrong_plugins()}
"""


def run_kit(plugin: str) -> KitReport:
    """The report of one column."""
    return Kit(open_plugins(), plugin, architectures=COLUMNS[plugin]).report()


def built_in_plugins(reports: Mapping[str, KitReport]) -> str:
    """The table of checks and zoo's own plugins, and the reason of everything that is no pass."""
    columns = {plugin: column(report) for plugin, report in reports.items()}
    lines = [
        "## zoo's own plugins",
        "",
        "A cell counts architectures, or says what a check of the whole plugin came to. They stand for their families:",
        "",
        *(f"- **{plugin}**: {', '.join(report.checked) or 'callbacks only'}" for plugin, report in reports.items()),
        "",
        _row("check", columns),
        _row("---", ["---"] * len(columns)),
        *(_row(f"[{check.id}](checks.md#{check.id})", [c[check.id] for c in columns.values()]) for check in CHECKS),
        "",
    ]
    results = [(plugin, result) for plugin, report in reports.items() for result in report.results]
    lines += [f"All in all {_counts(Counter(result.outcome for _, result in results))}.", "", *_reasons(results)]
    return "\n".join(lines)


def column(report: KitReport) -> dict[str, str]:
    """The cells of one plugin by check."""
    cells = {}
    for check in CHECKS:
        counted = Counter(result.outcome for result in report.results if result.check.id == check.id)
        whole = check.scope == "plugin"
        cells[check.id] = ", ".join(WORDS[one] for one in counted) if whole else _counts(counted)
    return cells


def wrong_plugins() -> str:
    """The table of wrong plugins: what is wrong, and which checks notice it."""
    fails = runpy.run_path(str(WRONG / "test_wrong_plugins.py"))["FAILS"]
    lines = [
        WRONG_TITLE,
        "",
        f"Each of these {len(fails)} plugins is a right one with one thing changed, and fails the checks named "
        "here and no other; what needs one of these is not run. Every check is failed by at least one.",
        "",
        _row("plugin", ["what is wrong with it", "checks that fail"]),
        _row("---", ["---"] * 2),
    ]
    order = [check.id for check in CHECKS]
    for name, failed in fails.items():
        links = [f"[{check}](checks.md#{check})" for check in sorted(failed, key=order.index)]
        lines.append(_row(name, [_first_line(WRONG / "plugins" / f"{name}.py"), ", ".join(links)]))
    return "\n".join(lines)


def built_in_part(text: str) -> str:
    """What a page says of zoo's own plugins."""
    return "## " + text.partition("\n## ")[2].partition(f"\n{WRONG_TITLE}")[0].strip()


def _counts(counted: Mapping[Outcome, int]) -> str:
    return ", ".join(f"{counted[outcome]} {word}" for outcome, word in WORDS.items() if counted[outcome]) or "–"


def _reasons(results: Sequence[tuple[str, Result]]) -> list[str]:
    """A line for everything that is no pass: the check, what became of it, why, and where."""
    reasons: dict[tuple[str, Outcome, str], list[str]] = {}
    for plugin, result in results:
        if result.outcome is not Outcome.passed:
            key = (result.check.id, result.outcome, result.detail)
            reasons.setdefault(key, []).append(result.architecture or plugin)
    return [
        f"- {check}, {WORDS[outcome]}: {detail} ({', '.join(where)})"
        for (check, outcome, detail), where in reasons.items()
    ]


def _row(first: str, others: Sequence[str] | Mapping[str, object]) -> str:
    return f"| {' | '.join([first, *others])} |"


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wrong", action="store_true", help="keep what the page says of zoo's own plugins")
    if parser.parse_args().wrong:
        built_in = built_in_part(PAGE.read_text(encoding="utf-8"))
    else:
        torch.set_num_threads(1)
        built_in = built_in_plugins({plugin: run_kit(plugin) for plugin in COLUMNS})
    PAGE.write_text(page(built_in), encoding="utf-8")


if __name__ == "__main__":
    main()
