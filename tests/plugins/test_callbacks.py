"""Plugins that follow runs: ``--track NAME``, TensorBoard, trackio, and trackers that fail."""

import importlib
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent, indent
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

import zoo
from zoo.cli.app import cli
from zoo.errors import BrokenPluginError, MissingExtraError, UnknownNameError
from zoo.jobs.tracking import find_trackers
from zoo.plugins.catalogue import open_plugins
from zoo.progress import Silent
from zoo.testing import check_plugin
from zoo.training.callbacks import Callback, TrainerState
from zoo.training.signals import Terminated

SMALL: dict[str, Any] = {
    "model": "simple_cnn",
    "image_size": 16,
    "options": {"widths": "4,8", "hidden": 16},
    "epochs": 2,
    "batch_size": 16,
    "device": "cpu",
}
EVENTS = ("on_phase_start", "on_epoch_end", "on_phase_end", "on_finish")
Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution ``zoo-follower`` whose plugin ``follower`` is this code."""
    site = tmp_path / "site"
    metadata = site / "zoo_follower-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.4\nName: zoo-follower\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[zoo.plugins]\nfollower = zoo_follower\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def _install(code: str) -> None:
        (site / "zoo_follower.py").write_text(dedent(code))
        importlib.invalidate_caches()

    yield _install
    sys.modules.pop("zoo_follower", None)


def follower(hook: str, methods: str = "pass") -> str:
    return (
        "from zoo.hookspecs import hookimpl\n\nZOO_HOOK_API = 1\nTOLD = []\n\n"
        "@hookimpl\ndef zoo_callbacks(run):\n    from zoo.training.callbacks import Callback\n\n"
        f"    class Follower(Callback):\n{indent(dedent(methods), ' ' * 8)}\n\n{indent(dedent(hook), ' ' * 4)}\n"
    )


RECORDS = "\n".join(f"def {event}(self, *arguments): TOLD.append(({event!r}, arguments))" for event in EVENTS)
SPOILS = "def on_epoch_end(self, state, row): row.clear()"


class Heard(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves of a folder of event files, as TensorBoard's own reader sees them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder)).Reload()
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


# Trackers that fail


@pytest.mark.parametrize(
    ("hook", "methods", "reason"),
    [
        *(
            (
                "return [Follower()]",
                f"def {event}(self, *arguments): raise OSError('no disk for {event}')",
                f"{event} raised OSError: no disk for {event}",
            )
            for event in EVENTS
        ),
        ("return [Follower()]", "def on_epoch_end(self, *a): raise SystemExit(3)", "on_epoch_end raised SystemExit: 3"),
        (
            "return [Follower()]",
            "def on_phase_end(self, *a): raise KeyboardInterrupt",
            "on_phase_end raised KeyboardInterrupt",
        ),
        ("raise KeyboardInterrupt", "pass", "zoo_callbacks raised KeyboardInterrupt"),
        ("raise ConnectionError('no server')", "pass", "zoo_callbacks raised ConnectionError: no server"),
        ("import no_such_package", "pass", "zoo_callbacks raised ModuleNotFoundError"),
        ("return 'nonsense'", "pass", "zoo_callbacks returned a value of type str instead of a list of"),
        ("return [Follower]", "pass", "zoo_callbacks returned a list of type instead of a list of"),
        ("[Follower()]", "pass", "zoo_callbacks returned nothing instead"),
    ],
)
def test_a_tracker_that_fails_is_left_out_with_one_warning(
    hook: str, methods: str, reason: str, install: Install, photos: Path, tmp_path: Path
) -> None:
    install(follower(hook, methods))
    heard = Heard()
    run = zoo.finetune(photos, **SMALL, track=["follower"], output=tmp_path / "run", progress=heard)
    assert run.artifact.is_file()
    assert len(run.history) == 2
    assert len(heard.warnings) == 1
    assert heard.warnings[0].startswith("plugin 'follower' (zoo-follower 1.0): ")
    assert reason in heard.warnings[0]
    assert heard.warnings[0].endswith("The run goes on without it.")


def test_a_tracker_whose_every_method_raises_warns_once_and_is_told_no_more(
    install: Install, photos: Path, tmp_path: Path
) -> None:
    methods = "\n".join(f"def {event}(self, *a): TOLD.append({event!r}); raise ValueError" for event in EVENTS)
    install(follower("return [Follower()]", methods))
    heard = Heard()
    zoo.finetune(photos, **SMALL, track=["follower"], output=tmp_path / "run", progress=heard)
    assert sys.modules["zoo_follower"].TOLD == ["on_phase_start"]
    assert [warning.partition(": ")[2] for warning in heard.warnings] == [
        "on_phase_start raised ValueError. The run goes on without it."
    ]


def test_one_failing_tracker_does_not_silence_another(install: Install, photos: Path, tmp_path: Path) -> None:
    install(follower("return [Follower()]", "def on_phase_start(self, state): raise ValueError"))
    run = zoo.finetune(photos, **SMALL, track=["follower", "tensorboard"], output=tmp_path / "run")
    assert len(scalars(run.folder / "tensorboard")["train/loss"]) == 2


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_that_comes_while_a_tracker_is_told_stops_the_run(
    name: str, install: Install, photos: Path, tmp_path: Path
) -> None:
    kill = f"import os, signal\nos.kill(os.getpid(), signal.{name})"
    install(follower("return [Follower()]", f"def on_phase_start(self, state):\n{indent(kill, '    ')}"))
    with pytest.raises((KeyboardInterrupt, Terminated)):
        zoo.finetune(photos, **SMALL, track=["follower"], output=tmp_path / "run")


# What a tracker is told


def test_a_tracker_is_told_of_phases_epochs_and_the_figures(install: Install, photos: Path, tmp_path: Path) -> None:
    install(follower("TOLD.append(run)\nassert not run.folder.exists()\nreturn [Follower()]", RECORDS))
    run = zoo.finetune(photos, **SMALL, track=["follower"], output=tmp_path / "run")
    info, *told = sys.modules["zoo_follower"].TOLD
    assert (info.folder, info.resumed) == (run.folder, False)
    assert info.config["model"] == "simple_cnn"
    assert info.config["phases"][0]["epochs"] == 2
    assert [event for event, _ in told] == ["on_phase_start", *["on_epoch_end"] * 2, "on_phase_end", "on_finish"]
    assert [arguments[1] for event, arguments in told if event == "on_epoch_end"] == run.history
    assert told[-1][1] == (run.metrics,)


def test_a_tracker_cannot_change_what_the_run_keeps(install: Install, photos: Path, tmp_path: Path) -> None:
    install(follower("return [Follower()]", SPOILS))
    run = zoo.finetune(photos, **SMALL, track=["follower"], output=tmp_path / "run")
    assert [row["epoch"] for row in run.history] == [0, 1]


def test_what_a_tracker_prints_does_not_reach_stdout(install: Install, photos: Path, tmp_path: Path) -> None:
    install(follower("print('hello')\nreturn [Follower()]", "def on_finish(self, metrics): print('bye')"))
    arguments = ["finetune", str(photos), "--model", "simple_cnn", "--epochs", "1", "--track", "follower", "--json"]
    done = CliRunner().invoke(cli, [*arguments, "--output", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["epochs"] == 1
    assert {"hello", "bye"} <= set(done.stderr.splitlines())


def test_nothing_is_tracked_unless_asked_for(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("zoo_tensorboard", "zoo_trackio"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    run = zoo.finetune(photos, **SMALL, output=tmp_path / "run")
    assert not {"zoo_tensorboard", "zoo_trackio"} & sys.modules.keys()
    assert "track" not in tomllib.loads((run.folder / "config.toml").read_text())


# TensorBoard


def test_tensorboard_reads_the_epochs_and_the_final_figures(photos: Path, tmp_path: Path) -> None:
    run = zoo.finetune(photos, **SMALL, track="tensorboard", output=tmp_path / "run")
    found = scalars(run.folder / "tensorboard")
    for tag, name in (("train/loss", "train_loss"), ("val/accuracy", "val_accuracy"), ("lr", "lr")):
        assert found[tag] == [(row["epoch"], pytest.approx(row[name], rel=1e-6)) for row in run.history]
    for split, report in run.metrics.items():
        assert found[f"final/{split}/f1"] == [(1, pytest.approx(report["f1"], rel=1e-6))]
    assert not {"epoch", "step", "phase"} & found.keys()


def test_tracking_does_not_change_the_artifact(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    tracked = zoo.finetune(photos, **SMALL, track=["tensorboard"], output=tmp_path / "tracked")
    plain = zoo.finetune(photos, **SMALL, output=tmp_path / "plain")
    assert tracked.artifact.read_bytes() == plain.artifact.read_bytes()


class _Dies(Callback):
    def on_epoch_end(self, state: TrainerState, row: Mapping[str, object]) -> None:
        if state.epoch == 2:
            raise RuntimeError("killed")


def test_a_resumed_run_goes_on_being_tracked_and_shows_every_epoch_once(photos: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "epochs": 4, "checkpoint_every": "2"}
    with pytest.raises(RuntimeError, match="killed"):
        zoo.finetune(photos, **settings, track=["tensorboard"], callbacks=[_Dies()], output=tmp_path / "run")
    run = zoo.finetune(resume=tmp_path / "run")
    assert scalars(run.folder / "tensorboard")["train/loss"] == [
        (row["epoch"], pytest.approx(row["train_loss"], rel=1e-6)) for row in run.history
    ]
    assert len(run.history) == 4


# trackio


@pytest.fixture
def trackio(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Any]]]:
    """A module with trackio's calls, as of 0.43, that remembers them."""
    calls: list[tuple[str, Any]] = []
    module = ModuleType("trackio")

    def init(
        project: str, name: str | None = None, *, config: dict[str, Any] | None = None, resume: str = "never"
    ) -> None:
        calls.append(("init", {"project": project, "name": name, "config": config, "resume": resume}))

    def log(metrics: dict[str, Any], step: int | None = None) -> None:
        assert "step" not in metrics, "trackio renames it, with a warning"
        calls.append(("log", (step, metrics)))

    module.init = init  # type: ignore[attr-defined]
    module.log = log  # type: ignore[attr-defined]
    module.finish = lambda: calls.append(("finish", None))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", module)
    sys.modules.pop("zoo_trackio.tracker", None)
    yield calls
    sys.modules.pop("zoo_trackio.tracker", None)


