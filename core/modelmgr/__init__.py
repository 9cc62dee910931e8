"""Measure, place and schedule several models on one accelerator."""

from modelmgr._version import __version__

__all__ = ["__version__"]
