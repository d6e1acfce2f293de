"""Distributions in a folder on the import path, as an installer would have written them."""

import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import dedent, indent

import pytest

from zoo.plugins import Plugins
from zoo.registry import load_registry

# Indented as code in a test is, which adds to it or replaces parts of it.
GOOD = "\n" + indent((Path(__file__).parent / "good_plugin.py").read_text(encoding="utf-8"), "    ")


class Site:
    """A folder on the import path that distributions are installed to, as pip writes them."""

    good = GOOD

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self,
        distribution: str,
        version: str,
        plugins: Mapping[str, str],
        modules: Mapping[str, str] = {},
        *,
        requires: Sequence[str] = (),
        record: Sequence[str] | None = None,
        editable: Path | None = None,
    ) -> None:
        for module, code in modules.items():
            path = self.folder / f"{module.replace('.', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(code), encoding="utf-8")
        metadata = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        headers = "".join(f"Requires-Dist: {line}\n" for line in requires)
        text = f"Metadata-Version: 2.4\nName: {distribution}\nVersion: {version}\n{headers}\nWords.\nName: other\n"
        (metadata / "METADATA").write_text(text)
        lines = "".join(f"{name} = {value}\n" for name, value in plugins.items())
        (metadata / "entry_points.txt").write_text(f"[console_scripts]\nx = y:z\n\n[zoo.plugins]\n{lines}")
        if record is not None:
            (metadata / "RECORD").write_text("".join(f"{path},,\n" for path in record))
        if editable is not None:
            stated = {"dir_info": {"editable": True}, "url": f"file://{editable}"}
            (metadata / "direct_url.json").write_text(json.dumps(stated))
        importlib.invalidate_caches()

    def uninstall(self, distribution: str) -> None:
        for metadata in self.folder.glob(f"{distribution.replace('-', '_')}-*.dist-info"):
            for file in metadata.iterdir():
                file.unlink()
            metadata.rmdir()

    def plugins(self, registry: str = "") -> Plugins:
        """What zoo finds, under a registry file with that content."""
        path = Path(os.environ["XDG_CONFIG_HOME"]) / "explicit.toml"
        path.write_text(dedent(registry))
        return Plugins(load_registry(path, working_folder=path.parent))

    def forget_modules(self) -> None:
        """As in a new process."""
        own = {path.stem for path in self.folder.iterdir()}
        for name in [name for name in sys.modules if name.partition(".")[0] in own]:
            del sys.modules[name]
        importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site = Site(tmp_path / "site")
    site.folder.mkdir()
    monkeypatch.syspath_prepend(str(site.folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield site
    site.forget_modules()
