"""Ask a fresh process what a plugin does to the world when it is imported, asked for its facts, and builds."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from zoo.architecture import Architecture
from zoo.testing.check import CheckFailedError

FIRST_SEED = 1
_TIMEOUT_S = 300


class Findings(msgspec.Struct, kw_only=True):
    """What a plugin did in a process of its own.

    Attributes:
        heavy: Libraries that were imported when the facts were known.
        network: Connections and look-ups that were tried; none got through.
        read: Files that were read and belong to no library.
        written: Files and folders that were written, made or removed.
        started: Processes that it wanted to start, none of which was; and C libraries that it loaded.
        changed: Settings and functions of the process that are no longer as they were.
        facts: :func:`facts_text` of each architecture, by its name.
        values: A hash of every tensor of each architecture that was built, from :data:`FIRST_SEED`.
    """

    heavy: list[str] = []
    network: list[str] = []
    read: list[str] = []
    written: list[str] = []
    started: list[str] = []
    changed: list[str] = []
    facts: dict[str, str] = {}
    values: dict[str, dict[str, str]] = {}


class Task(msgspec.Struct, kw_only=True):
    """What the process is to do.

    Attributes:
        module: The plugin, as its entry point names it.
        architectures: Names of those to build.
        sizes: Height and width of the images that they are fed.
        num_classes: Number of outputs that they are built with.
        threads: Of torch, as many as here: some random values depend on it in their last digit.
    """

    module: str
    architectures: list[str]
    sizes: list[tuple[int, int]]
    num_classes: int
    threads: int


def probe(task: Task) -> Findings:
    """Import a plugin in a fresh process, ask for its facts, build and run architectures, and watch.

    The process hashes text with another seed than this one, so what depends on that differs too.

    Raises:
        CheckFailedError: The process ended early; its last words are in the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "findings.json"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1",
        }
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


def facts_text(architecture: Architecture) -> str:
    """An architecture's facts as text, without the name of the plugin, to be compared between processes."""
    return repr(dataclasses.replace(architecture, plugin=""))
