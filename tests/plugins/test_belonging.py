"""A plugin's module is its own distribution's, and names that look alike are told apart."""

import sys
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import BrokenPluginError, PluginConflictError
from zoo.plugins import PluginState
from zoo.plugins.entry_points import find_entry_points


def _names(found: Any) -> set[str]:
    return {architecture.full_name for architecture in found.architectures()}


def test_a_module_that_another_package_put_in_the_way_answers_for_nobody(site: Any) -> None:
    site.install("zoo-resnet", "1.0", {"resnet": "zoo_resnet"}, {"zoo_resnet": site.good}, record=["zoo_resnet.py"])
    before = sys.modules.pop("zoo_resnet", None)
    try:
        found = site.plugins()
        assert "resnet/tiny" not in _names(found)
        record = found.record("resnet")
        assert (record.distribution, record.state) == ("torch-zoo", PluginState.broken)
        assert f"its module zoo_resnet is not its own: Python finds it in {site.folder}" in record.error
        assert "zoo_resnet" not in sys.modules
    finally:
        if before is not None:
            sys.modules["zoo_resnet"] = before


def test_an_entry_point_cannot_borrow_a_module_of_another_distribution(site: Any) -> None:
    site.install("a-zoo", "1.0", {"lab": "lab"}, {"lab": site.good}, record=["lab.py"])
    site.install("zoo-zzz", "1.0", {"zzz": "lab"}, record=["other.py"])
    site.install("zoo-yyy", "1.0", {"yyy": "zoo_vgg"})
    found = site.plugins()
    assert {"lab/tiny", "vgg/vgg11"} <= _names(found)
    for name in ("zzz", "yyy"):
        assert "is not its own" in found.record(name).error
        with pytest.raises(BrokenPluginError, match="Rename the module"):
            found.hooks(name)


def test_two_distributions_that_wrote_one_module_are_a_conflict(site: Any) -> None:
    site.install("a-zoo", "1.0", {"lab": "lab"}, {"lab": site.good}, record=["lab.py"])
    site.install("b-zoo", "2.0", {"other": "lab"}, record=["lab.py"])
    found = site.plugins()
    assert not {"lab/tiny", "other/tiny"} & _names(found)
    assert {found.record(name).state for name in ("lab", "other")} == {PluginState.conflict}
    with pytest.raises(PluginConflictError, match=r"plugin 'other' of b-zoo 2\.0 are one module, lab"):
        found.hooks("lab")


def test_an_editable_installation_owns_what_lies_below_its_source(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = type(site)(tmp_path / "so urce" / "src")
    source.folder.mkdir(parents=True)
    monkeypatch.syspath_prepend(source.folder)
    (source.folder / "lab.py").write_text(site.good.replace("\n    ", "\n"))
    url = Path(str(source.folder.parent).replace(" ", "%20"))
    site.install("lab-zoo", "1.0", {"lab": "lab"}, record=["_lab.pth"], editable=url)
    assert "lab/tiny" in _names(site.plugins())
    site.uninstall("lab-zoo")
    site.install("lab-zoo", "1.0", {"lab": "lab"}, record=["_lab.pth"], editable=tmp_path / "elsewhere")
    assert "lab/tiny" not in _names(site.plugins())
    source.forget_modules()


def test_no_distribution_poses_as_zoos_own(site: Any) -> None:
    site.install("Torch_Zoo", "9", {"resnet": "fake"}, {"fake": site.good})
    assert find_entry_points("zoo.plugins").versions["torch-zoo"] != "9"
    found = site.plugins()
    assert {"resnet/resnet18", "vgg/vgg11"} <= _names(found)
    assert "fake" not in sys.modules


def test_plugin_names_that_differ_only_in_case_are_a_conflict_unless_one_is_pinned(site: Any) -> None:
    site.install("a-zoo", "1.0", {"lab": "lab"}, {"lab": site.good})
    site.install("b-zoo", "1.0", {"LAB": "lab2", "Resnet": "lab3"}, {"lab2": site.good, "lab3": site.good})
    found = site.plugins()
    assert not {"lab/tiny", "LAB/tiny", "Resnet/tiny"} & _names(found)
    assert "resnet/resnet18" in _names(found)
    for name in ("lab", "LAB", "Resnet"):
        assert found.record(name).state is PluginState.conflict
        assert "differ only in case" in found.record(name).error
    assert "'LAB' of b-zoo and 'lab' of a-zoo" in found.record("lab").error
    settled = site.plugins("[plugins.lab]\ndistribution = 'a-zoo'")
    assert "lab/tiny" in _names(settled)
    assert "LAB/tiny" not in _names(settled)


def test_architectures_that_differ_only_in_case_are_refused(site: Any) -> None:
    code = site.good.replace("return [", 'return [Architecture(name="Tiny", family="lab"), ')
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": code})
    found = site.plugins()
    found.architectures()
    assert "it lists 'Tiny' and 'tiny', which differ only in case" in found.record("lab").error
