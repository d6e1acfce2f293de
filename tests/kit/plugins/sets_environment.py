"""It sets a variable of the environment when it is imported."""

import os

from good_plugin import *  # noqa: F403

os.environ["ZOO_TEST_IMPORTED_BY"] = str(os.getpid())
