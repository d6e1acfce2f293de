"""It leaves a file wherever it runs."""

import tempfile
from pathlib import Path

from good_plugin import *  # noqa: F403

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_build_model(num_classes, in_channels, options):
    from good_model import Net

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "build.log").write_text("built")
    return Net(num_classes, in_channels, width=options["width"])
