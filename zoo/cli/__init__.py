"""The ``zoo`` command: each command is one call of the Python API and how its result is printed."""

from zoo.cli.app import main

__all__ = ["main"]
