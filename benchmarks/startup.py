"""How long a person waits for a list or for help: zoo against importing timm.

    python benchmarks/startup.py [--repeats 15] [--architectures 1500]

Seconds from the start of a process to its end, output thrown away. Each command in turn, round after round, after two
rounds that are not counted: all sides have their byte code and the page cache, and zoo the facts it keeps of plugins.
The list is made as long as asked by a plugin module that a registry file names; the first one, without kept facts, is
stated apart.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from common import table, write_section
from results import machine

PLUGIN = """
from zoo.architecture import Architecture, Weights
from zoo.hookspecs import hookimpl

ZOO_HOOK_API = 1


@hookimpl
def zoo_architectures():
    return [
        Architecture(name=f"made_{{i}}", family="made", weights=(Weights(tag="a", url="https://example.org/a"),))
        for i in range({count})
    ]


@hookimpl
def zoo_build_model(num_classes):
    raise NotImplementedError
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--architectures", type=int, default=1500)
    parser.add_argument("--dry-run", action="store_true", help="print, and leave RESULTS.md as it is")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows, note = measure(Path(folder), arguments.architectures, arguments.repeats)
    text = "\n\n".join(
        [
            f"`python benchmarks/startup.py --repeats {arguments.repeats} --architectures {arguments.architectures}`",
            f"{machine()}. Medians of {arguments.repeats} interleaved rounds, seconds from process start to its end.",
            table(["command", "median, s", "fastest, s", "slowest, s", "times faster"], rows),
            note,
        ]
    )
    print(text)
    if not arguments.dry_run:
        write_section("Listing and help", text)


def measure(folder: Path, architectures: int, repeats: int) -> tuple[list[list[object]], str]:
    """The rows of the table, and what is said below it."""
    environment = {**os.environ, "ZOO_CACHE": str(folder / "cache"), "PYTHONPATH": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as on anyone's machine
    zoo = [str(Path(sys.executable).with_name("zoo"))]
    started = time.perf_counter()
    installed = listed([*zoo, "list"], environment)
    first_s = time.perf_counter() - started
    (folder / "zoo_made.py").write_text(PLUGIN.format(count=max(1, architectures - installed)))
    registry = folder / "made.toml"
    registry.write_text('schema = 1\n[plugins.made]\nmodule = "zoo_made"\n')
    long_list = [*zoo, "list", "--registry", str(registry)]
    commands = {
        f"zoo list, {listed(long_list, environment):,} architectures": long_list,
        f"zoo list, the {installed:,} that are installed": [*zoo, "list"],
        "timm.list_models()": [sys.executable, "-c", "import timm; timm.list_models()"],
        "zoo --help": [*zoo, "--help"],
        "import timm": [sys.executable, "-c", "import timm"],
        "import torch": [sys.executable, "-c", "import torch"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    times = timed(commands, environment, repeats)
    middle = {name: median(seconds) for name, seconds in times.items()}
    rows: list[list[object]] = []
    for name, seconds in times.items():
        against = {"zoo list": "timm.list_models()", "zoo --help": "import timm"}.get(name.partition(",")[0])
        faster = f"{middle[against] / middle[name]:.0f}× than `{against}`" if against else ""
        rows.append([f"`{name}`", f"{middle[name]:.3f}", f"{min(seconds):.3f}", f"{max(seconds):.3f}", faster])
    return (
        rows,
        f"The first `zoo list`, which asks every installed plugin for its facts and keeps them: {first_s:.2f} s.",
    )


def listed(command: list[str], environment: dict[str, str]) -> int:
    """How many architectures a listing shows."""
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return len(done.stdout.splitlines()) - 1


def timed(commands: dict[str, list[str]], environment: dict[str, str], repeats: int) -> dict[str, list[float]]:
    """Seconds of every command in every round that counts."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for counts in [False] * 2 + [True] * repeats:
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=environment)
            if counts:
                times[name].append(time.perf_counter() - started)
    return times


if __name__ == "__main__":
    main()
