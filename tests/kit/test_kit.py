"""How the kit runs: expected failures, counts, which architectures, and its tests in pytest."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.errors import UnknownNameError
from zoo.plugins.catalogue import open_plugins
from zoo.testing import CHECKS, ConformanceError, Kit, Outcome, check_plugin
from zoo.testing.report import KitReport

MakeKit = Callable[..., Kit]
PLUGINS = Path(__file__).parent / "plugins"


def _outcome(kit: Kit, check_id: str) -> Outcome:
    return next(kit.result(case).outcome for case in kit.cases if case.check.id == check_id)


def test_ids_are_the_functions_names_and_differ() -> None:
    ids = [check.id for check in CHECKS]
    assert len(set(ids)) == len(ids)
    assert all(check.claim.endswith(".") and check.why and check.advice for check in CHECKS)
    assert {needed for check in CHECKS for needed in check.needs} <= set(ids)


def test_ids_are_those_that_were_published() -> None:
    published = Path(__file__).with_name("published_ids.txt").read_text().split()
    assert [check.id for check in CHECKS] == published, "ids are public: add new ones, remove none"


def test_a_declared_failure_does_not_count_against_the_plugin(kit: MakeKit) -> None:
    made = kit("softmax_at_end", expected_failures={"logits_not_probabilities": "a mixture of experts wants it"})
    assert _outcome(made, "logits_not_probabilities") is Outcome.failed_as_expected


def test_a_declared_failure_of_one_architecture_is_that_ones(kit: MakeKit) -> None:
    made = kit("softmax_at_end", expected_failures={"logits_not_probabilities/net": "a mixture of experts wants it"})
    assert _outcome(made, "logits_not_probabilities") is Outcome.failed_as_expected


def test_a_declared_failure_that_passes_fails(kit: MakeKit) -> None:
    made = kit("good_plugin", expected_failures={"output_shape": "not yet"})
    assert _outcome(made, "output_shape") is Outcome.passed_unexpectedly
    result = made.result(next(case for case in made.cases if case.check.id == "output_shape"))
    assert result.counts_against
    assert "Remove 'output_shape/net' from expected_failures" in result.text()


def test_what_needs_a_declared_failure_is_run_all_the_same(kit: MakeKit) -> None:
    made = kit("always_drops", expected_failures={"eval_deterministic": "it is Bayesian"})
    assert _outcome(made, "batch_of_one") is Outcome.failed


def test_what_needs_a_failed_check_is_not_run_and_says_so(kit: MakeKit) -> None:
    made = kit("always_drops")
    assert _outcome(made, "batch_of_one") is Outcome.not_run
    report = KitReport(
        "p", tuple(made.result(case) for case in made.cases if case.check.id == "batch_of_one"), ("net",)
    )
    assert "it needs eval_deterministic/net" in report.text()


def test_an_expected_failure_of_no_check_is_refused(kit: MakeKit) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'output_shape"):
        kit("good_plugin", expected_failures={"output_shapes": "typing"})


def test_an_architecture_that_is_not_there_is_refused(kit: MakeKit) -> None:
    with pytest.raises(UnknownNameError, match="has no architecture 'nett'; it has net"):
        kit("good_plugin", architectures=["nett"])


def test_no_check_run_is_a_failure() -> None:
    report = KitReport("plugin 'nothing'", (), ())
    assert not report.passed
    assert "0 checks: none was run" in report.text()


def test_no_architecture_left_to_check_is_a_failure(kit: MakeKit) -> None:
    report = kit("no_architectures").report()
    assert not report.passed
    assert report.text().startswith("plugin 'no_architectures' (no_architectures): checked no architecture")


def test_a_failure_says_what_was_found_why_it_matters_and_what_to_do(kit: MakeKit) -> None:
    made = kit("thousand_classes")
    result = made.result(next(case for case in made.cases if case.check.id == "builds_for_class_counts"))
    text = " ".join(result.text().split())
    assert "found for num_classes=1 two images gave an output of shape (2, 1000)" in text
    assert f"why {result.check.why}" in text
    assert f"do {result.check.advice}" in text


def test_the_smallest_architecture_of_each_kind_is_checked() -> None:
    kit = Kit(open_plugins(), "resnet")
    assert {case.architecture for case in kit.cases} == {"", "resnet18"}
    everything = Kit(open_plugins(), "resnet", architectures="all")
    assert len({case.architecture for case in everything.cases}) == 11


def test_check_plugin_raises_with_the_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(PLUGINS)
    registry = tmp_path / "registry.toml"
    registry.write_text('[plugins.broken]\nmodule = "misspelt_hook"\n')
    with pytest.raises(ConformanceError, match="there is no hook 'zoo_stagess'") as raised:
        check_plugin("broken", registry=registry)
    assert raised.value.report.counts["failed"] == 1


def test_an_author_gets_one_pytest_test_a_check(tmp_path: Path) -> None:
    (tmp_path / "registry.toml").write_text(
        '[plugins.good]\nmodule = "good_plugin"\n[plugins.wrong]\nmodule = "always_drops"\n'
    )
    (tmp_path / "test_author.py").write_text(
        textwrap.dedent(
            """
            from zoo.testing import parametrize_checks

            @parametrize_checks("good", registry="registry.toml")
            def test_good(check):
                check()

            @parametrize_checks("wrong", registry="registry.toml", expected_failures={
                "eval_deterministic": "it is Bayesian", "builds": "passes in truth"})
            def test_wrong(check):
                check()
            """
        )
    )
    # Without the checks that start a process of their own, which take seconds.
    apart = ["torch_free_import", "no_network", "no_files", "leaves_process_alone"]
    apart += ["facts_constant", "deterministic_build"]
    chosen = " and ".join(f"not {check}" for check in apart)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "-k", chosen, "test_author.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PLUGINS)},
    )
    lines = ran.stdout.splitlines()
    assert "PASSED test_author.py::test_good[batch_of_one/net]" in lines, ran.stdout
    assert sum(line.startswith("PASSED test_author.py::test_good") for line in lines) == len(CHECKS) - len(apart)
    assert any(line.startswith("XFAIL test_author.py::test_wrong[eval_deterministic/net]") for line in lines)
    assert any(line.startswith("FAILED test_author.py::test_wrong[builds/net]") for line in lines)
    assert any(line.startswith("FAILED test_author.py::test_wrong[batch_of_one/net]") for line in lines)


def test_importing_the_kit_imports_neither_torch_nor_pytest() -> None:
    code = "import sys, zoo.testing; sys.exit(' '.join({'torch', 'pytest'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == "\n"
