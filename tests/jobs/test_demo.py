"""The demo does the whole job and says so."""

import json
from pathlib import Path

import pytest

from zoo.cli.app import cli


@pytest.mark.slow
def test_the_demo_transfers_convolutions_to_new_digits(tmp_path: Path) -> None:
    from click.testing import CliRunner

    found = CliRunner().invoke(cli, ["demo", "--json", "--output", str(tmp_path / "demo")])
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document["test"]["accuracy"] >= 0.97
    assert document["verified"] is True
    assert document["frozen_stages"] == 4
    assert Path(document["artifact"]).is_file()
