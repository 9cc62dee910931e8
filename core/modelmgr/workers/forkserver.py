"""The forkserver: a process with the frameworks imported, which forks a worker when told to.

One that imported nothing starts workers as interpreters of their own (``fresh``).

Started by a fresh exec, so nothing of the user's process is inherited: no memory, no high-water
mark, no thread, no CUDA context. It runs no model itself and starts no thread, so its forks are
sound; BLAS libraries end their idle threads at a fork by themselves. It ends when its launcher
does (the end of the socket, and the kernel's word), and its workers end with it. What a worker
leaves behind, in whatever session, becomes a child of this process and is ended as well.

Why not ``multiprocessing.forkserver``: that has one server and one set of preloaded modules for a
whole process, imports the user's ``__main__``, pickles, cannot set the allocator before the
imports, and leaves a worker that computes running when the user's process is killed.
"""

from __future__ import annotations

import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn

from modelmgr.devices.process_tree import child_pids
from modelmgr.workers import allocator, child, process_control, server_protocol
from modelmgr.workers.interpreter import become_python
from modelmgr.workers.loaders.messages import told
from modelmgr.workers.process_exit import end_children, reap
from modelmgr.workers.refusals import explain, no_descriptor
from modelmgr.workers.server_protocol import (
    Exited,
    Fork,
    Forked,
    ForkFailed,
    Preload,
    ServerReady,
)

_MAX_REASON = 500
_SENT_WITH_FORK = 2  # the socket and the output pipe
_MAX_SIGNALS = 4096
_CHILD_BROKEN = 70  # exit status: an error of ours in the worker (EX_SOFTWARE)


def main(arguments: list[str]) -> NoReturn:
    """Serve until the launcher is gone. Arguments: the socket's descriptor, the launcher's pid."""
    control, launcher_pid = int(arguments[0]), int(arguments[1])
    process_control.tie_to_parent(launcher_pid)
    process_control.leave_terminal()
    process_control.adopt_orphans()
    process_control.set_name("modelmgr-fork")
    allocator.use_policy("memory")  # before any framework is imported, or it comes too late
    with socket.socket(fileno=control) as end:
        end.set_inheritable(False)
        try:
            order, _ = server_protocol.receive_order(end)
            if isinstance(order, Preload):
                server_protocol.send(end, ServerReady(missing=_import_all(order.modules)))
            # An import may hang in native code, where only SIGKILL ends it; from here on there is
            # time to end the workers' children too.
            server = _Server(end)
            process_control.tie_to_parent(launcher_pid, signal.SIGTERM)
            server.serve()
        except (EOFError, BrokenPipeError):
            pass
    os._exit(0)  # frameworks take long to tear down, and nothing is worth saving


def _import_all(modules: tuple[str, ...]) -> dict[str, str]:
    missing: dict[str, str] = {}
    gc.disable()  # little of an import is garbage, and looking for it takes a good part of the time
    for module in modules:
        try:
            importlib.import_module(module)
        except BaseException as error:  # noqa: BLE001 - SystemExit too; the worker will report it
            missing[module] = told(error)[:_MAX_REASON]
    # What was made so far is never garbage: workers need not look at it again.
    allocator.give_back()
    gc.freeze()
    gc.enable()
    return missing


class _Server:
    """Forks on order and tells of every worker that ended."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._own = child_pids(os.getpid())  # what a framework started while it was imported
        self._workers: dict[int, int] = {}  # pidfd to pid
        self._selector = selectors.DefaultSelector()
        self._selector.register(end, selectors.EVENT_READ)
        # A signal is read like an order: an exception out of its handler could come in the middle
        # of ending the workers.
        self._signalled, self._signal = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._signalled, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._signal, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda _number, _frame: None)

    def serve(self) -> None:
        """Serve until the launcher closes the socket, then end every worker."""
        try:
            while True:
                for key, _ in self._selector.select():
                    if key.fd == self._signalled:
                        # A framework may have handlers of its own: their signals come here too.
                        if signal.SIGTERM in os.read(self._signalled, _MAX_SIGNALS):
                            return
                        continue
                    if key.fileobj is self._end:
                        order, descriptors = server_protocol.receive_order(self._end)
                        if isinstance(order, Fork):
                            self._fork(order, descriptors)
                    else:
                        self._tell_exit(key.fd)
        finally:
            for pidfd, pid in self._workers.items():
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                reap(pid)
            end_children()

    def _fork(self, order: Fork, descriptors: list[int]) -> None:
        if len(descriptors) != _SENT_WITH_FORK:  # the kernel drops those that find no room
            self._refuse(order, descriptors, no_descriptor())
            return
        connection, log = descriptors
        server_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._refuse(order, descriptors, error)
            return
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._become_worker(server_pid, connection, log, fresh=order.fresh)
        try:
            # Opened before anything is reaped, so it names this worker and no later process.
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            reap(pid)
            self._refuse(order, descriptors, error)
            return
        server_protocol.close_all(descriptors)
        self._workers[pidfd] = pid
        self._selector.register(pidfd, selectors.EVENT_READ)
        server_protocol.send(self._end, Forked(serial=order.serial, pid=pid), [pidfd])

    def _refuse(self, order: Fork, descriptors: list[int], error: OSError) -> None:
        server_protocol.close_all(descriptors)
        server_protocol.send(self._end, ForkFailed(serial=order.serial, reason=explain(error)))

    def _tell_exit(self, pidfd: int) -> None:
        pid = self._workers.pop(pidfd)
        self._selector.unregister(pidfd)
        status = reap(pid)
        os.close(pidfd)
        # A worker that lives adopts its own: these are what the dead one left.
        end_children(keep=(*self._own, *self._workers.values()))
        server_protocol.send(self._end, Exited(pid=pid, status=status))

    def _become_worker(
        self, server_pid: int, connection: int, log: int, *, fresh: bool
    ) -> NoReturn:
        status = _CHILD_BROKEN
        try:
            process_control.redirect_output(log)
            os.close(log)
            self._selector.close()
            self._end.close()
            server_protocol.close_all([self._signalled, self._signal, *self._workers])
            if fresh:
                become_python("child", connection, server_pid)
            _draw_own_random_numbers()
            status = child.run(connection, server_pid)
        except BaseException:  # noqa: BLE001 - a worker must never go on as a second server
            traceback.print_exc()
        finally:
            child.end_process(status)


def _draw_own_random_numbers() -> None:
    # Python's own generator does this at a fork; numpy's would be the same in every worker.
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
