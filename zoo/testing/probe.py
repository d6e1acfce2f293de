"""Ask a fresh process what a plugin does to the world when it is imported, asked for its facts, and builds."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from zoo.testing.check import CheckFailedError

_TIMEOUT_S = 300


class Findings(msgspec.Struct, kw_only=True):
    """What a plugin did in a process of its own.

    Attributes:
        heavy: Libraries that were imported when the facts were known.
        network: Connections and look-ups that were tried; none got through.
        read: Files that were read and belong to no library.
        written: Files and folders that were written, made or removed.
        changed: Settings of the process that are no longer as they were.
    """

    heavy: list[str] = []
    network: list[str] = []
    read: list[str] = []
    written: list[str] = []
    changed: list[str] = []


class Task(msgspec.Struct, kw_only=True):
    """What the process is to do.

    Attributes:
        module: The plugin, as its entry point names it.
        architectures: Names of those to build.
        size: Height and width of the images that they are fed.
    """

    module: str
    architectures: list[str]
    sizes: list[tuple[int, int]]


def probe(module: str, architectures: Sequence[str], sizes: Sequence[tuple[int, int]]) -> Findings:
    """Import a plugin in a fresh process, ask for its facts, build and run architectures, and watch.

    Raises:
        CheckFailedError: The process ended early; its last words are in the message.
    """
    task = Task(module=module, architectures=list(architectures), sizes=list(sizes))
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "findings.json"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-P", "-m", "zoo.testing.watched", str(answer)]
        try:
            done = subprocess.run(
                command,
                input=msgspec.json.encode(task),
                capture_output=True,
                env=environment,
                timeout=_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise CheckFailedError(f"importing and building in a fresh process took over {_TIMEOUT_S} s") from None
        if done.returncode != 0 or not answer.is_file():
            words = done.stderr.decode(errors="replace").strip().splitlines()
            raise CheckFailedError(
                f"a fresh process that imports and builds it ended with code {done.returncode}: "
                f"{words[-1] if words else 'it said nothing'}"
            )
        return msgspec.json.decode(answer.read_bytes(), type=Findings)
