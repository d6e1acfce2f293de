"""What may be a name, and when two names are the same."""

import re

# A name of a plugin, architecture, preset or recipe: it can be a file's name and never a path.
NAME_PATTERN = "[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"


def is_name(text: str) -> bool:
    """Whether a text can name a plugin, architecture, preset or recipe."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def canonical(name: str) -> str:
    """The name of a plugin or distribution with case and runs of ``-``, ``_``, ``.`` made equal, as in PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()
