"""How a fresh interpreter is told to be a forkserver or a worker: the one command line for both."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import modelmgr

# -P: no stray file of the working directory may hide a module. The package's own folder comes
# last, for where it was put on the parent's path by hand.
_BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from modelmgr.workers.{module} import main; main(sys.argv[2:])"
)
_PACKAGE_FOLDER = str(Path(modelmgr.__file__).resolve().parent.parent)


def python_command(module: str, connection: int, parent_pid: int) -> list[str]:
    """Return the command that runs ``main`` of a module of ours with a socket and its parent."""
    return [
        *(sys.executable, "-P", "-c", _BOOTSTRAP.format(module=module)),
        *(_PACKAGE_FOLDER, str(connection), str(parent_pid)),
    ]


def become_python(module: str, connection: int, parent_pid: int) -> NoReturn:
    """Replace this process by such an interpreter, its socket with it; OSError where it cannot."""
    os.set_inheritable(connection, True)
    command = python_command(module, connection, parent_pid)
    os.execv(command[0], command)  # noqa: S606 - this interpreter, our own module
