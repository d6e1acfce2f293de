"""How much disk the stores may take, and what goes first."""

import os
import re
import shutil
from pathlib import Path

from zoo.errors import OptionError

DEFAULT_LIMIT_BYTES = 20_000_000_000
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def size_limit() -> int:
    """Bytes that stored features may take together: ``$ZOO_CACHE_LIMIT``, for example ``"50GB"``, else 20 GB.

    Raises:
        OptionError: The variable is not a size.
    """
    text = os.environ.get("ZOO_CACHE_LIMIT", "").strip()
    if not text:
        return DEFAULT_LIMIT_BYTES
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text, re.IGNORECASE)
    if match is None:
        raise OptionError(f"ZOO_CACHE_LIMIT={text} is not a size, for example 50GB, 500MB or 0.")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def make_room(folder: Path, limit_bytes: int, *, keep: Path | None = None) -> list[str]:
    """Remove the stores that were not used for longest until the rest is within the limit.

    A process that reads a removed store goes on with what it has mapped.

    Args:
        folder: Where the stores are.
        limit_bytes: Most bytes of all of them.
        keep: A store that stays.

    Returns:
        Names of the stores that were removed.
    """
    stores = [(_last_used(store), _bytes(store), store) for store in folder.iterdir() if store.is_dir()]
    total = sum(size for _, size, _ in stores)
    removed = []
    for _, size, store in sorted(stores):
        if total <= limit_bytes:
            break
        if store != keep:
            shutil.rmtree(store, ignore_errors=True)
            total -= size
            removed.append(store.name)
    return removed


def _last_used(store: Path) -> float:
    try:
        return (store / "store.json").stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _bytes(store: Path) -> int:
    try:
        return sum(file.stat().st_size for file in store.iterdir())
    except FileNotFoundError:  # another process removed it or a file of it
        return 0
