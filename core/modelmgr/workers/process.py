"""A worker's process as its parent sees it: how it is ended, how its end is noticed.

Knows nothing of models or messages. The process is named by a pidfd, so that no signal ever
reaches another process that was given the same number. Linux 5.3 or newer.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Mapping

from modelmgr.workers.interpreter import python_command
from modelmgr.workers.output_log import OutputLog
from modelmgr.workers.process_exit import ExitStatus, kill_tree
from modelmgr.workers.watcher import Watcher


class WorkerProcess:
    """One worker process. Owns its pidfd and its output pipe. Thread-safe.

    Attributes:
        pid: its process id.
        log: what it printed.
    """

    def __init__(self, watcher: Watcher, pid: int, pidfd: int, log: OutputLog) -> None:
        """Take over a process; in the watcher's thread only."""
        self.pid = pid
        self.log = log
        self._pidfd = pidfd
        self._watcher = watcher
        self._lock = threading.Lock()
        self._exited = threading.Event()
        self._status: ExitStatus | None = None
        log.close_writing()
        watcher.add(log, self._drain)

    @property
    def pidfd(self) -> int:
        """The descriptor that becomes readable when the process ends; -1 once released."""
        return self._pidfd

    @property
    def status(self) -> ExitStatus | None:
        """How it ended, None while it runs."""
        return self._status

    def wait(self, timeout_s: float | None) -> ExitStatus | None:
        """Return how it ended once it was waited for; None when the time passed first."""
        self._exited.wait(timeout_s)
        return self._status

    def kill(self) -> None:
        """End it and its descendants by SIGKILL; nothing happens where it is gone."""
        with self._lock:
            if self._pidfd >= 0 and self._status is None:
                with contextlib.suppress(ProcessLookupError):
                    kill_tree(self.pid, self._pidfd)

    def set_exited(self, status: ExitStatus) -> None:
        """Take note of its end, after its last words were read; in the watcher's thread only."""
        if self._status is None:
            self.log.drain()
            self._watcher.remove(self.log)
            self._status = status
            self._exited.set()

    def expect_end(self, status: ExitStatus) -> None:
        """End it, and take note of its end by itself; in the watcher's thread only.

        For a process that nobody is left to wait for.
        """
        self.kill()
        pidfd = self._pidfd

        def react() -> None:
            self._watcher.remove(pidfd)
            self.set_exited(status)

        self._watcher.add(pidfd, react)

    def release(self) -> None:
        """Close the descriptors; the process must have ended. A second call does nothing."""
        with self._lock:
            descriptor, self._pidfd = self._pidfd, -1
            if descriptor >= 0:
                os.close(descriptor)
        self.log.close()

    def _drain(self) -> None:
        if not self.log.drain():
            self._watcher.remove(self.log)


def open_pidfd(started: subprocess.Popen[bytes]) -> int:
    """Return a pidfd of a child; where there is room for none, end the child and raise OSError."""
    try:
        return os.pidfd_open(started.pid)  # not waited for: this is no other process
    except OSError:
        started.kill()
        started.wait()
        raise


def start_python(
    module: str, connection: socket.socket, log: OutputLog, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Run ``main`` of a module of ours in a fresh interpreter, tied to this thread.

    Raises:
        OSError: the system has no room for a further process.
    """
    descriptor = connection.fileno()
    return subprocess.Popen(  # noqa: S603 - this interpreter, our own module
        python_command(module, descriptor, os.getpid()),
        stdin=subprocess.DEVNULL,
        stdout=log.writing,
        stderr=log.writing,
        pass_fds=(descriptor,),
        env=dict(environment),
        start_new_session=True,
    )
