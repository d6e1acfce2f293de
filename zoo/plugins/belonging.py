"""Whether the module that a plugin is registered with is its own distribution's, found out without importing it.

Python imports the first module of a name that the path has, whoever installed it: without a look at where it lies, a
package that happens to be called ``zoo_resnet`` would answer as zoo's own.
"""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path


def module_folders(module: str) -> Sequence[Path]:
    """The folders that hold the top package of a module; empty when it is not on the import path.

    Args:
        module: A module, or ``module:attribute``. Nothing is imported for it.
    """
    try:
        spec = find_spec(_dotted(module).partition(".")[0])
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    places = [Path(place) for place in spec.submodule_search_locations or ([spec.origin] if spec.origin else [])]
    return [place.parent for place in places]


def belongs(metadata: Path, module: str, folders: Sequence[Path]) -> bool:
    """Whether a module that lies in these folders is the one that a distribution installed.

    Args:
        metadata: The distribution's ``.dist-info`` or ``.egg-info``. True for anything else, about which nothing is
            written down: the place where a registry names a module, or an archive.
        module: A module, or ``module:attribute``.
        folders: Of :func:`module_folders`.
    """
    if metadata.suffix not in (".dist-info", ".egg-info"):
        return True
    there = {*folders, *(folder.resolve() for folder in folders)}
    source = _editable_source(metadata)
    if source is not None and any(folder.is_relative_to(source) for folder in there):
        return True
    return not there.isdisjoint({metadata.parent, metadata.parent.resolve()}) and _is_listed(metadata, module)


def _dotted(module: str) -> str:
    return module.partition(":")[0].strip()


def _editable_source(metadata: Path) -> Path | None:
    """The folder that an editable installation runs from."""
    try:
        stated = json.loads((metadata / "direct_url.json").read_bytes())
        if not stated["dir_info"]["editable"]:
            return None
        url = str(stated["url"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if "%" in url:
        from urllib.parse import unquote

        url = unquote(url)
    return Path(url.removeprefix("file://")).resolve()


def _is_listed(metadata: Path, module: str) -> bool:
    """Whether the list of installed files names the module; a distribution without a list is believed."""
    try:
        lines = (metadata / "RECORD").read_text("utf-8", "replace").splitlines()
    except OSError:
        return True
    path = _dotted(module).replace(".", "/")
    return not lines or any(line.startswith((f"{path}/", f"{path}.")) for line in lines)
