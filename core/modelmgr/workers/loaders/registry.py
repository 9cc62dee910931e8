"""Which loaders there are. A loader's module is imported when it is asked for, not before."""

from __future__ import annotations

import importlib
from typing import cast, get_args

from modelmgr.errors import UsageError
from modelmgr.workers.loaders.base import Loader
from modelmgr.workers.loaders.nearest import did_you_mean
from modelmgr.workload.model_spec import LoaderName

LOADER_NAMES: tuple[str, ...] = get_args(LoaderName)

_CLASSES = {
    "transformers": "TransformersLoader",
    "torch": "TorchLoader",
    "onnx": "OnnxLoader",
    "python": "PythonLoader",
    "synthetic": "SyntheticLoader",
}


def get_loader(name: str) -> Loader:
    """Return the loader of that name; UsageError names the nearest one where there is none."""
    class_name = _CLASSES.get(name)
    if class_name is None:
        hint = did_you_mean(name, LOADER_NAMES)
        raise UsageError(f"there is no loader {name!r}{hint}")
    module = importlib.import_module(f"modelmgr.workers.loaders.{name}")
    return cast("Loader", getattr(module, class_name)())
