"""Finding ``module:callable`` and calling it, with an error for each way that can fail."""
# ruff: noqa: ANN401 - the user's module, function and object may be anything

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelmgr.errors import MissingPackageError, ModelLoadError, UsageError
from modelmgr.workers.loaders.exhaustion import is_out_of_memory
from modelmgr.workers.loaders.messages import told
from modelmgr.workers.loaders.nearest import did_you_mean
from modelmgr.workload.model_spec import ModelSpec

_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def check_target(spec: ModelSpec) -> None:
    """Raise UsageError where the target is missing or is not written ``module:callable``."""
    if spec.target is None:
        raise UsageError(
            f"model {spec.tag!r}: loader {spec.loader!r} needs `target: my_package.module:callable`"
        )
    if _TARGET.fullmatch(spec.target) is None:
        raise UsageError(
            f"model {spec.tag!r}: {spec.target!r} is no target; write `module:callable`, "
            "for example 'my_package.models:load'"
        )


def _import_module(target: str, name: str) -> Any:
    here = str(Path.cwd())
    # Last, so that a file here never hides an installed package; kept, because the module may
    # import its neighbours later.
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise ModelLoadError(
                f"target {target!r}: no module named {missing!r}; is its folder on PYTHONPATH, "
                f"or is it in the current folder ({here})?"
            ) from error
        raise MissingPackageError(
            f"target {target!r}: module {name!r} imports {missing!r}, which is not installed; "
            "install it in the environment that runs modelmgr"
        ) from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelLoadError(
            f"target {target!r}: importing {name!r} raised {told(error)}",
            details=traceback.format_exc(),
        ) from error


def find_target(target: str) -> Callable[..., Any]:
    """Import the module and return the callable.

    Raises:
        ModelLoadError: no such module or attribute (the nearest is named), or not callable.
        MissingPackageError: the module itself imports something that is not installed.
    """
    module_name, _, path = target.partition(":")
    found: Any = _import_module(target, module_name)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            public = [name for name in dir(found) if not name.startswith("__")]
            hint = did_you_mean(part, public)
            raise ModelLoadError(f"target {target!r}: there is no {part!r}{hint}") from error
    if not callable(found):
        raise ModelLoadError(
            f"target {target!r} is a {type(found).__name__} and cannot be called; "
            "name a function or class that returns the model"
        )
    result: Callable[..., Any] = found
    return result


def call_target(target: str, function: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """Return what the target returns; ModelLoadError where it raises (memory errors pass)."""
    try:
        return function(**options)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelLoadError(
            f"target {target!r} raised {told(error)}",
            details=traceback.format_exc(),
        ) from error
