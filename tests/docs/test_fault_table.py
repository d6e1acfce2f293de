"""The table of faults names tests that exist, and has a row for each of the 24 faults."""

import re
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_PAGE = (_ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
_ROWS = [line for line in _PAGE.splitlines() if re.match(r"\| \d", line)]


def test_every_fault_has_one_row() -> None:
    assert sorted(int(row.split("|")[1]) for row in _ROWS) == list(range(1, 25))


def test_every_named_test_exists() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (_ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"^def (test_\w+)\(|^(Test\w+) =", source, flags=re.MULTILINE))
    names = {name for found in defined for name in found if name}
    for row in _ROWS:
        named = re.findall(r"`([Tt]est_?\w+)`", row.rsplit("|", 2)[1])
        assert named, row
        assert set(named) <= names, sorted(set(named) - names)
