import importlib
import importlib.metadata
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zoo.plugins.hooks
from zoo.architecture import Architecture, Option, Preprocessing, Weights
from zoo.errors import (
    BrokenPluginError,
    HookError,
    IncompatiblePluginError,
    OptionError,
    PluginConflictError,
    UnknownNameError,
    UsageError,
)
from zoo.plugins import Plugins, PluginState
from zoo.plugins.entry_points import find_entry_points, from_metadata
from zoo.plugins.facts import ListedWeights
from zoo.registry import load_registry

# As Site.good of conftest.py, for tables of changes to it.
GOOD = "\n" + indent((Path(__file__).parent / "good_plugin.py").read_text(encoding="utf-8"), "    ")
ARCHITECTURE = Architecture(name="tiny", family="lab", plugin="lab")


def plugins(registry: str = "") -> Plugins:
    if registry:
        path = Path(os.environ["XDG_CONFIG_HOME"]) / "explicit.toml"
        path.write_text(dedent(registry))
        return Plugins(load_registry(path, working_folder=path.parent))
    return Plugins(load_registry(working_folder=Path("/nowhere")))


def full_names(found: Plugins) -> set[str]:
    return {architecture.full_name for architecture in found.architectures()}


# Finding


def test_the_scan_finds_what_importlib_metadata_finds(site: Any) -> None:
    site.install(
        "Lab-Zoo", "1.0", {"lab": "lab", "lab2": "lab.more:plugin"}, requires=["torch>=2", "foo; extra == 'x'"]
    )
    (site.folder / "old.egg-info").mkdir()
    (site.folder / "old.egg-info/PKG-INFO").write_text("Name: old\nVersion: 3\n")
    (site.folder / "old.egg-info/entry_points.txt").write_text("# words\n[zoo.plugins]\n\n old = old [extra]\n")
    (site.folder / "alone.egg-info").write_text("Name: alone\nVersion: 1\n")
    for group in ("zoo.plugins", "console_scripts"):
        found = find_entry_points(group)
        reference = from_metadata(importlib.metadata.entry_points(group=group))
        assert len(found.entry_points) > 2
        assert sorted((p.name, p.value, p.distribution, p.version, p.requires) for p in found.entry_points) == sorted(
            (p.name, p.value, p.distribution, p.version, p.requires) for p in reference
        )
        assert found.versions["lab-zoo"] == "1.0"


def test_of_a_distribution_installed_twice_the_first_on_the_path_counts(site: Any, tmp_path: Path) -> None:
    second = type(site)(tmp_path / "second")
    site.install("lab-zoo", "2.0", {})
    second.install("lab_zoo", "1.0", {"lab": "lab"})
    path = [str(site.folder), str(tmp_path / "absent"), str(second.folder)]
    assert find_entry_points("zoo.plugins", path=path).entry_points == ()
    assert find_entry_points("zoo.plugins", path=path[::-1]).entry_points[0].version == "1.0"


def test_archives_on_the_path_are_looked_into(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "lab.zip", "w") as archive:
        archive.writestr("lab-1.dist-info/METADATA", "Name: lab\nVersion: 1\n")
        archive.writestr("lab-1.dist-info/entry_points.txt", "[zoo.plugins]\nlab = lab\n")
    (found,) = find_entry_points("zoo.plugins", path=[str(tmp_path / "lab.zip")]).entry_points
    assert (found.name, found.value, found.distribution, found.version) == ("lab", "lab", "lab", "1")


def test_a_plugin_shows_and_is_gone_with_its_distribution(site: Any) -> None:
    assert "lab" not in {record.name for record in plugins().records()}
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": GOOD})
    assert "lab/tiny" in full_names(plugins())
    site.uninstall("lab-zoo")
    assert "lab/tiny" not in full_names(plugins())


def test_entry_points_may_be_given(site: Any) -> None:
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": GOOD})
    given_points = [point for point in importlib.metadata.entry_points(group="zoo.plugins") if point.name == "lab"]
    found = Plugins(load_registry(working_folder=Path("/nowhere")), entry_points=given_points)
    assert full_names(found) == {"lab/tiny"}


def test_a_checkout_that_is_not_installed_is_told() -> None:
    nothing = Plugins(load_registry(working_folder=Path("/nowhere")), entry_points=[])
    assert "pip install -e" in nothing.installation_problem()
    with pytest.raises(UnknownNameError, match=r"pip install torch-zoo\. .*pip install -e"):
        nothing.resolve("resnet18")


