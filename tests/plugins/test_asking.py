"""What a plugin does when it is asked for its facts reaches nobody else."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import zoo.plugins.asking
from zoo.errors import BrokenPluginError
from zoo.plugins import PluginState

HOSTILE = {
    "leaves_at_once": ("import os\nos._exit(0)", "ended the process with exit code 0 before it had answered"),
    "is_killed": ("import os\nos.kill(os.getpid(), 9)", "was ended by SIGKILL"),
    "exits_in_text": (
        "class E(Exception):\n    def __str__(self): raise SystemExit(3)\n    __repr__ = __str__\nraise E",
        "raised E",
    ),
    "exits_in_list": (
        "LIST:class L(list):\n    def __iter__(self): raise SystemExit(0)\n    __len__ = __iter__\nX = L()",
        r"looking at what it returned called sys.exit\(0\)",
    ),
    "interrupts": ("raise KeyboardInterrupt", "raised KeyboardInterrupt"),
    "signals": ("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(10**6): pass", "Interrupt"),
    "patches": (
        "LIST:import pluggy\ndef boom(*a, **k): raise RuntimeError('patched')\npluggy.PluginManager.register = boom\n"
        "X = []",
        "raised RuntimeError: patched",
    ),
    "finds": (
        "import sys\nclass F:\n    def find_spec(self, name, *a): raise RuntimeError('finder')\n"
        "sys.meta_path.insert(0, F())\nimport nothing_at_all",
        "raised RuntimeError: finder",
    ),
}
HARMLESS = {
    "echoes": "import os, sys, atexit\nos.write(1, b'noise')\nsys.__stdout__.write('noise')\nos.system('echo noise')\n"
    "atexit.register(print, 'noise')",
    "closes": "import sys\nsys.stdout.close()",
    "forks": "import os\nos.fork()",
    "waits": "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()",
    "clears": "import sys\nsys.path.clear()",
}


def _code(site: Any, body: str) -> str:
    if not body.startswith("LIST:"):
        return body
    facts = "from zoo.architecture import Architecture\nfrom zoo.hookspecs import hookimpl\nZOO_HOOK_API = 1\n"
    hooks = "\n@hookimpl\ndef zoo_architectures():\n    return X\n\n@hookimpl\ndef zoo_build_model():\n    pass\n"
    return facts + body.removeprefix("LIST:") + hooks


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_plugin_fails_alone_and_by_name(site: Any, name: str) -> None:
    body, said = HOSTILE[name]
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": site.good})
    site.install("bad-zoo", "0.3", {"bad": name}, {name: _code(site, body)})
    found = site.plugins()
    names = {architecture.full_name for architecture in found.architectures()}
    assert {"lab/tiny", "resnet/resnet18"} <= names
    assert found.record("bad").state is PluginState.broken
    with pytest.raises(BrokenPluginError, match=rf"^plugin 'bad' \(bad-zoo 0\.3\).*{said}"):
        found.resolve("bad/net")
    assert name not in sys.modules


def test_text_that_misbehaves_when_it_is_looked_at_arrives_as_plain_text(site: Any) -> None:
    exits = "class N(str):\n    def __str__(self): raise SystemExit(7)\n    __eq__ = __hash__ = __str__\n"
    body = f"LIST:{exits}X = [Architecture(name=N('net'), family=N('lab'))]"
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": _code(site, body)})
    found = site.plugins().resolve("lab/net").architecture
    assert (type(found.name), type(found.family), found.family) == (str, str, "lab")


@pytest.mark.parametrize("name", HARMLESS)
def test_what_a_plugin_does_on_the_side_reaches_neither_output_nor_others(site: Any, name: str, capfd: Any) -> None:
    code = HARMLESS[name] + "\n" + site.good.replace("\n    ", "\n")
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": code})
    path = list(sys.path)
    assert "lab/tiny" in {architecture.full_name for architecture in site.plugins().architectures()}
    assert capfd.readouterr() == ("", "")
    assert sys.path == path


def test_a_plugin_that_hangs_is_given_up(site: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(zoo.plugins.asking, "_SILENT_S", 0.0)
    monkeypatch.setattr(zoo.plugins.asking, "_LIMIT_S", 0.5)
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": "import time\ntime.sleep(600)"})
    found = site.plugins()
    assert "resnet/resnet18" in {architecture.full_name for architecture in found.architectures()}
    assert "importing lab took over 0 s and was given up" in found.record("lab").error
    assert "importing plugin 'lab' (lab-zoo 1.0) for its facts ..." in capsys.readouterr().err


def test_a_failure_is_remembered_for_listings_until_it_may_have_gone(site: Any, tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("")
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": f"open({str(count)!r}, 'a').write('x')\nimport absent"})

    def times_asked() -> int:
        before = len(count.read_text())
        found = site.plugins()
        found.architectures()
        assert "No module named 'absent'" in found.record("lab").error
        return len(count.read_text()) - before

    assert [times_asked(), times_asked()] == [1, 0]
    site.install("other", "1.0", {})  # may be what was missing
    assert [times_asked(), times_asked()] == [1, 0]
    with pytest.raises(BrokenPluginError):
        site.plugins().resolve("lab/tiny")  # whoever wants it gets it asked again
    assert len(count.read_text()) == 3
    (site.folder / "lab.py").write_text(f"open({str(count)!r}, 'a').write('xx')\nimport absent")
    assert [times_asked(), times_asked()] == [2, 0]


def test_the_files_of_an_editable_plugin_are_looked_at_each_time(site: Any) -> None:
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": site.good}, record=[], editable=site.folder)
    assert "lab/tiny" in {architecture.full_name for architecture in site.plugins().architectures()}
    file = site.folder / "lab.py"
    file.write_text(file.read_text().replace('"tiny"', '"other"'))
    assert "lab/other" in {architecture.full_name for architecture in site.plugins().architectures()}


def test_ctrl_c_while_a_plugin_is_asked_names_it_and_ends_its_process(site: Any, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"import os, signal, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\n"
    code += "os.kill(os.getppid(), signal.SIGINT)\ntime.sleep(600)"
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": code})
    environment = {**os.environ, "PYTHONPATH": str(site.folder)}
    command = [sys.executable, "-m", "zoo", "list"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGINT
    assert "interrupted while plugin 'lab' (lab-zoo 1.0) was being imported." in done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_the_output_of_a_listing_is_one_document_whatever_a_plugin_prints(site: Any, tmp_path: Path) -> None:
    code = HARMLESS["echoes"] + "\n" + site.good.replace("\n    ", "\n")
    site.install("lab-zoo", "1.0", {"lab": "lab"}, {"lab": code})
    environment = {**os.environ, "PYTHONPATH": str(site.folder)}
    command = [sys.executable, "-m", "zoo", "list", "lab/", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True)
    assert [row["name"] for row in json.loads(done.stdout)] == ["lab/tiny"]
