"""Install twelve plugins that are broken in twelve ways beside the good ones, and show what becomes of the tool.

``python scripts/show_broken_plugins.py`` prints how many architectures ``zoo list`` shows without and with them, what
``zoo plugins list`` says of each, and the median extra time of ``zoo list`` over seven runs. They lie in a temporary
folder that is first on the import path of the commands, as pip would have installed them.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

RUNS = 7
GOOD = """
from zoo.architecture import Architecture
from zoo.hookspecs import hookimpl

ZOO_HOOK_API = 1

@hookimpl
def zoo_architectures():
    return [Architecture(name="net", family="net")]

@hookimpl
def zoo_build_model(num_classes):
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))
"""
# What is wrong, by the plugin's name; the module has the plugin's name and a "_zoo" behind it.
BROKEN = {
    "exits": ("calls sys.exit", "import sys\nsys.exit(3)\n"),
    "syntax": ("a SyntaxError", "def f(:\n"),
    "dependency": ("a dependency that is missing", "import absent_package\n"),
    "newer": ("a hook API newer than ours", GOOD.replace("API = 1", "API = 2")),
    "older": ("a hook API older than ours", GOOD.replace("API = 1", "API = 0")),
    "hook": ("a misspelt hook", GOOD.replace("zoo_build_model", "zoo_biuld_model")),
    "argument": ("a misspelt argument", GOOD.replace("num_classes)", "num_clases)")),
    "raises": ("a hook that raises", GOOD.replace("return [Arch", "1 / 0; [Arch")),
    "nonsense": ("a hook that returns nonsense", GOOD.replace("return [Arch", "return 42; [Arch")),
    "slow": (
        "an import that takes seconds and then fails",
        "import time\ntime.sleep(2.5)\nraise RuntimeError('late')\n",
    ),
    "torch": ("an import that pulls in torch", "import torch\n" + GOOD),
    "conflict": ("a name that two distributions claim", GOOD),
}


def main() -> None:
    """Install, list, time, print."""
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder, "site")
        clean, spoiled = _environment(folder, None), _environment(folder, site)
        for name, (_, code) in BROKEN.items():
            requires = ["absent-dist>=1"] if name == "dependency" else []
            _install(site, f"zoo-{name}", name, code, requires)
        _install(site, "zoo-conflict-too", "conflict", GOOD, [])
        before, after = _json(clean, "list"), _json(spoiled, "list")
        good = {row["name"] for row in before}
        print(
            f"zoo list: {len(good)} architectures without them, {len(good & {r['name'] for r in after})} of these with"
        )
        print("zoo plugins list:")
        for row in _json(spoiled, "plugins", "list"):
            if row["name"] in BROKEN:
                said = row["error"] or "; ".join(row["notes"])
                print(f"  {BROKEN[row['name']][0]}\n    {row['name']} is {row['state']}: {said}")
        alone, beside = _seconds(clean), _seconds(spoiled)
        print(f"zoo list, median of {RUNS}: {alone:.2f} s without them, {beside:.2f} s with, {beside - alone:+.2f} s")
        _remove(site, "slow")
        _remove(site, "torch")
        beside = _seconds(spoiled)
        print(f"  without the two slow ones: {beside:.2f} s, {beside - alone:+.2f} s")


def _environment(folder: str, site: Path | None) -> Mapping[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "ZOO_REGISTRY")}
    own = {
        "ZOO_CACHE": str(Path(folder, "cache" if site is None else "spoiled-cache")),
        "XDG_CONFIG_HOME": folder,
        "OMP_NUM_THREADS": "1",
    }
    return {**kept, **own, **({} if site is None else {"PYTHONPATH": str(site)})}


def _install(site: Path, distribution: str, plugin: str, code: str, requires: list[str]) -> None:
    module = f"{distribution.removeprefix('zoo-').replace('-', '_')}_zoo"
    metadata = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir(parents=True)
    lines = [f"Requires-Dist: {line}" for line in requires]
    (metadata / "METADATA").write_text(
        "\n".join(["Metadata-Version: 2.4", f"Name: {distribution}", "Version: 1.0", *lines, ""])
    )
    (metadata / "entry_points.txt").write_text(f"[zoo.plugins]\n{plugin} = {module}\n")
    (site / f"{module}.py").write_text(code)


def _remove(site: Path, name: str) -> None:
    (site / f"zoo_{name}-1.0.dist-info" / "entry_points.txt").unlink()


def _zoo(environment: Mapping[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "zoo", *arguments]
    folder = environment["XDG_CONFIG_HOME"]  # no registry.toml there
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=folder).stdout


def _json(environment: Mapping[str, str], *arguments: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(_zoo(environment, *arguments, "--json"))
    return found


def _seconds(environment: Mapping[str, str]) -> float:
    _zoo(environment, "list")  # from here on the facts of good plugins are known
    taken = []
    for _ in range(RUNS):
        start = time.perf_counter()
        _zoo(environment, "list")
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
