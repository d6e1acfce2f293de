"""It imports torch where facts are listed."""

import torch  # noqa: F401
from good_plugin import *  # noqa: F403
