"""The tutorial for authors of plugins does what it says, in an environment of its own."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TUTORIAL = Path(__file__).parents[2] / "docs" / "plugins" / "tutorial.md"
_OFFLINE = "--quiet --no-deps --no-index --no-build-isolation"
# Language, what follows it, and the text up to the closing fence.
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _shell(environment: Any) -> dict[str, str]:
    """Variables under which the commands of the tutorial act on an environment of its own, off the network."""
    python = environment.python
    scripts = {
        "zoo": f'exec "{python}" -m zoo "$@"',
        "pytest": f'exec "{python}" -m pytest -p no:cacheprovider "$@"',
        "pip": f'exec "{sys.executable}" -m pip --python "{python}" "$@" {_OFFLINE}',
    }
    for name, line in scripts.items():
        (python.parent / name).write_text(f"#!/bin/sh\n{line}\n")
        (python.parent / name).chmod(0o755)
    return dict(environment.variables)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_step_of_the_tutorial_runs(environment: Any, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    said, shell = "", _shell(environment)
    for language, rest, text in BLOCK.findall(TUTORIAL.read_text(encoding="utf-8")):
        if title := re.search(r'title="([^"]+)"', rest):
            (folder / title[1]).write_text(text)
        elif language == "bash":
            code = int(found[1]) if (found := re.search(r"exit=(\d+)", rest)) else 0
            ran = subprocess.run(["bash", "-e", "-c", text], cwd=folder, env=shell, capture_output=True, text=True)
            assert ran.returncode == code, f"{text}\n{ran.stdout}\n{ran.stderr}"
            said += ran.stdout
    assert "stages_compose/lab_net: failed" in said
    assert "38 passed, 1 not applicable" in said
    assert "lab/lab_net" in said
    assert "verified" in said


def test_the_tutorial_shows_what_the_template_holds() -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    template = (TUTORIAL.parents[2] / "zoo/plugins/template/@PACKAGE@/__init__.py.template").read_text()
    for line in ('Option(name="width", default=16, minimum=4, maximum=256', "Preprocessing(input_size=(3, 32, 32))"):
        assert line in text
        assert line in template
