"""The fresh process of :mod:`zoo.testing.probe`: run as ``python -m zoo.testing.watched ANSWER``, the task on stdin."""

from __future__ import annotations

import inspect
import os
import sys
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from zoo.architecture import Architecture
from zoo.plugins import Plugin
from zoo.plugins.hooks import PluginHooks, load_plugin
from zoo.testing.probe import FIRST_SEED, Findings, Task, facts_text
from zoo.testing.process_state import functions, library_settings, settings

_HEAVY = ("torch", "torchvision", "timm")
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
_PROCESSES = (
    "subprocess.Popen",
    "os.system",
    "os.fork",
    "os.forkpty",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "pty.spawn",
)
_CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")
_CODE = (".py", ".pyc", ".so", ".pyd", ".dylib", ".dll", ".pth")
_SYSTEM = ("/proc", "/sys", "/dev")
_LISTED = 5


class Watch:
    """Notes what audit events tell, and refuses the network and other processes.

    Args:
        package: Folder of the plugin's own package; its files are code, and nothing else of it may be read.
    """

    def __init__(self, package: Path | None) -> None:
        self.findings = Findings()
        self.on = True
        self._package = package
        libraries = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
        libraries |= {place for place in sys.path if place.endswith(("site-packages", "dist-packages"))}
        self._libraries = [Path(place).resolve() for place in libraries if place]

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Look at one audit event."""
        if not self.on:
            return
        if event in _NETWORK:
            where = next((part for part in arguments if isinstance(part, str | tuple)), "somewhere")
            _note(self.findings.network, f"{event} to {where}")
            raise ConnectionRefusedError(f"zoo's kit lets a plugin have no network ({event} to {where})")
        if event in _PROCESSES and not self._library_is_imported():
            what = f"{event} {_words(arguments)}".strip()
            _note(self.findings.started, what)
            raise PermissionError(f"zoo's kit lets a plugin start no process ({what})")
        if event == "ctypes.dlopen" and not self._library_is_imported():
            _note(self.findings.started, f"{event} {arguments[0] or 'this program'}")
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            self._opened(os.fsdecode(arguments[0]), arguments[1], arguments[2])
        elif event in _CHANGES and not self._library_is_imported():
            _note(self.findings.written, f"{event} {arguments[0]}")

    def _opened(self, path: str, mode: str | None, flags: int) -> None:
        writes = any(sign in mode for sign in "wax+") if mode else bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if path == os.devnull or ((writes or not self._is_code(path)) and self._library_is_imported()):
            return
        if writes:
            _note(self.findings.written, path)
        elif not self._is_code(path):
            _note(self.findings.read, path)

    def _is_code(self, path: str) -> bool:
        return path.endswith(_CODE) or path.startswith(_SYSTEM) or path in sys.path or self._is_library(path)

    def _is_library(self, path: str) -> bool:
        place = Path(path).resolve()
        if self._package is not None and place.is_relative_to(self._package):
            return False
        return any(place.is_relative_to(library) for library in self._libraries)

    def _library_is_imported(self) -> bool:
        """Whether this happens while a library is imported: torch's compiler makes a folder then, for example."""
        frame = inspect.currentframe()
        while frame is not None:
            file = frame.f_code.co_filename
            if frame.f_code.co_name == "<module>" and file != __file__ and self._is_library(file):
                return True
            frame = frame.f_back
        return False


def main() -> None:
    """Do the task and write the findings."""
    answer = Path(sys.argv[1])
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    watch = Watch(_package_folder(task.module))
    findings = watch.findings
    before = settings(), functions()
    sys.addaudithook(watch)
    hooks, architectures = _listed(task, findings)
    watch.on = False
    if not findings.heavy:  # importing libraries changes settings and functions, which is not the plugin's doing
        _compare(findings, before, (settings(), functions()))
    for library in _HEAVY[:2]:
        import_module(library)
    import torch

    torch.set_num_threads(task.threads)
    before = settings() | library_settings(), functions()
    watch.on = True
    for name, size in zip(task.architectures, task.sizes, strict=True):
        with suppress(Exception):  # what fails here fails the check that only builds
            _build_and_run(hooks, architectures[name], task.num_classes, size, watch)
    watch.on = False
    _compare(findings, before, (settings() | library_settings(), functions()))
    answer.write_bytes(msgspec.json.encode(findings))


def _listed(task: Task, findings: Findings) -> tuple[PluginHooks, dict[str, Architecture]]:
    record = Plugin(name="plugin", distribution="", version="", module=task.module, origin="")
    hooks = load_plugin(record, versions={})
    architectures = {architecture.name: architecture for architecture in hooks.architectures()}
    findings.facts = {name: facts_text(architecture) for name, architecture in architectures.items()}
    findings.heavy = [name for name in _HEAVY if name in sys.modules]
    return hooks, architectures


def _build_and_run(
    hooks: PluginHooks, architecture: Architecture, num_classes: int, size: tuple[int, int], watch: Watch
) -> None:
    import torch

    from zoo.chain import StageSequence, tensor_digest

    options = architecture.parse_options({})
    states = []
    for seed in (FIRST_SEED, FIRST_SEED + 1):
        torch.manual_seed(seed)
        model = hooks.build_model(architecture, num_classes=num_classes, in_channels=3, options=options).eval()
        states.append(torch.get_rng_state())
        values = {name: tensor_digest(tensor) for name, tensor in model.state_dict().items()}
        watch.findings.values.setdefault(architecture.name, values)
    if torch.equal(*states) and next(model.parameters(), None) is not None:
        _note(watch.findings.changed, f"torch's random numbers, which {architecture.name} seeds itself")
    with torch.no_grad():
        StageSequence(hooks.stages(architecture, model)).eval()(torch.zeros(1, 3, *size))


def _compare(
    findings: Findings,
    before: tuple[Mapping[str, object], Mapping[str, object]],
    after: tuple[Mapping[str, object], Mapping[str, object]],
) -> None:
    """Note settings with another value, and functions that are another object."""
    for setting in {**before[0], **after[0]}:
        if before[0].get(setting) != after[0].get(setting):
            _note(findings.changed, setting)
    for name, function in after[1].items():
        if before[1].get(name, function) is not function:
            _note(findings.changed, f"{name}, for which it put another")


def _package_folder(module: str) -> Path | None:
    from importlib.util import find_spec

    spec = find_spec(module.partition(":")[0].partition(".")[0])
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0]).resolve() if places else None


def _words(arguments: tuple[Any, ...]) -> str:
    """What an audit event says is started: a program, or a command line."""
    texts = (part for part in arguments if isinstance(part, str | bytes | os.PathLike))
    return next((os.fsdecode(text) for text in texts), "")


def _note(notes: list[str], text: str) -> None:
    if text not in notes and len(notes) < _LISTED:
        notes.append(text)


if __name__ == "__main__":
    main()
