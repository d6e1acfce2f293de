"""What `import zoo` gives."""

import subprocess
import sys

import pytest

import zoo


def test_public_names_are_sorted_and_there() -> None:
    assert list(zoo.__all__) == sorted(zoo.__all__)
    assert all(getattr(zoo, name).__doc__ for name in zoo.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fintune'"):
        _ = zoo.fintune


def test_the_functions_stay_functions_when_everything_is_imported() -> None:
    code = "import zoo.cli.finetune, zoo.cli.evaluate, zoo.jobs.demo; zoo.finetune.__code__, zoo.evaluate.__code__"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
