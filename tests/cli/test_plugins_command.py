"""``zoo plugins`` and ``zoo registry``: what they print, their exit codes, and that broken plugins stop neither."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.errors import UsageError
from zoo.testing.sources import plugins_in_folder

KIT_PLUGINS = Path(__file__).parents[1] / "kit" / "plugins"
BROKEN = {
    "early": ("import sys\nsys.exit('no GPU')\n", "called sys.exit"),
    "grammar": ("def zoo_architectures(:\n", "raised SyntaxError"),
    "missing": ("import nonsuch_library\n", "pip install nonsuch_library"),
    "silent": ("", "does not say which hook API"),
    "future": ("ZOO_HOOK_API = 99\n", "newer than this zoo's 1"),
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path with five broken distributions, and two that claim one name."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name, (code, _) in BROKEN.items():
        _install(folder, f"zoo-{name}", name, f"zoo_{name}")
        (folder / f"zoo_{name}.py").write_text(code)
    _install(folder, "first-claim", "claimed", "zoo_claimed")
    _install(folder, "second-claim", "claimed", "zoo_claimed_too")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture
def only_broken(site: Path, tmp_path: Path) -> Path:
    """A registry under which no plugin works: zoo's own are denied."""
    registry = tmp_path / "only_broken.toml"
    registry.write_text('[discovery]\nallow = ["claimed", "early", "future", "grammar", "missing", "silent"]\n')
    return registry


def _install(folder: Path, distribution: str, plugin: str, module: str) -> None:
    metadata = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[zoo.plugins]\n{plugin} = {module}\n")


def _zoo(*arguments: object, folder: Path, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zoo", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, env=environment)
    assert found.returncode == code, found.stdout + found.stderr
    assert "Traceback" not in found.stderr
    return found


def test_list_shows_where_every_plugin_comes_from(site: Path, tmp_path: Path) -> None:
    rows = {row["name"]: row for row in json.loads(_zoo("plugins", "list", "--json", folder=tmp_path).stdout)}
    assert rows["resnet"] | {"state": "", "origin": ""} == {
        "name": "resnet",
        "state": "",
        "distribution": "torch-zoo",
        "version": "0.1.0",
        "module": "zoo_resnet",
        "origin": "",
        "architectures": 10,
        "error": "",
        "notes": [],
    }
    assert rows["early"]["distribution"] == "zoo-early"
    assert rows["early"]["origin"] == str(site / "zoo_early-1.0.dist-info")
    assert (rows["claimed"]["state"], rows["claimed"]["architectures"]) == ("conflict", 0)


def test_every_command_works_with_every_plugin_broken(only_broken: Path, tmp_path: Path) -> None:
    options = ("--registry", only_broken)
    listed = _zoo("plugins", "list", *options, folder=tmp_path).stdout
    for name, (_, cause) in BROKEN.items():
        state = "incompatible" if name == "future" else "broken"
        assert any(line.startswith(f"'{name}' ({state}): ") and cause in line for line in listed.splitlines()), listed
    assert "claimed by first-claim 1.0 and second-claim 1.0" in listed
    assert "'resnet' (disabled)" in listed
    assert "early" in _zoo("plugins", "refresh", *options, folder=tmp_path).stdout
    assert "problem" in _zoo("plugins", "why", "early", *options, folder=tmp_path).stdout
    assert "resnet50" in _zoo("registry", "show", *options, folder=tmp_path).stdout
    assert "right" in _zoo("registry", "validate", only_broken, folder=tmp_path).stdout
    assert _zoo("plugins", "new", "lab", folder=tmp_path).stdout
    assert "zoo_early.py:2" in _zoo("plugins", "check", "early", *options, folder=tmp_path, code=4).stdout
    assert "0 architectures" in _zoo("list", *options, folder=tmp_path).stderr


def test_check_of_a_wrong_plugin_says_why_and_what_to_do_and_leaves_with_4(tmp_path: Path) -> None:
    registry = tmp_path / "mine.toml"
    registry.write_text('[plugins.thousand]\nmodule = "thousand_classes"\n')
    arguments = ("plugins", "check", "thousand", "--registry", registry, "--quiet")
    found = _zoo(*arguments, folder=tmp_path, code=4, PYTHONPATH=str(KIT_PLUGINS))
    assert "builds_for_class_counts/net: failed" in found.stdout
    assert "  why   A user has 2 classes or 1,000" in found.stdout
    assert "  do    Size the last layer by num_classes" in found.stdout
    assert found.stdout.rstrip().endswith("1 failed, 22 not run")
    assert found.stderr.startswith("error: thousand fails 1 of the kit's checks")


def test_a_new_package_is_complete_and_passes_from_its_folder(tmp_path: Path) -> None:
    said = _zoo("plugins", "new", "lab-two", folder=tmp_path).stdout
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {
        "zoo-lab-two/" + name
        for name in (
            ".github/workflows/test.yml",
            "README.md",
            "pyproject.toml",
            "tests/test_lab_two.py",
            "zoo_lab_two/__init__.py",
            "zoo_lab_two/model.py",
        )
    }
    assert all(f"  {name}" in said for name in files)
    assert not any(
        "@" + sign in (tmp_path / name).read_text() for name in files for sign in ("PLUGIN", "PACK", "CLASS")
    )
    report = json.loads(_zoo("plugins", "check", "zoo-lab-two", "--json", "--quiet", folder=tmp_path).stdout)
    assert report["lab_two"]["plugin"] == "plugin 'lab_two' (zoo-lab-two 0.1.0)"
    assert report["lab_two"]["counts"] == {"passed": 38, "not applicable": 1}


def test_a_new_package_refuses_a_folder_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "zoo-lab").mkdir()
    assert "zoo-lab exists already" in _zoo("plugins", "new", "lab", folder=tmp_path, code=2).stderr
    assert not list((tmp_path / "zoo-lab").iterdir())


