"""Where a published file is fetched from: where it is published, or a mirror that the user named.

``ZOO_MIRROR`` holds pairs ``FROM=TO`` with commas between, each the beginning of an address::

    ZOO_MIRROR="https://huggingface.co=https://mirror.example/hf,https://download.pytorch.org=https://mirror.example/pt"

The longest fitting ``FROM`` decides; a mirror replaces the original and is not fallen back from. ``HF_ENDPOINT`` means
the same for ``https://huggingface.co``, as it does for the ``hf`` tool.
"""

import os

from zoo.errors import OptionError

HUB = "https://huggingface.co"
_SCHEMES = ("https://", "http://")


def mirrored(url: str) -> str:
    """The address to fetch a published file from.

    Raises:
        OptionError: ``ZOO_MIRROR`` or ``HF_ENDPOINT`` cannot be understood.
    """
    fitting = [(old, new) for old, new in _mirrors().items() if url == old or url.startswith(f"{old}/")]
    if not fitting:
        return url
    old, new = max(fitting, key=lambda pair: len(pair[0]))
    return new + url.removeprefix(old)


def _mirrors() -> dict[str, str]:
    mirrors = {}
    if endpoint := os.environ.get("HF_ENDPOINT", "").strip():
        if not endpoint.startswith(_SCHEMES):
            raise OptionError(f"HF_ENDPOINT={endpoint!a} is no address; it begins with https:// or http://.")
        mirrors[HUB] = endpoint.rstrip("/")
    for pair in filter(None, map(str.strip, os.environ.get("ZOO_MIRROR", "").split(","))):
        old, separator, new = (part.strip() for part in pair.partition("="))
        if not separator or not old.startswith(_SCHEMES) or not new.startswith(_SCHEMES):
            raise OptionError(
                f"ZOO_MIRROR holds {pair!a}, which is not FROM=TO with two addresses, for example "
                f"ZOO_MIRROR={HUB}=https://mirror.example."
            )
        mirrors[old.rstrip("/")] = new.rstrip("/")
    return mirrors
