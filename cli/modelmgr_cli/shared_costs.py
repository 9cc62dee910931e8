"""A cost database that several runs at once may add to: ``run --costs-out``.

Each adds to what the file holds when it is done, not to what it held when it began, and keeps the
others away from then until its own is written. Owns that order; what is learned is the library's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from modelmgr.errors import UsageError
from modelmgr.records.codec import encode_costs, load_costs
from modelmgr.records.costs import CostDatabase, MachineInfo
from modelmgr.records.machines import is_same_device


class SharedCosts:
    """The database of ``--costs-out``; refuses another device's when it is made.

    Attributes:
        path: the file; it need not be there yet.

    Raises:
        UsageError: it cannot be read, or was measured on another device.
    """

    def __init__(self, path: Path, machine: MachineInfo) -> None:
        """Read it once, so that a wrong file is refused before anything runs."""
        self.path = path
        self._machine = machine
        self._folder: int | None = None
        self._problem: UsageError | None = None
        self._last = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the others have it."""
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None

    def latest(self) -> CostDatabase | None:
        """Return what the file holds by now, None for nothing; the others wait from now on.

        A file that became unusable meanwhile costs no run: ``encode`` says so.
        """
        with contextlib.suppress(OSError):  # a file system without locks: the last one wins
            # The folder's, as the file itself is replaced; it ends with its process.
            self._folder = os.open(self.path.resolve().parent, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._folder, fcntl.LOCK_EX)
        try:
            self._last = self._read()
        except UsageError as error:
            self._problem = error
        return self._last

    def encode(self, database: CostDatabase) -> bytes:
        """Return the new file's content; raise UsageError where the old one became unusable."""
        if self._problem is not None:
            raise self._problem
        return encode_costs(database)

    def _read(self) -> CostDatabase | None:
        if not self.path.exists():
            return None
        database = load_costs(self.path)
        if not is_same_device(database.machine, self._machine):
            device, here = database.machine.device, self._machine.device
            raise UsageError(
                f"--costs-out: {self.path} was measured on another device ({device.kind} "
                f"{device.name}) than this one ({here.kind} {here.name})\nname another file"
            )
        return database