@pytest.mark.parametrize("name", ["Lab", "1lab", "class", "a/b", "../lab", "lab--x", "läb", "-", ""])
def test_a_new_package_refuses_a_name_that_python_cannot_import(name: str, tmp_path: Path) -> None:
    _zoo("plugins", "new", "--", name, folder=tmp_path, code=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["resnet", "timm", "simple-cnn"])
def test_a_new_package_takes_the_place_of_none_that_is_installed(name: str, tmp_path: Path) -> None:
    assert "installed already" in _zoo("plugins", "new", name, folder=tmp_path, code=2).stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [0, 7])
def test_check_of_a_plugin_that_ends_the_process_never_passes(code: int, tmp_path: Path) -> None:
    _zoo("plugins", "new", "lab", folder=tmp_path)
    model = next((tmp_path / "zoo-lab").rglob("model.py"))
    model.write_text(f"import os\nos._exit({code})\n")
    found = _zoo("plugins", "check", tmp_path / "zoo-lab", folder=tmp_path, code=code or 4)
    assert code or "was ended before its checks were" in found.stderr


def test_check_refuses_a_folder_that_is_no_package(tmp_path: Path) -> None:
    assert "no pyproject.toml" in _zoo("plugins", "check", ".", folder=tmp_path, code=2).stderr
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    assert '[project.entry-points."zoo.plugins"]' in _zoo("plugins", "check", ".", folder=tmp_path, code=2).stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x = " + b"[" * 100_000, "pyproject.toml is not valid TOML"),
        (b"#" * (1 << 20) + b"\n", "pyproject.toml is larger than 1 MiB"),
        (b"# one\nname = '\xff'\n", "pyproject.toml:2 is not UTF-8"),
        (b"project = 3\n", "pyproject.toml:1: project: 3 is not a table"),
        (b"[project]\nname = 3\n", "pyproject.toml:2: project.name: 3 is not allowed"),
        (b"[project]\nentry-points = 3\n", "pyproject.toml:2: project.entry-points: 3 is not allowed"),
        (b"[project.entry-points]\n'zoo.plugins' = 3\n", "pyproject.toml:1: project.entry-points: "),
        (b'[project]\nversion = "1\\n2"\n', "pyproject.toml:2: project.version: '1\\n2' has a line break or"),
        (b"[project]\ndependencies = ['a', \"\\u001b\"]\n", "project.dependencies[1]: '\\x1b' has a line break or"),
        (b"[project.entry-points.'zoo.plugins']\n'a b' = 'c'\n", "a name is made of letters"),
        (b"[project.entry-points.'zoo.plugins']\na = \"b\\nc\"\n", ".a: 'b\\nc' has a line break or"),
        (None, "pyproject.toml is not a regular file"),
    ],
)
def test_check_refuses_a_pyproject_that_cannot_be_used(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    with pytest.raises(UsageError) as error:
        plugins_in_folder(tmp_path)
    assert said in str(error.value)


def test_the_command_does_not_wait_for_a_fifo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pyproject.toml")
    assert "not a regular file" in _zoo("plugins", "check", ".", folder=tmp_path, code=2).stderr


def test_check_of_an_unknown_name_offers_close_ones(tmp_path: Path) -> None:
    assert "Did you mean 'resnet'" in _zoo("plugins", "check", "resnett", folder=tmp_path, code=2).stderr


def test_why_names_the_file_line_preset_plugin_and_distribution(tmp_path: Path) -> None:
    (tmp_path / "registry.toml").write_text('\n[presets.pets]\nbase = "simple_cnn/simple_cnn"\nnum_classes = 37\n')
    steps = json.loads(_zoo("plugins", "why", "pets", "--json", folder=tmp_path).stdout)["steps"]
    said = {step["what"]: step["text"] for step in steps}
    assert said["preset"] == f"{tmp_path / 'registry.toml'}:2: base = simple_cnn/simple_cnn, num_classes = 37"
    assert said["architecture"].startswith("simple_cnn/simple_cnn")
    assert said["distribution"] == "torch-zoo 0.1.0"
    assert said["module"].startswith("zoo_simple_cnn in ")
    assert "plugins.simple_cnn pins it" in said["registry"]


def test_why_tells_who_denies_and_who_claims(site: Path, tmp_path: Path) -> None:
    (tmp_path / "registry.toml").write_text('[discovery]\ndeny = ["early"]\n')
    denied = _zoo("plugins", "why", "early", folder=tmp_path).stdout
    assert f"{tmp_path / 'registry.toml'}:2: discovery.deny.early denies it" in denied
    assert "first-claim, second-claim" in _zoo("plugins", "why", "claimed/net", folder=tmp_path).stdout
    assert "no plugin provides 'nonsense'" in _zoo("plugins", "why", "nonsense", folder=tmp_path, code=2).stderr


def test_refresh_asks_a_plugin_again(tmp_path: Path) -> None:
    _zoo("plugins", "list", folder=tmp_path)
    facts = Path(os.environ["ZOO_CACHE"]) / "facts"
    kept = {path: path.stat().st_mtime_ns for path in facts.iterdir()}
    _zoo("plugins", "refresh", folder=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in facts.iterdir()}.keys() == kept.keys()
    assert all(path.stat().st_mtime_ns > before for path, before in kept.items())


def test_registry_show_tells_which_file_decided(tmp_path: Path) -> None:
    (tmp_path / "registry.toml").write_text('[presets.resnet50]\nbase = "resnet/resnet50"\nnum_classes = 3\n')
    shown = json.loads(_zoo("registry", "show", "--json", folder=tmp_path).stdout)
    assert shown["files"][-1] == str(tmp_path / "registry.toml")
    assert shown["presets"]["resnet50"]["origin"] == f"{tmp_path / 'registry.toml'}:1"
    assert "num_classes=3" in _zoo("registry", "show", folder=tmp_path).stdout


def test_registry_validate_names_file_line_and_key(tmp_path: Path) -> None:
    team = tmp_path / "team.toml"
    team.write_text('[presets.mine]\nbase = "resnet/resnet5"\n')
    found = _zoo("registry", "validate", team, folder=tmp_path, code=2).stderr
    assert f"{team}:1: presets.mine: " in found
    assert "Did you mean 'resnet/resnet50'" in found
    team.write_text("[discovery]\nalow = []\n")
    assert f"{team}:2: discovery.alow" in _zoo("registry", "validate", team, folder=tmp_path, code=2).stderr


def test_registry_validate_does_not_blame_a_file_for_a_broken_plugin(site: Path, tmp_path: Path) -> None:
    team = tmp_path / "team.toml"
    team.write_text('[presets.mine]\nbase = "early/net"\n')
    found = _zoo("registry", "validate", team, folder=tmp_path)
    assert "warning: presets.mine cannot be followed" in found.stderr
    assert "right" in found.stdout


def test_registry_schema_is_json_schema(tmp_path: Path) -> None:
    schema = json.loads(_zoo("registry", "schema", folder=tmp_path).stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
