"""What to say where a package that modelmgr needs is not there: which one, and how to get it.

Imports nothing but the standard library, as any other package may be the one that is missing.
"""

from __future__ import annotations

from collections.abc import Mapping

_OURS = frozenset({"modelmgr", "modelmgr_cli"})
_DISTRIBUTIONS: Mapping[str, str] = {"pynvml": "nvidia-ml-py", "yaml": "pyyaml"}
"""What pip calls a package that is imported by another name."""


def told_missing(error: ImportError) -> str | None:
    """Return which package could not be imported and how to install it; None of one of ours."""
    package = _imported_package(error)
    if package is None or package in _OURS:
        return None
    name = _DISTRIBUTIONS.get(package, package)
    if isinstance(error, ModuleNotFoundError):
        return f"the package {name} is not installed; try: python -m pip install {name}"
    return (
        f"the package {name} cannot be imported ({error}); "
        f"try: python -m pip install --force-reinstall {name}"
    )


def _imported_package(error: ImportError) -> str | None:
    """Return the package that an import wanted: by its name, else the one that it broke in."""
    name, trace = error.name, error.__traceback__
    while name is None and trace is not None:
        if trace.tb_next is None:
            name = str(trace.tb_frame.f_globals.get("__name__"))
        trace = trace.tb_next
    return name and name.partition(".")[0]
