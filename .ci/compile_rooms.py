"""Compile the rooms that a simulation spends its time in, where ``MODELMGR_COMPILE=1`` asks for it.

A build hook of hatchling, for wheels alone: an editable installation keeps its plain Python, or
edits would change nothing. The modules are typed and pure, so mypyc translates them as they are;
their sources stay in the wheel beside them, and decide the same. Without a compiler, or where mypyc
fails, the wheel is plain Python and the build says so.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SWITCH = "MODELMGR_COMPILE"
# Whatever a request of a simulation passes through. ``errors`` must stay plain: exceptions with
# attributes of their own cannot be native classes.
ROOMS = ("scheduling",)
PLAIN = frozenset({"__init__.py", "beliefs.py", "native.py"})
MODULES = (
    "records/decision_log.py",
    "simulation/copies.py",
    "simulation/device.py",
    "simulation/engine.py",
    "simulation/faults.py",
    "simulation/striking.py",
    "simulation/world.py",
)


class CompileHook(BuildHookInterface[Any]):
    """Puts compiled modules beside their sources into the wheel."""

    _folder: Path | None = None

    def dependencies(self) -> list[str]:
        """Return what a build in an environment of its own needs besides hatchling."""
        return ["mypy>=1.17", "setuptools>=77"] if self._wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say where the results go."""
        if not self._wanted() or self.target_name != "wheel" or version == "editable":
            return
        compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
        if shutil.which(compiler) is None:
            self._stay_plain(f"there is no compiler {compiler!r}; CC names another")
            return
        folder = self._folder = Path(tempfile.mkdtemp(prefix="modelmgr-compile-"))
        shutil.copytree(Path(self.root) / "core", folder, dirs_exist_ok=True)
        # Type checking is the linter's work: here a package that is not installed is no error.
        command = [sys.executable, "-m", "mypyc", "--config-file=", "--ignore-missing-imports"]
        done = subprocess.run(  # noqa: S603 - this interpreter, our own files
            [*command, *_modules(folder)], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            self._stay_plain((done.stdout + done.stderr).strip()[-2_000:])
            return
        compiled = sorted(folder.glob("*.so")) + sorted(folder.glob("modelmgr/**/*.so"))
        build_data["force_include"].update(
            {str(path): str(path.relative_to(folder)) for path in compiled}
        )
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - hatchling's
        """Remove what was compiled: it is in the wheel now."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _stay_plain(self, reason: str) -> None:
        self.app.display_warning(f"not compiled, the wheel is plain Python: {reason}")

    @staticmethod
    def _wanted() -> bool:
        return os.environ.get(SWITCH) == "1"


def _modules(folder: Path) -> list[str]:
    """Return what to compile of a copy of ``core``, as paths in it."""
    package = folder / "modelmgr"
    rooms = [path for room in ROOMS for path in (package / room).glob("*.py")]
    chosen = [path for path in rooms if path.name not in PLAIN]
    chosen += [package / module for module in MODULES]
    return sorted(str(path.relative_to(folder)) for path in chosen)
