"""Where a list's ``model:`` lies: a local path, a path inside an installed package, or a hub id.

Finds files only. A package's code is never run: its folder is looked up without importing it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from pathlib import Path

from modelmgr.errors import MissingPackageError, ModelLoadError
from modelmgr.workers.loaders.nearest import did_you_mean

_PACKAGE = "package:"
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")


def is_package_path(model: str) -> bool:
    """Return whether this is ``package:NAME/path``."""
    return model.startswith(_PACKAGE)


def could_be_hub_id(model: str) -> bool:
    """Return whether this could name a model on the hub: ``name`` or ``owner/name``."""
    return _HUB_ID.fullmatch(model) is not None


def find_local(model: str) -> Path | None:
    """Return the file or folder that ``model`` names, None where it can only be a hub id.

    Raises:
        MissingPackageError: ``package:NAME/…`` and NAME is not installed.
        ModelLoadError: the path does not exist in the package, or at all.
    """
    if is_package_path(model):
        return _find_in_package(model)
    path = Path(model).expanduser()
    if path.exists():
        return path
    if could_be_hub_id(model):
        return None
    hint = _nearest_entry(path.parent, path.name)
    raise ModelLoadError(f"there is no {model!r} (looked in {Path.cwd()}){hint}")


def _find_in_package(model: str) -> Path:
    name, _, inside = model.removeprefix(_PACKAGE).partition("/")
    if not name or ".." in Path(inside).parts:
        raise ModelLoadError(f"{model!r} is no path in a package; write package:NAME/path")
    roots = _package_folders(name)
    if not roots:
        raise MissingPackageError(
            f"{model!r}: package {name!r} is not installed; try: pip install {name}"
        )
    for root in roots:
        path = root / inside
        if path.exists():
            return path
    wanted = roots[0] / inside
    hint = _nearest_entry(wanted.parent, wanted.name)
    raise ModelLoadError(f"{model!r}: package {name!r} has no {inside!r}{hint}")


def _package_folders(name: str) -> list[Path]:
    """Return the folders of the import package, or of the distribution, of that name."""
    if name.isidentifier():
        # A top-level name only: looking up a dotted one would import its parent.
        found = importlib.util.find_spec(name)
        if found is not None and found.submodule_search_locations:
            return [Path(location) for location in found.submodule_search_locations]
    try:
        distribution = importlib.metadata.distribution(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return []
    tops = {file.parts[0] for file in distribution.files or () if len(file.parts) > 1}
    folders = (Path(str(distribution.locate_file(top))) for top in sorted(tops))
    return [folder for folder in folders if folder.is_dir() and folder.suffix != ".dist-info"]


def _nearest_entry(folder: Path, name: str) -> str:
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return ""
    return did_you_mean(name, names)


def find_file(model: str) -> Path:
    """Return the file that ``model`` names; errors as ``find_local``, a hub id being none."""
    path = find_local(model)
    if path is None:
        raise ModelLoadError(
            f"there is no file {model!r} (looked in {Path.cwd()}){_nearest_entry(Path(), model)}"
        )
    if not path.is_file():
        raise ModelLoadError(f"{model!r} is a folder; give the file in it")
    return path