def test_trackio_is_given_the_configuration_the_epochs_and_the_figures(
    trackio: list[tuple[str, Any]], photos: Path, tmp_path: Path
) -> None:
    run = zoo.finetune(photos, **SMALL, track=["trackio"], output=tmp_path / "run")
    assert [call for call, _ in trackio] == ["init", "log", "log", "log", "log", "finish"]
    begun = trackio[0][1]
    assert (begun["project"], begun["name"], begun["resume"]) == ("zoo", "run", "never")
    assert begun["config"]["seed"] == 0
    logged = [value for call, value in trackio if call == "log"]
    assert [step for step, _ in logged] == [0, 1, 1, 1]
    assert [figures["train_loss"] for _, figures in logged[:2]] == [row["train_loss"] for row in run.history]
    assert logged[3][1]["final/test/accuracy"] == run.metrics["test"]["accuracy"]


def test_trackio_goes_on_with_the_run_of_the_same_name_when_resumed(
    trackio: list[tuple[str, Any]], photos: Path, tmp_path: Path
) -> None:
    settings = {**SMALL, "epochs": 4}
    with pytest.raises(RuntimeError, match="killed"):
        zoo.finetune(photos, **settings, track=["trackio"], callbacks=[_Dies()], output=tmp_path / "run")
    zoo.finetune(resume=tmp_path / "run")
    assert [value["resume"] for call, value in trackio if call == "init"] == ["never", "allow"]


