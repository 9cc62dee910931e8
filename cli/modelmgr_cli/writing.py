"""Write what a long command came to, so that a full disk costs a file and not the result.

Owns the decision log's file and the order of things: whatever can be written is written, the result
is shown, and only then is said what could not be written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from modelmgr.errors import UsageError
from modelmgr.records.atomic_files import write_atomically
from modelmgr_cli.terminal import Terminal


class LogFile:
    """The decision log's file: written as decisions are taken, and no reason to end a run.

    The first write that fails (a full disk) ends the log at its last whole line and is told at
    once; the run goes on without it. It grows in place, so that ``tail -f`` follows it, and is
    locked while it is written: two runs cannot mix their lines.

    Attributes:
        path: the file.
        problem: why the log ends too early; None while it is whole.
    """

    def __init__(self, path: Path, terminal: Terminal) -> None:
        """Open it for writing; raise UsageError where that cannot be done."""
        self.path = path
        self.problem: str | None = None
        self._terminal = terminal
        self._written_bytes = 0
        try:
            # Not emptied before it is known to be nobody else's.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._file = os.fdopen(descriptor, "wb", buffering=0)
            if path.is_file():  # a pipe or /dev/null has no content to spoil
                self._take()
        except OSError as error:
            raise UsageError(
                f"--log: cannot write {path}: {error.strerror or error}\nname another file"
            ) from error

    def _take(self) -> None:
        """Keep the file to ourselves until it is closed, and empty it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UsageError(
                f"--log: another run writes {self.path} just now\nname another file, or wait for it"
            ) from None
        except OSError:
            pass  # a file system without locks
        self._file.truncate(0)

    def write(self, lines: bytes) -> None:
        """Write whole lines; called by whichever thread decides, one at a time."""
        if self.problem is not None:
            return
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):  # a pipe has no end to cut off
                self._file.truncate(self._written_bytes)
            self.problem = f"{self.path} ends too early: {error.strerror or error}"
            self._terminal.warn(f"the log {self.problem}; the run goes on without it")
            return
        self._written_bytes += len(lines)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Writing:
    """Writes a command's files, each of them: what cannot be written must not cost the others.

    What went wrong is said by ``check``, once the result has been shown.
    """

    def __init__(self, terminal: Terminal, log: LogFile | None = None) -> None:
        """Begin with the log, which was written before."""
        self._terminal = terminal
        self._problems: list[str] = []
        if log is not None and log.problem is not None:
            self._problems.append(f"the log {log.problem}\nmake room, or name another file")

    def write(self, what: str, path: Path | None, make: Callable[[], bytes]) -> bool:
        """Write a file atomically, if it is wanted, and tell.

        Args:
            what: it holds, for people.
            path: the file; None where it is not wanted.
            make: gives its content.

        Returns:
            Whether it was written.
        """
        if path is None:
            return False
        try:
            write_atomically(path, make())
        except UsageError as error:
            self._problems.append(str(error))
            return False
        self._terminal.tell(f"{what} written to {path}")
        return True

    def check(self) -> None:
        """Raise UsageError where something could not be written."""
        if self._problems:
            raise UsageError("\n".join(self._problems))
