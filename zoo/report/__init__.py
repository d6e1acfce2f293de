"""The report of a run: one HTML file that needs nothing else."""

from zoo.report.html import render

__all__ = ["render"]