# Names and extras


@pytest.mark.parametrize(
    ("plugin", "package", "extra"), [("tensorboard", "tensorboard", "tensorboard"), ("trackio", "trackio", "track")]
)
def test_a_missing_extra_is_named_before_anything_is_written(
    plugin: str, package: str, extra: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("torch.utils.tensorboard", f"zoo_{plugin}."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'torch-zoo\[{extra}\]'"):
        zoo.finetune(photos, **SMALL, track=[plugin], output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tensorbord", "no plugin is called 'tensorbord'.*Did you mean 'tensorboard'"),
        ("resnet", "plugin 'resnet' .* has no callbacks, .* there are .*tensorboard, trackio"),
        ("../x", "no plugin is called '../x'"),
    ],
)
def test_a_name_that_cannot_track_is_refused_with_those_that_can(name: str, words: str) -> None:
    with pytest.raises(UnknownNameError, match=words):
        find_trackers(open_plugins(), [name])


def test_an_unknown_name_imports_no_plugin_whose_facts_are_known(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(follower("return [Follower()]"))
    with pytest.raises(UnknownNameError, match="there are follower, tensorboard, trackio"):
        find_trackers(open_plugins(), ["nonsense"])
    assert "zoo_follower" not in sys.modules
    for name in [name for name in sys.modules if name.startswith("zoo_")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UnknownNameError, match="there are follower, tensorboard, trackio"):
        find_trackers(open_plugins(), ["nonsense"])
    assert not [name for name in sys.modules if name.startswith("zoo_")]


def test_the_command_refuses_an_unknown_tracker(photos: Path, tmp_path: Path) -> None:
    arguments = ["finetune", str(photos), "--model", "simple_cnn", "--track", "tensorbord"]
    arguments += ["--output", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-m", "zoo", *arguments], capture_output=True, text=True)
    assert (done.returncode, (tmp_path / "run").exists()) == (2, False)
    assert "Did you mean 'tensorboard'?" in done.stderr


def test_a_tracker_named_twice_follows_once() -> None:
    assert len(find_trackers(open_plugins(), ["tensorboard", "trackio", "tensorboard"])) == 2


# A plugin with callbacks only


def test_a_plugin_without_architectures_is_no_error_anywhere(install: Install) -> None:
    install(follower("return [Follower()]"))
    listed = CliRunner().invoke(cli, ["list"])
    assert (listed.exit_code, "follower" in listed.output) == (0, False)
    shown = json.loads(CliRunner().invoke(cli, ["plugins", "list", "--json"]).stdout)
    row = next(row for row in shown if row["name"] == "follower")
    assert (row["architectures"], row["error"], row["notes"]) == (0, "", [])
    doctor = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).stdout)
    assert all(plugin["error"] == "" for plugin in doctor["plugins"])


@pytest.mark.parametrize("name", ["tensorboard", "trackio"])
def test_the_kit_passes_a_plugin_without_architectures(name: str) -> None:
    report = check_plugin(name)
    outcomes = {result.id: str(result.outcome) for result in report.results}
    assert outcomes["loads"] == "passed"
    assert outcomes["facts_valid"] == "not applicable"
    assert "builds" not in outcomes
    assert "warned" not in report.counts


@pytest.mark.parametrize("hook", ["zoo_architectures():\n    return []", "zoo_build_model(num_classes):\n    pass"])
def test_half_an_architecture_plugin_is_broken_with_callbacks_too(hook: str, install: Install) -> None:
    install(follower("return [Follower()]") + f"\n@hookimpl\ndef {hook}\n")
    with pytest.raises(BrokenPluginError, match="which every plugin needs"):
        open_plugins().hooks("follower")
