"""The page of what the kit finds says what it finds."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
TABLES = SimpleNamespace(**runpy.run_path(str(ROOT / "scripts" / "generate_kit_tables.py")))
PAGE = ROOT / "docs" / "plugins" / "kit-tables.md"


def test_the_table_of_wrong_plugins_is_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    wanted = TABLES.page(TABLES.built_in_part(text))
    assert text == wanted, "run python scripts/generate_kit_tables.py --wrong"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("plugin", TABLES.COLUMNS)
def test_the_table_of_zoo_s_own_plugins_is_current(plugin: str) -> None:
    report = TABLES.run_kit(plugin)
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| [")]
    position = 1 + list(TABLES.COLUMNS).index(plugin)
    written = {row[0].partition("[")[2].partition("]")[0]: row[position].removesuffix(" |") for row in rows}
    assert TABLES.column(report) == written, report.text()
