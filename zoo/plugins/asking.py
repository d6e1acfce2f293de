"""Ask a plugin for its facts in a process of its own.

A plugin is code of strangers: it may end the process, hang, print, replace what others use, or return objects that
misbehave when they are looked at. What comes back from here is text that was checked, or one error that names it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from zoo.architecture import Architecture
from zoo.decoding import ascii_safe
from zoo.plugins.facts import Facts, FactsError, check_architectures
from zoo.plugins.records import Plugin

_LIMIT_S = 60.0
_SILENT_S = 2.0
_MOST_BYTES = 64 * 1024 * 1024
_LAST_WORDS = 200


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """Which plugin the process is to ask.

    Attributes:
        name: As in :class:`~zoo.plugins.records.Plugin`, like those that follow.
        module: What is imported.
        distribution: Who provides it.
        version: Of the distribution.
        origin: Where it is registered.
        requires: What it says that it needs.
        versions: Versions of the installed distributions by canonical name, for advice on missing ones.
    """

    name: str
    module: str
    distribution: str
    version: str
    origin: str
    requires: tuple[str, ...]
    versions: dict[str, str]


def ask(plugin: Plugin, versions: Mapping[str, str]) -> Facts[Architecture]:
    """Import a plugin in a process of its own, once, and take down what it lists.

    On stderr it is said when that takes longer than 2 s; it may take a minute. What the plugin prints is dropped.

    Args:
        plugin: Which one.
        versions: Versions of the installed distributions by canonical name.

    Returns:
        Its facts, checked here, or what is wrong with it.

    Raises:
        KeyboardInterrupt: Ctrl-C; its text names the plugin.
    """
    question = Question(
        plugin.name,
        plugin.module,
        plugin.distribution,
        plugin.version,
        plugin.origin,
        plugin.requires,
        dict(versions),
    )
    with tempfile.TemporaryDirectory(prefix="zoo-plugin-", ignore_cleanup_errors=True) as folder:
        file, said = Path(folder, "answer.json"), Path(folder, "said.txt")
        try:
            code = _run(plugin, msgspec.json.encode(question), file, said)
        except subprocess.TimeoutExpired:
            return _failed(plugin, f"importing {plugin.module} took over {_LIMIT_S:.0f} s and was given up")
        except OSError as error:
            return _failed(plugin, f"no process could be started to import {plugin.module}: {error}")
        try:
            content = file.read_bytes() if file.stat().st_size <= _MOST_BYTES else b""
            answer = msgspec.json.decode(content, type=Facts[Architecture])
            checked = check_architectures(answer.architectures, plugin=plugin.name)
        except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
            return _failed(plugin, f"importing {plugin.module} {_ending(code)} before it had answered{_words(said)}")
        except FactsError as error:
            return _failed(plugin, f"zoo_architectures: {error}")
    return msgspec.structs.replace(answer, architectures=checked)


def _run(plugin: Plugin, question: bytes, file: Path, said: Path) -> int:
    """Run the process to its end, with everything that it started; its exit code."""
    command = [sys.executable, "-P", "-m", "zoo.plugins.answering", str(file)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    asked = file.with_name("question.json")
    asked.write_bytes(question)
    # Files, not pipes: what the plugin starts may hold a pipe open after the process has ended.
    with asked.open("rb") as stdin, said.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=stdin, stdout=out, stderr=out, env=environment, start_new_session=True
        )
    try:
        try:
            return process.wait(_SILENT_S)
        except subprocess.TimeoutExpired:
            print(f"importing {plugin.label} for its facts ...", file=sys.stderr, flush=True)
        return process.wait(_LIMIT_S - _SILENT_S)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"while {plugin.label} was being imported") from None
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):  # there is nothing left to end
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _failed(plugin: Plugin, text: str) -> Facts[Architecture]:
    return Facts(error=f"{plugin.label}: {text}.")


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended the process with exit code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def _words(said: Path) -> str:
    """The last line that the process wrote."""
    try:
        lines = said.read_bytes()[-_LAST_WORDS:].decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    words = [line.strip() for line in lines if line.strip()]
    return f"; its last words: {ascii_safe(words[-1])}" if words else ""
