"""A forkserver as its launcher sees it: started, asked for workers, told of their ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from modelmgr.errors import WorkerDiedError, WorkerError, WorkerTimeoutError
from modelmgr.workers import server_protocol
from modelmgr.workers.output_log import OutputLog
from modelmgr.workers.process import WorkerProcess, open_pidfd, start_python
from modelmgr.workers.process_exit import ExitStatus
from modelmgr.workers.refusals import explain, no_descriptor
from modelmgr.workers.server_protocol import Exited, Fork, Forked, ForkFailed, Preload, ServerReady
from modelmgr.workers.watcher import Watcher

_END_S = 10.0  # a forkserver ends at once; this is for a machine that is swapping


class ServerProcess:
    """One forkserver. All its state changes in the watcher's thread; ``fork`` is thread-safe.

    Attributes:
        pid: its process id.
        missing: modules that it could not import, each with the reason.
        preload_ns: what its start took, imports included.
    """

    def __init__(
        self,
        watcher: Watcher,
        modules: tuple[str, ...],
        environment: Mapping[str, str],
        *,
        timeout_s: float,
    ) -> None:
        """Start it and wait until the modules are imported.

        Raises:
            WorkerError: it could not be started, ended, or took longer than ``timeout_s``.
        """
        started_ns = time.monotonic_ns()
        self.missing: Mapping[str, str] = {}
        self._watcher = watcher
        self._modules = modules
        try:
            self._log = OutputLog()
        except OSError as error:
            raise _refusal(error) from error
        try:
            self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            self._log.close()
            raise _refusal(error) from error
        self._ready: Future[ServerReady] = Future()
        self._forks: dict[int, tuple[Future[WorkerProcess], OutputLog]] = {}
        self._workers: dict[int, WorkerProcess] = {}
        self._serial = 0
        self._lock = threading.Lock()
        self._lost = False
        try:
            with theirs:
                watcher.call(lambda: self._start(theirs, environment))
        except OSError as error:
            self._end.close()
            self._log.close()
            raise _refusal(error) from error
        except BaseException:  # Ctrl-C while the watcher starts it: its end of the socket ends it
            self._end.shutdown(socket.SHUT_WR)
            raise
        self.pid = self._process.pid
        try:
            server_protocol.send(self._end, Preload(modules=modules))
            self.missing = self._ready.result(timeout_s).missing
        except FutureTimeoutError:
            self.close(kill=True)
            raise WorkerTimeoutError(
                f"a forkserver did not import {', '.join(modules)} within {timeout_s:g} s",
                pid=self.pid,
                details=self._log.tail(),
            ) from None
        except (OSError, WorkerError) as error:
            self.close(kill=True)
            status = exit_status_of(self._process.returncode)
            raise WorkerDiedError(
                f"a forkserver {status} while importing {', '.join(modules) or 'nothing'}",
                pid=self.pid,
                details=self._log.tail(),
                exit_code=status.code,
                signal=status.signal,
            ) from error
        except BaseException:
            self.close(kill=True)
            raise
        self.preload_ns = time.monotonic_ns() - started_ns

    @property
    def lost(self) -> bool:
        """Whether it is gone: a further worker needs a new one."""
        return self._lost

    def fork(
        self, connection: socket.socket, log: OutputLog, *, timeout_s: float, fresh: bool = False
    ) -> WorkerProcess:
        """Return a new worker process that has the socket and prints into the log.

        Args:
            connection: its end of the socket.
            log: where it prints.
            timeout_s: how long the server may take, seconds.
            fresh: whether it becomes an interpreter of its own.

        Raises:
            WorkerError: the server is gone, or the system has no room for a further process.
        """
        future: Future[WorkerProcess] = Future()
        self._watcher.call(lambda: self._order_fork(connection, log, future, fresh=fresh))
        try:
            return future.result(timeout_s)
        except FutureTimeoutError:
            self.close(kill=True)
            raise WorkerTimeoutError(
                f"forkserver {self.pid} made no worker within {timeout_s:g} s and was ended",
                pid=self.pid,
                details=self._log.tail(),
            ) from None

    def close(self, *, kill: bool = False) -> None:
        """End it and its workers, and wait for it; a second call does nothing.

        Args:
            kill: do not ask first.
        """
        with self._lock:
            if self._process.returncode is None:
                if kill:
                    self._process.kill()  # under Popen's own lock: never another process's id
                # Its end of the socket: it kills its workers, tells nobody and ends.
                with contextlib.suppress(OSError):
                    self._end.shutdown(socket.SHUT_WR)
                try:
                    self._process.wait(_END_S)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
        self._watcher.call(self._lose)
        self._end.close()
        self._log.close()

    def _start(self, theirs: socket.socket, environment: Mapping[str, str]) -> None:
        process = start_python("forkserver", theirs, self._log, environment)
        self._process = process
        self._log.close_writing()
        pidfd = open_pidfd(process)

        def reap() -> None:
            self._watcher.remove(pidfd)
            os.close(pidfd)
            process.wait()  # it has ended: no zombie stays, whoever notices first

        self._watcher.add(pidfd, reap)
        self._watcher.add(self._log, self._drain)
        self._watcher.add(self._end, self._react)

    def _order_fork(
        self,
        connection: socket.socket,
        log: OutputLog,
        future: Future[WorkerProcess],
        *,
        fresh: bool,
    ) -> None:
        if self._lost:
            raise WorkerError(f"forkserver {self.pid} is gone", details=self._log.tail())
        self._serial += 1
        self._forks[self._serial] = (future, log)
        try:
            server_protocol.send(
                self._end,
                Fork(serial=self._serial, fresh=fresh),
                [connection.fileno(), log.writing],
            )
        except OSError as error:
            del self._forks[self._serial]
            raise WorkerError(f"forkserver {self.pid} is gone: {error}") from error

    def _react(self) -> None:
        try:
            event, descriptors = server_protocol.receive_event(self._end)
        except (EOFError, OSError, ValueError):
            self._lose()
            return
        match event:
            case ServerReady():
                self._ready.set_result(event)
            case Forked():
                future, log = self._forks.pop(event.serial)
                if not descriptors:  # the kernel drops what finds no room, and says nothing
                    # Its socket is closed now, so the worker ends by itself.
                    future.set_exception(
                        WorkerError(f"no worker could be made: {explain(no_descriptor())}")
                    )
                    return
                process = WorkerProcess(self._watcher, event.pid, descriptors.pop(), log)
                self._workers[event.pid] = process
                future.set_result(process)
            case ForkFailed():
                future, _ = self._forks.pop(event.serial)
                future.set_exception(WorkerError(f"no worker could be made: {event.reason}"))
            case Exited():
                worker = self._workers.pop(event.pid, None)
                if worker is not None:
                    worker.set_exited(event.status)
        server_protocol.close_all(descriptors)

    def _drain(self) -> None:
        if not self._log.drain():
            self._watcher.remove(self._log)

    def _lose(self) -> None:
        """Take note that it is gone: its workers went with it, by the kernel's doing."""
        if self._lost:
            return
        self._lost = True
        self._log.drain()
        self._watcher.remove(self._end)
        self._watcher.remove(self._log)
        gone = WorkerError(f"forkserver {self._process.pid} is gone", details=self._log.tail())
        if not self._ready.done():
            self._ready.set_exception(gone)
        for future, _ in self._forks.values():
            future.set_exception(gone)
        self._forks.clear()
        for worker in self._workers.values():
            worker.expect_end(ExitStatus(signal=signal.SIGKILL, reason="its forkserver was gone"))
        self._workers.clear()


def _refusal(error: OSError) -> WorkerError:
    return WorkerError(f"no forkserver could be started: {explain(error)}")


def exit_status_of(returncode: int | None) -> ExitStatus:
    """Return what a Popen's return code says."""
    if returncode is None:
        return ExitStatus()
    return ExitStatus(signal=-returncode) if returncode < 0 else ExitStatus(code=returncode)