# Loading


def test_nothing_is_imported_to_list_records_and_only_the_owner_to_use_one(site: Any) -> None:
    site.install("lab-zoo", "1.0", {"lab": "lab", "other": "other"}, {"lab": GOOD, "other": GOOD})
    found = plugins()
    assert found.record("lab").state is PluginState.not_loaded
    assert not {"lab", "other"} & sys.modules.keys()
    assert found.resolve("lab/tiny").architecture.plugin == "lab"
    assert found.record("lab").state is PluginState.not_loaded
    assert "lab" not in sys.modules
    assert found.hooks("lab")
    assert found.record("lab").state is PluginState.loaded
    assert "lab" in sys.modules
    assert "other" not in sys.modules
    assert (found.record("lab").distribution, found.record("lab").version) == ("lab-zoo", "1.0")


BROKEN = {
    "leaves": ("import sys\nsys.exit('bye')", [r"called sys.exit\('bye'\) \(.*leaves.py:2\)"]),
    "syntax": ("def f(:\n", ["raised SyntaxError: invalid syntax", "line 1"]),
    "needs": ("import absent_package", ["No module named 'absent_package'", r"pip install 'absent-dist>=1'"]),
    "raises": ("raise ValueError('no\\x1b[31m\\nluck')", [r"raised ValueError: no\\x1b\[31m luck \(.*raises.py:1\)"]),
    "mute": ("class E(Exception):\n    def __str__(self): raise OSError\nraise E", ["raised E"]),
    "no_api": (GOOD.replace("ZOO_HOOK_API = 1", ""), ["add ZOO_HOOK_API = 1"]),
    "odd_api": (GOOD.replace("ZOO_HOOK_API = 1", "ZOO_HOOK_API = '1'"), ["'1', which is no whole number"]),
    "empty": ("ZOO_HOOK_API = 1", ["has no zoo_architectures, which every plugin needs"]),
    "hook": (
        GOOD.replace("def zoo_build_model", "def zoo_buildmodel"),
        ["no hook 'zoo_buildmodel'.*'zoo_build_model'"],
    ),
    "argument": (GOOD.replace("(num_classes)", "(n_classes)"), ["no argument 'n_classes'.*Did you mean 'num_classes'"]),
    "default": (GOOD.replace("(num_classes)", "(num_classes=9)"), ["argument num_classes=9: .*remove the default"]),
    "named_only": (
        GOOD.replace("model(num_classes)", "model(*, num_classes)"),
        ["argument num_classes: hooks take plain arguments"],
    ),
    "starred": (GOOD.replace("(num_classes)", "(**all)"), [r"argument \*\*all: hooks take plain arguments"]),
    "unmarked": (GOOD.replace("@hookimpl\n    def zoo_build", "def zoo_build"), ["zoo_build_model is not marked"]),
    "wrapper": (
        GOOD.replace("@hookimpl\n    def zoo_build", "@hookimpl(wrapper=True)\n    def zoo_build"),
        ["wrapper"],
    ),
    "nothing": (GOOD.replace("return [Arch", "[Arch"), ["zoo_architectures: it returned nothing instead of a list"]),
    "strings": (
        GOOD.replace('Architecture(name="tiny", family="lab")', "'tiny'"),
        ["listed str where an Architecture"],
    ),
    "twice": (GOOD.replace("return [", "return 2 * ["), ["lists 'tiny' twice"]),
    "path": (GOOD.replace('"tiny"', '"../tiny"'), [r"architecture '../tiny': a name is made of"]),
    "kinds": (GOOD.replace('family="lab"', 'family=["lab"]'), ["family"]),
    "listing": (
        GOOD.replace("return [Arch", "1 / 0; [Arch"),
        [r"zoo_architectures raised ZeroDivisionError.*listing.py"],
    ),
    "gone": (
        None,
        ["no module 'gone' on the import path.* pip install --force-reinstall bad-zoo, or, in a package of"],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_says_why_and_names_its_distribution(site: Any, name: str) -> None:
    code, said = BROKEN[name]
    modules = {} if code is None else {name: code}
    site.install("bad-zoo", "0.3", {name: name}, modules, requires=["absent-dist>=1", "torch", "docs; extra == 'dev'"])
    found = plugins()
    for _ in range(2):  # the second time as the first
        with pytest.raises((BrokenPluginError, HookError)) as error:
            found.resolve(f"{name}/tiny")
        for words in (rf"^plugin '{name}' \(bad-zoo 0\.3\)", *said):
            assert error.match(words)
    record = found.record(name)
    assert record.state is PluginState.broken
    assert record.error == str(error.value)
    assert record.error.isprintable()
    assert name not in sys.modules
    if name in ("leaves", "raises", "listing"):
        assert f"{name}.py" in str(record.cause)


def test_broken_plugins_spoil_nothing_for_others(site: Any) -> None:
    modules = {name: code for name, (code, _) in BROKEN.items() if code is not None}
    site.install("bad-zoo", "0.3", {name: name for name in BROKEN}, modules)
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": GOOD})
    clean = plugins(f"[discovery]\ndeny = {list(BROKEN)!r}")
    assert "lab/tiny" in full_names(clean)
    found = plugins()
    assert full_names(found) == full_names(clean)
    assert {record.name for record in found.records() if record.state is PluginState.broken} == set(BROKEN)
    with pytest.raises(
        UnknownNameError, match=r"no plugin provides 'tinny'\. Did you mean 'tiny'.* could not be asked: "
    ):
        found.resolve("tinny")


def test_ctrl_c_while_a_plugin_is_imported_ends_zoo_and_names_it(site: Any) -> None:
    code = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(10**6): pass"
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": code})
    with pytest.raises(KeyboardInterrupt, match=r"while plugin 'lab' \(lab-zoo 1\.0\) was being imported"):
        plugins().hooks("lab")


def test_a_keyboard_interrupt_that_a_plugin_raises_is_its_own_failure(site: Any) -> None:
    code = GOOD.replace("from torch import nn", "raise KeyboardInterrupt")
    site.install("lab-zoo", "1.0", {"lab": "lab", "kbd": "kbd"}, {"lab": code, "kbd": "raise KeyboardInterrupt"})
    with pytest.raises(BrokenPluginError, match=r"importing kbd raised KeyboardInterrupt \(.*kbd\.py:1\)"):
        plugins().hooks("kbd")
    with pytest.raises(HookError, match="zoo_build_model raised KeyboardInterrupt"):
        plugins().hooks("lab").build_model(ARCHITECTURE, num_classes=1, in_channels=3, options={})


@pytest.mark.parametrize(
    ("api", "said"), [(2, "newer .*pip install -U torch-zoo"), (0, "older .*pip install -U lab-zoo")]
)
def test_another_hook_api_is_incompatible(site: Any, api: int, said: str) -> None:
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": GOOD.replace("API = 1", f"API = {api}")})
    found = plugins()
    with pytest.raises(IncompatiblePluginError, match=said):
        found.hooks("lab")
    assert found.record("lab").state is PluginState.incompatible


@pytest.mark.parametrize(
    ("registry", "said"),
    [
        ("[discovery]\ndeny = ['Lab_X']", r"explicit\.toml:2 denies it"),
        ("[discovery]\ndeny = ['lab-x']\nallow = ['lab-x', 'resnet']", r"explicit\.toml:2 denies it"),
        ("[discovery]\nallow = ['resnet']", r"explicit\.toml:2 allows only resnet"),
        ("[discovery]\nentry_points = false", r"explicit\.toml:2 allows only plugins with"),
    ],
)
def test_what_is_not_allowed_is_never_imported(site: Any, registry: str, said: str) -> None:
    site.install("lab-zoo", "1.0", {"lab-x": "lab_x"}, {"lab_x": GOOD})
    found = plugins(registry)
    assert "lab-x/tiny" not in full_names(found)
    assert "resnet/resnet18" in full_names(found)
    with pytest.raises(UsageError, match=said):
        found.resolve("lab-x/tiny")
    assert found.record("lab-x").state is PluginState.disabled
    assert "lab_x" not in sys.modules


@pytest.mark.parametrize("order", [("a-zoo", "b-zoo"), ("b-zoo", "a-zoo")])
def test_two_distributions_with_one_plugin_name_conflict_in_any_order(
    site: Any, tmp_path: Path, order: Sequence[str]
) -> None:
    for distribution in order:
        site.install(distribution, "1.0", {"lab": distribution[0]}, {distribution[0]: GOOD})
    found = plugins()
    with pytest.raises(PluginConflictError) as error:
        found.resolve("lab/tiny")
    assert "claimed by a-zoo 1.0 and b-zoo 1.0" in str(error.value)
    assert '[plugins.lab] distribution = "a-zoo"' in str(error.value)
    assert found.record("lab").state is PluginState.conflict
    assert not {"a", "b"} & sys.modules.keys()

    settled = plugins("[plugins.lab]\ndistribution = 'B_Zoo'")
    assert settled.hooks("lab").record.distribution == "b-zoo"
    assert "a-zoo 1.0 claims the name too" in settled.record("lab").notes[0]
    assert "explicit.toml:1 decides" in settled.record("lab").notes[0]


def test_nobody_takes_the_name_of_a_builtin_plugin(site: Any) -> None:
    site.install("evil-zoo", "9.0", {"resnet": "evil"}, {"evil": GOOD})
    found = plugins()
    assert found.resolve("resnet18").architecture.full_name == "resnet/resnet18"
    assert found.record("resnet").distribution == "torch-zoo"
    assert "evil" not in sys.modules


def test_every_builtin_architecture_resolves_by_its_bare_name() -> None:
    found = plugins()
    builtin = {record.name for record in found.records() if record.distribution == "torch-zoo"} - {"timm"}
    own = {a.name: a.full_name for a in found.architectures() if a.plugin in builtin}
    assert own
    assert {name: preset.base for name, preset in found.registry.presets.items()} == own
    assert builtin <= found.registry.plugins.keys()


def test_one_distribution_may_not_register_a_name_twice(site: Any) -> None:
    site.install("lab-zoo", "1.0", {"lab": "a", "lab ": "b"}, {"a": GOOD, "b": GOOD})
    with pytest.raises(BrokenPluginError, match="registers plugin 'lab' twice, as a and b"):
        plugins().hooks("lab")


def test_pins_hold_distribution_and_version(site: Any) -> None:
    site.install("lab-zoo", "1.0rc1", {"lab": "lab"}, {"lab": GOOD})
    assert plugins("[plugins.lab]\nversion = '>=0.9,<2'").hooks("lab")
    with pytest.raises(IncompatiblePluginError, match=r"pip install 'lab-zoo>=2', or change .*explicit\.toml:1"):
        plugins("[plugins.lab]\nversion = '>=2'").hooks("lab")
    with pytest.raises(IncompatiblePluginError, match=r"provided by lab-zoo 1\.0rc1: pip install other-zoo"):
        plugins("[plugins.lab]\ndistribution = 'other-zoo'").hooks("lab")
    with pytest.raises(UnknownNameError, match="pip install 'absent-zoo>=1'"):
        plugins("[plugins.absent]\ndistribution = 'absent-zoo'\nversion = '>=1'").hooks("absent")


def test_a_registry_may_name_a_module_that_no_entry_point_names(site: Any) -> None:
    (site.folder / "loose.py").write_text(dedent(GOOD))
    found = plugins("[plugins.lab]\nmodule = 'loose'\nversion = '>=3'")
    assert found.resolve("lab/tiny").architecture.full_name == "lab/tiny"
    assert found.record("lab").origin.endswith("explicit.toml:1")
    with pytest.raises(BrokenPluginError, match=r"no module 'looser' on the import path; .*explicit\.toml:1 names it"):
        plugins("[plugins.lab]\nmodule = 'looser'").hooks("lab")


def test_an_entry_point_may_name_an_object(site: Any) -> None:
    code = GOOD.replace("ZOO_HOOK_API", "from types import SimpleNamespace\n    ZOO_HOOK_API")
    code += "\n    class plugin:\n        ZOO_HOOK_API = 1\n"
    code += "        zoo_architectures = staticmethod(zoo_architectures)\n"
    code += "        zoo_build_model = staticmethod(zoo_build_model)\n"
    site.install("lab-zoo", "1.0", {"lab": "lab:plugin", "no": "lab:absent"}, {"lab": code})
    assert plugins().resolve("lab/tiny")
    with pytest.raises(BrokenPluginError, match="'absent'"):
        plugins().hooks("no")


def test_slow_and_heavy_imports_are_noted_by_name(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo.plugins.hooks, "_SLOW_S", 0.0)
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": "    import torch" + GOOD})
    for _ in range(2):  # kept with the facts, so noted without an import too
        found = plugins()
        found.architectures()
        assert found.record("lab").notes[-1].startswith("it imports torch at module level")
        assert found.record("lab").state is PluginState.not_loaded
    slow, heavy = found.hooks("lab").import_notes
    assert slow.startswith("importing it took ")
    assert heavy.startswith("it imports torch at module level")


def test_what_a_plugin_prints_stays_out_of_the_output(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code = "    print('imported')" + GOOD.replace("return [", "print('listed'); return [")
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": code})
    found = plugins()
    found.resolve("lab/tiny")
    assert capsys.readouterr() == ("", "")
    found.hooks("lab").architectures()
    assert capsys.readouterr() == ("", "imported\nlisted\n")


# Names


def test_a_name_of_several_plugins_is_ambiguous_unless_written_in_full(site: Any) -> None:
    site.install("lab-zoo", "1.0", {"lab": "lab", "other": "other"}, {"lab": GOOD, "other": GOOD})
    found = plugins()
    with pytest.raises(UsageError, match="'tiny' could be 'lab/tiny' and 'other/tiny'"):
        found.resolve("tiny")
    assert found.resolve("other/tiny").architecture.full_name == "other/tiny"
    assert plugins("[discovery]\ndeny = ['other']").resolve("tiny").architecture.full_name == "lab/tiny"
    preset = plugins("[presets.tiny]\nbase = 'other/tiny'\nnum_classes = 3").resolve("tiny")
    assert (preset.architecture.plugin, preset.preset and preset.preset.num_classes) == ("other", 3)


def test_unknown_names_come_with_close_ones(site: Any) -> None:
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": GOOD})
    found = plugins()
    for name, said in {
        "resnet5": "Did you mean 'resnet50'",
        "tinyy": "Did you mean 'tiny'",
        "lab/tinyy": r"plugin 'lab' \(lab-zoo 1\.0\) has no architecture 'tinyy'\. Did you mean 'lab/tiny'",
        "lap/tiny": "no plugin is called 'lap'; .*Did you mean 'lab'",
    }.items():
        with pytest.raises(UnknownNameError, match=said):
            found.resolve(name)


@pytest.mark.parametrize(
    "name", ["", "/", "../lab", "lab/../tiny", "a/b/c", "lab/", "/etc/passwd", "lab\\tiny", "lab\n", "\x1b"]
)
def test_a_path_is_no_name(name: str) -> None:
    with pytest.raises(UnknownNameError, match="the name of an architecture") as error:
        plugins().resolve(name)
    assert str(error.value).isprintable()


def test_a_plugin_whose_name_is_a_path_is_broken(site: Any) -> None:
    site.install("bad-zoo", "1.0", {"../x": "lab"}, {"lab": GOOD})
    found = plugins()
    found.architectures()
    assert found.record("../x").state is PluginState.broken
    assert "lab" not in sys.modules


def test_options_of_a_preset_are_checked_against_the_architecture(site: Any) -> None:
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": GOOD})
    found = plugins("[presets.mine]\nbase = 'lab/tiny'\noptions = {drop = 0.5}")
    with pytest.raises(OptionError, match=r"explicit\.toml:1: presets\.mine\.options: tiny has no option 'drop'"):
        found.resolve("mine")


# Facts on disk

RICH = GOOD.replace(
    '[Architecture(name="tiny", family="lab")]',
    """[Architecture(
            name="tiny",
            family="läb",
            preprocessing=Preprocessing(input_size=(1, 8, 8), mean=[0], std=[1], crop_pct=1),
            options=[Option(name="drop", default=1.0, minimum=0), Option(name="w", default=(1, 2))],
            weights=[Weights(tag="a", metrics=MappingProxyType({"top1": 80.1}), preprocessing=Preprocessing())],
            default_weights="a",
        )]""",
).replace(
    "import Architecture", "import Architecture, Option, Preprocessing, Weights\n    from types import MappingProxyType"
)


def test_kept_facts_equal_the_plugins_own_and_spare_its_import(site: Any) -> None:
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": RICH})
    (own,) = [a for a in plugins().architectures() if a.plugin == "lab"]
    assert own == Architecture(
        name="tiny",
        family="läb",
        plugin="lab",
        preprocessing=Preprocessing(input_size=(1, 8, 8), mean=(0.0,), std=(1.0,)),
        options=(
            Option(name="drop", default=1.0, minimum=0),
            Option(name="w", default=(1, 2)),
        ),
        weights=(Weights(tag="a", metrics={"top1": 80.1}, preprocessing=Preprocessing()),),
        default_weights="a",
    )
    site.forget_modules()
    found = plugins()
    (kept,) = [a for a in found.architectures() if a.plugin == "lab"]
    assert repr(kept) == repr(own)
    assert found.record("lab").state is PluginState.not_loaded
    assert "lab" not in sys.modules
    assert found.hooks("lab").record.state is PluginState.loaded


def test_a_listing_says_what_the_facts_say_and_spares_the_import(site: Any) -> None:
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": "    import torch" + RICH})
    for _ in range(2):
        found = plugins()
        (listed,) = [a for a in found.listed() if a.plugin == "lab"]
        assert found.record("lab").state is PluginState.not_loaded
        assert found.record("lab").notes[-1].startswith("it imports torch at module level")
        assert (listed.full_name, listed.family, listed.default_weights) == ("lab/tiny", "läb", "a")
        assert (listed.preprocessing.input_size, listed.weights) == ((1, 8, 8), (ListedWeights(tag="a", url=None),))
    assert [a.full_name for a in found.listed()] == [a.full_name for a in found.architectures()]


def test_facts_are_asked_for_again_when_anything_they_rest_on_changes(site: Any) -> None:
    site.install("base", "1.0", {})
    site.install(
        "lab-zoo", "1.0", {"lab": "lab.plugin"}, {"lab.plugin": GOOD}, requires=["Base>=1; python_version > '3'"]
    )

    def asked() -> bool:
        kept = [path.read_bytes() for path in Path(os.environ["ZOO_CACHE"]).glob("facts/lab-*")]
        assert "lab/tiny" in full_names(plugins())
        return kept != [path.read_bytes() for path in Path(os.environ["ZOO_CACHE"]).glob("facts/lab-*")]

    assert asked()
    assert not asked()
    (site.folder / "lab/table.json").write_text("{}")
    assert asked()
    assert not asked()
    site.uninstall("base")
    site.install("base", "2.0", {})
    assert asked()
    site.uninstall("lab-zoo")
    site.install("lab-zoo", "1.1", {"lab": "lab.plugin"})
    assert asked()
    assert not asked()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_facts_are_passed_over(site: Any, data: st.DataObject) -> None:
    if not (site.folder / "lab.py").exists():
        site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": GOOD})
    expected = full_names(plugins())
    (kept,) = Path(os.environ["ZOO_CACHE"]).glob("facts/lab-*")
    content = kept.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    kept.write_bytes(content[:cut] + data.draw(st.sampled_from([b"", b"\xff", b"[" * 5000, b'"', b"\0"])))
    damaged = kept.read_bytes()
    assert full_names(plugins()) == expected
    kept.write_bytes(damaged)
    assert {architecture.full_name for architecture in plugins().listed()} == expected
    kept.write_bytes(content)


def test_a_cache_that_cannot_be_written_is_no_trouble(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": GOOD})
    assert "lab/tiny" in full_names(plugins())


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ("family=''", "family is empty"),
        ("family=3", "Expected `str`, got `int`"),
        ("smallest_input=0", "at least 1 pixel"),
        ("default_weights='b'", "default_weights 'b' is none of its tags"),
        ("weights=(Weights(tag='a'), Weights(tag='a'))", "weight tag 'a' is there twice"),
        ("weights=(Weights(tag='a/b'),)", "weight tag 'a/b' is not a name"),
        ("weights=(Weights(tag='a', num_classes=-1),)", "at least 0"),
        ("weights=(Weights(tag='a', sha256_prefix='xyz'),)", "hex digits"),
        ("weights=(Weights(tag='a', metrics={'top1': float('nan')}),)", "finite"),
        ("options=(Option(name='A', default=1),)", "option 'A' is not a name"),
        ("options=(Option(name='a', default=1, minimum=2),)", "its own default or choice is not allowed"),
        ("options=(Option(name='a', default=1.0, choices=(1, 2)),)", "another type than the default"),
        ("options=(Option(name='a', default=1, maximum=float('inf')),)", "a limit is a finite number"),
        ("options=(Option(name='a', default=1), Option(name='a', default=1))", "option 'a' is there twice"),
        ("family='\\ud800'", "half a character"),
        ("note='a\\nerror: b'", "a line break"),
        ("source='\\x1b[31mred'", "a control character"),
        ("family='x' * 150", "longer than 100"),
        ("note='x' * 10_000", "longer than 2,000"),
        ("smallest_input=10**9", "smallest_input 1000000000 is beyond the input_size of 224"),
        ("smallest_training_input=10**9", "smallest_training_input 1000000000 is beyond"),
        ("weights=(Weights(tag='none'),)", "weight tag 'none' means something else"),
        ("weights=(Weights(tag='default'),)", "weight tag 'default' means something else"),
        ("weights=(Weights(tag='a', url='file:///etc/passwd'),)", "is not https://"),
        ("weights=(Weights(tag='a', url='http://x.org/a'),)", "is not https://"),
        ("weights=(Weights(tag='a', url='https://me:secret@x.org/a'),)", "without a password"),
        ("weights=(Weights(tag='a', in_channels=2),)", "in_channels 1, 3 or 4"),
        ("weights=(Weights(tag='a', class_names='../../etc'),)", "not the name of a list"),
        ("weights=(Weights(tag='a', metrics={'top1': 1e300}),)", "metrics are finite"),
        ("weights=(Weights(tag='a', metrics={'top1': -5.0}),)", "metrics are finite"),
        ("options=(Option(name='num_classes', default=1),)", "what zoo itself passes"),
        ("options=(Option(name='a', default=True, minimum=0),)", "only numbers have"),
        ("options=(Option(name='a', default='b', maximum=3),)", "only numbers have"),
        ("options=(Option(name='a', default=10**400),)", "a whole number is beyond"),
        ("preprocessing=Preprocessing(input_size=(3, 10**12, 10**12))", "at most 16384 pixels"),
        ("preprocessing=Preprocessing(input_size=(2, 8, 8))", "1, 3 or 4 channels"),
        ("preprocessing=Preprocessing(crop_pct=1e-30)", "crop_pct 1e-30 makes an image of"),
        ("preprocessing=Preprocessing(std=(1e-300, 1, 1))", "between 0.0001 and 1000"),
        ("preprocessing=Preprocessing(mean=(1e308, 1, 1))", "within ±1000"),
        ("preprocessing=Preprocessing(input_size=(3, 0, 8))", "an edge below 1"),
        ("preprocessing=Preprocessing(mean=(0.5,))", "one value for each of the 3 channels"),
        ("preprocessing=Preprocessing(std=(0.0, 1.0, 1.0))", "std is above 0"),
        ("preprocessing=Preprocessing(crop_pct=0)", "crop_pct 0.0 is not above 0"),
        ("preprocessing=Preprocessing(interpolation='cubic')", "preprocessing.interpolation"),
    ],
)
def test_facts_that_cannot_be_true_are_refused(site: Any, facts: str, said: str) -> None:
    given_facts = facts if facts.startswith("family") else f"family='lab', {facts}"
    code = GOOD.replace('family="lab"', given_facts).replace(
        "import Architecture", "import Architecture, Option, Preprocessing, Weights"
    )
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": code})
    with pytest.raises(
        HookError, match=r"plugin 'lab' \(lab-zoo 1\.0\): zoo_architectures: architecture 'tiny': "
    ) as error:
        plugins().hooks("lab").architectures()
    assert said in str(error.value)


# Calling hooks


def test_what_a_model_does_to_zoo_s_own_export_is_not_laid_on_a_hook_that_the_plugin_leaves_out(site: Any) -> None:
    from torch import nn

    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": GOOD})
    model = nn.Linear(1, 1)
    model.register_state_dict_post_hook(lambda module, state, prefix, metadata: state.update(extra=3))
    with pytest.raises(HookError, match=r"lab-zoo 1\.0\): the model's state_dict\(\) returned a int under 'extra'"):
        plugins().hooks("lab").export_state(ARCHITECTURE, model)


def test_stages_that_are_no_chain_are_named_with_plugin_and_version(site: Any) -> None:
    from torch import nn

    code = dedent(GOOD) + (
        "\n@hookimpl\ndef zoo_stages(model):\n    from zoo.chain import Stage\n\n    return [Stage('head', model[1])]\n"
    )
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": code})
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(
        HookError, match=r"^plugin 'lab' \(lab-zoo 1\.0\): zoo_stages left out 2 of the model's tensors"
    ):
        plugins().hooks("lab").chain(ARCHITECTURE, model)


def test_hooks_get_the_arguments_they_name_and_the_defaults_answer_for_those_left_out(site: Any) -> None:
    import torch

    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": GOOD.replace("LazyLinear(", "Linear(3, ")})
    hooks = plugins().hooks("lab")
    model = hooks.build_model(ARCHITECTURE, num_classes=2, in_channels=3, options={})
    assert [stage.name for stage in hooks.stages(ARCHITECTURE, model)] == ["features", "head"]
    state = hooks.export_state(ARCHITECTURE, model)
    assert hooks.import_state(ARCHITECTURE, model, state).keys() == state.keys()
    assert model(torch.zeros(1, 3, 1, 1)).shape == (1, 2)


def test_no_plugin_answers_for_another(site: Any) -> None:
    cut = GOOD + "\n    @hookimpl\n    def zoo_stages(model):\n        raise RuntimeError('not mine')\n"
    site.install("lab-zoo", "1.0", {"lab": "lab", "other": "other"}, {"lab": GOOD, "other": cut})
    found = plugins()
    found.hooks("other")
    hooks = found.hooks("lab")
    model = hooks.build_model(ARCHITECTURE, num_classes=2, in_channels=3, options={})
    assert len(hooks.stages(ARCHITECTURE, model)) == 2


@pytest.mark.parametrize(
    ("hook", "body", "said"),
    [
        ("zoo_build_model", "raise KeyError('x')", r"zoo_build_model raised KeyError: 'x' \(.*lab\.py:\d+\)"),
        (
            "zoo_build_model",
            "import torch; torch.zeros(2) @ torch.zeros(3)",
            r"raised RuntimeError.* \(.*lab\.py:\d+\)",
        ),
        ("zoo_build_model", "raise SystemExit(3)", r"zoo_build_model called sys\.exit\(3\)"),
        ("zoo_build_model", "return 'net'", "returned a value of type str instead of a torch.nn.Module"),
        ("zoo_build_model", "pass", "zoo_build_model returned nothing instead"),
        ("zoo_stages", "pass", "zoo_stages returned nothing instead of a list of zoo.chain.Stage"),
        ("zoo_stages", "return []", "zoo_stages returned an empty list"),
        ("zoo_stages", "return [1, 'a']", "zoo_stages returned a list of int, str"),
        ("zoo_import_state", "return [1]", "zoo_import_state returned a list of int instead of tensors by name"),
        ("zoo_export_state", "return {'a': 1}", "zoo_export_state returned a int under 'a'"),
    ],
)
def test_a_hook_that_fails_is_named_with_plugin_and_version(site: Any, hook: str, body: str, said: str) -> None:
    code = GOOD
    if hook == "zoo_build_model":
        code = code.partition("@hookimpl\n    def zoo_build_model")[0]
    code = dedent(code) + f"\n@hookimpl\ndef {hook}(architecture):\n    {body}\n"
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": code})
    from torch import nn

    hooks, model = plugins().hooks("lab"), nn.Linear(1, 1)
    with pytest.raises(HookError, match=rf"^plugin 'lab' \(lab-zoo 1\.0\): .*{said}"):
        {
            "zoo_build_model": lambda: hooks.build_model(ARCHITECTURE, num_classes=1, in_channels=3, options={}),
            "zoo_stages": lambda: hooks.stages(ARCHITECTURE, model),
            "zoo_import_state": lambda: hooks.import_state(ARCHITECTURE, model, {}),
            "zoo_export_state": lambda: hooks.export_state(ARCHITECTURE, model),
        }[hook]()


def test_an_option_that_a_plugin_refuses_is_the_users_error(site: Any) -> None:
    code = GOOD.replace(
        "from torch import nn\n", "from zoo.errors import OptionError\n        raise OptionError('no')\n"
    )
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": code})
    with pytest.raises(OptionError, match=r"^no$"):
        plugins().hooks("lab").build_model(ARCHITECTURE, num_classes=1, in_channels=3, options={})


def test_a_hook_cannot_change_the_state_it_is_given(site: Any) -> None:
    import torch

    code = dedent(GOOD) + "\n@hookimpl\ndef zoo_import_state(state):\n    state.clear()\n    return state\n"
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": code})
    state = {"a": torch.zeros(1)}
    assert plugins().hooks("lab").import_state(ARCHITECTURE, torch.nn.Identity(), state) == {}
    assert state.keys() == {"a"}


def test_listing_imports_neither_torch_nor_what_makes_python_slow() -> None:
    code = """
    import sys
    from zoo.plugins import Plugins
    from zoo.registry import load_registry
    found = Plugins(load_registry())
    assert found.architectures() and not any(record.error for record in found.records())
    slow = {"torch", "torchvision", "timm", "rich", "importlib.metadata", "packaging"} & sys.modules.keys()
    print(sorted(slow), sum(record.state == "loaded" for record in found.records()))
    """
    run = [sys.executable, "-c", dedent(code)]
    first, second = (subprocess.run(run, capture_output=True, text=True, check=True).stdout for _ in range(2))
    # With facts unknown, zoo_timm looks up which timm is installed.
    assert first.startswith(("[] ", "['importlib.metadata'] "))
    assert second == "[] 0\n"
