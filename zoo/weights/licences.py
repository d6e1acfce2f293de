"""What a licence of weights forbids."""

import re

# SPDX names and the words that publishers use: CC-BY-NC-4.0, "fair-noncommercial-research-license", "research only".
_NOT_COMMERCIAL = re.compile(r"(^|[^a-z])nc([^a-z]|$)|non[-_ ]?commercial|(research|academic)([-_ ]use)?[-_ ]only")


def forbids_commercial_use(licence: str) -> bool:
    """Whether a licence, by its SPDX identifier or in the publisher's words, says that it forbids commercial use.

    False is no permission: a licence may forbid it without saying so in its name, and an empty text states nothing.
    """
    return bool(_NOT_COMMERCIAL.search(licence.lower()))
