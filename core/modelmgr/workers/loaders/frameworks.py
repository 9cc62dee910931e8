"""Importing a framework when it is needed, with an error that says what to install."""
# ruff: noqa: ANN401 - a module's attributes have no types before it is imported

from __future__ import annotations

import importlib
from typing import Any

from modelmgr.errors import MissingPackageError

# Which extra of this distribution brings a package.
_EXTRAS = {
    "torch": "torch",
    "transformers": "torch",
    "safetensors": "torch",
    "onnxruntime": "onnx",
}


def import_framework(name: str) -> Any:
    """Return the module; MissingPackageError where it, or a package that it needs, is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise missing_package((error.name or name).partition(".")[0]) from error


def missing_package(package: str) -> MissingPackageError:
    """Return an error that says what to install for a package."""
    extra = _EXTRAS.get(package)
    remedy = f"pip install 'modelmgr[{extra}]'" if extra else f"pip install {package}"
    return MissingPackageError(f"{package} is not installed; try: {remedy}")
