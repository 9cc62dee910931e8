"""What can be seen to be wrong with a list before any of its models is loaded.

A list is refused as a whole or measured as a whole: a mistake in its last model must not cost the
hours of those before it, nor put an error beside figures that are good. This module loads no model
and runs none of a user's code in this process; what fails only while it loads is a measurement's
failure, and not found here.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from modelmgr.errors import InputError, ModelmgrError, UsageError
from modelmgr.workers.loaders.frameworks import missing_package
from modelmgr.workers.loaders.nearest import did_you_mean
from modelmgr.workers.loaders.onnx_file import weights_of_file
from modelmgr.workers.loaders.registry import get_loader
from modelmgr.workers.loaders.sources import find_file
from modelmgr.workload.model_list import Place
from modelmgr.workload.model_spec import ModelSpec

Places = Mapping[str, Place]
"""Where each model stands in its list, by tag."""


def check_spec(spec: ModelSpec, places: Places) -> None:
    """Refuse a model whose words make no sense.

    Args:
        spec: the model.
        places: of the list's models; one that is not there has no place in the message.

    Raises:
        InputError: what is wrong, where in the list.
    """
    try:
        get_loader(spec.loader).check(spec)
    except ModelmgrError as error:
        raise bad_input(error, spec.tag, places) from error


def check_source(spec: ModelSpec, places: Places) -> None:
    """Refuse a model whose code, file or framework is not there, or is plainly something else.

    Raises:
        InputError: as ``check_spec``.
    """
    try:
        _check_frameworks(spec)
        if spec.target is not None:
            _check_target(spec.tag, spec.target)
        if spec.loader == "onnx":
            weights_of_file(find_file(spec.model or ""), f"model {spec.tag!r}: {spec.model!r}")
    except ModelmgrError as error:
        raise bad_input(error, spec.tag, places) from error


def bad_input(error: ModelmgrError, tag: str, places: Places) -> InputError:
    """Return an error about a model as one of its list, with the place where it is known."""
    if isinstance(error, InputError):
        return error
    problem = str(error)
    if repr(tag) not in problem:
        problem = f"model {tag!r}: {problem}"
    place = places.get(tag)
    if place is None:
        return InputError(problem)
    return InputError(problem, path=place.path, line=place.line, column=place.column)


def _check_frameworks(spec: ModelSpec) -> None:
    """Refuse a loader whose packages are not installed; imports none of them."""
    for module in get_loader(spec.loader).preload:
        package = module.partition(".")[0]
        if _find_top(package) is None:
            raise missing_package(package)


def _check_target(tag: str, target: str) -> None:
    """Refuse a target whose module is nowhere, or plainly has no such name; imports nothing."""
    module, _, path = target.partition(":")
    name, *inner = module.split(".")
    found = _find_top(name)
    for part in inner:
        if found is None:
            break
        name = f"{name}.{part}"
        found = _find_inside(name, found)
    if found is None:
        raise UsageError(
            f"target {target!r} of model {tag!r}: no module named {name!r}; is its folder on "
            f"PYTHONPATH, or is it in the current folder ({Path.cwd()})?"
        )
    names = _names_of(found)
    wanted = path.partition(".")[0]
    if names is not None and wanted not in names:
        hint = did_you_mean(wanted, [each for each in names if not each.startswith("__")])
        raise UsageError(f"target {target!r} of model {tag!r}: {module!r} has no {wanted!r}{hint}")


def _find_top(name: str) -> ModuleSpec | None:
    try:
        found = importlib.util.find_spec(name)
    except ValueError:  # a module that runs as a program has no spec
        found = None
    return found or PathFinder.find_spec(name, [str(Path.cwd())])


def _find_inside(name: str, package: ModuleSpec) -> ModuleSpec | None:
    """Return a submodule's spec without importing its package, as ``find_spec`` would."""
    folders = package.submodule_search_locations
    if folders is None:
        return None
    for finder in sys.meta_path:
        found = finder.find_spec(name, list(folders))
        if found is not None:
            return found
    return None


def _names_of(module: ModuleSpec) -> set[str] | None:
    """Return the names that a module's text binds, None where only running it would tell."""
    if module.origin is None or not module.origin.endswith(".py"):
        return None
    try:
        tree = ast.parse(Path(module.origin).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None  # importing it will say more
    names: set[str] = set()
    for node in ast.walk(tree):
        names.update(_bound(node))
    # A star import, a module's __getattr__, or globals() and setattr may bind any name.
    if names & {"*", "__getattr__", "globals", "setattr", "exec"}:
        return None
    return names


def _bound(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Name(id=name):
            yield name
        case ast.alias(name=name, asname=asname):
            yield asname or name.partition(".")[0]
        case _:
            return
