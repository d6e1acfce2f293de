"""The fresh process of :mod:`zoo.testing.probe`: run as ``python -m zoo.testing.watched ANSWER``, the task on stdin."""

from __future__ import annotations

import inspect
import os
import random
import sys
import sysconfig
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from zoo.architecture import Architecture
from zoo.plugins import Plugin
from zoo.plugins.hooks import PluginHooks, load_plugin
from zoo.testing.probe import Findings, Task

_HEAVY = ("torch", "torchvision", "timm")
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
_CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")
_CODE = (".py", ".pyc", ".so", ".pyd", ".dylib", ".dll", ".pth")
_SYSTEM = ("/proc", "/sys", "/dev")
_LISTED = 5


class Watch:
    """Notes what audit events tell, and refuses the network.

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
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
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
    sys.addaudithook(watch)
    record = Plugin(name="plugin", distribution="", version="", module=task.module, origin="")
    hooks = load_plugin(record, versions={})
    architectures = {architecture.name: architecture for architecture in hooks.architectures()}
    watch.findings.heavy = [name for name in _HEAVY if name in sys.modules]
    watch.on = False
    for library in _HEAVY[:2]:  # importing these changes settings, which is not the plugin's doing
        import_module(library)
    before = _settings()
    watch.on = True
    for name, size in zip(task.architectures, task.sizes, strict=True):
        with suppress(Exception):  # what fails here fails the check that only builds
            _build_and_run(hooks, architectures[name], size, watch)
    watch.on = False
    after = _settings()
    for setting in {**before, **after}:
        if before.get(setting) != after.get(setting):
            _note(watch.findings.changed, setting)
    answer.write_bytes(msgspec.json.encode(watch.findings))


def _build_and_run(hooks: PluginHooks, architecture: Architecture, size: tuple[int, int], watch: Watch) -> None:
    import torch

    from zoo.chain import StageSequence

    options = architecture.parse_options({})
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = hooks.build_model(architecture, num_classes=5, in_channels=3, options=options).eval()
        states.append(torch.get_rng_state())
    if torch.equal(*states) and next(model.parameters(), None) is not None:
        _note(watch.findings.changed, f"torch's random numbers, which {architecture.name} seeds itself")
    with torch.no_grad():
        StageSequence(hooks.stages(architecture, model)).eval()(torch.zeros(1, 3, *size))


def _settings() -> dict[str, object]:
    """What a plugin could change for everyone else in the process."""
    import numpy as np
    import torch

    readers: dict[str, Callable[[], object]] = {
        "torch.set_default_dtype": torch.get_default_dtype,
        "torch.set_default_device": torch.get_default_device,
        "torch.set_grad_enabled": torch.is_grad_enabled,
        "torch.set_num_threads": torch.get_num_threads,
        "torch.use_deterministic_algorithms": torch.are_deterministic_algorithms_enabled,
        "torch.set_float32_matmul_precision": torch.get_float32_matmul_precision,
        "torch.backends.cudnn.benchmark": lambda: torch.backends.cudnn.benchmark,
        "torch.backends.cudnn.deterministic": lambda: torch.backends.cudnn.deterministic,
        "the state of the module random": random.getstate,
        "the state of numpy.random": lambda: str(np.random.get_state()),  # that very state
        "the current folder": os.getcwd,
        "sys.path": lambda: list(sys.path),
        "the recursion limit": sys.getrecursionlimit,
    }
    settings = {name: read() for name, read in readers.items()}
    return settings | {f"the environment variable {name}": value for name, value in os.environ.items()}


def _package_folder(module: str) -> Path | None:
    from importlib.util import find_spec

    spec = find_spec(module.partition(":")[0].partition(".")[0])
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0]).resolve() if places else None


def _note(notes: list[str], text: str) -> None:
    if text not in notes and len(notes) < _LISTED:
        notes.append(text)


if __name__ == "__main__":
    main()
