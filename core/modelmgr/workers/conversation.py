"""Requests and answers between a worker's owner and its process, one at a time.

Owns what silence means: an answer that does not come in time, a pipe that closes, bytes that are
no answer, a process that ends. After any of these the process is ended, for nothing it says later
could be trusted; and each is told as what it was. It knows nothing of models.
"""

from __future__ import annotations

import logging
import select
import signal
import socket
import threading
import time
from collections.abc import Sequence
from typing import TypeVar

from modelmgr.arguments import LONGEST_S
from modelmgr.errors import (
    ModelmgrError,
    OutOfMemoryError,
    UsageError,
    WorkerDiedError,
    WorkerError,
    WorkerProtocolError,
    WorkerTimeoutError,
)
from modelmgr.ownership import Owner
from modelmgr.workers import protocol
from modelmgr.workers.failures import revive
from modelmgr.workers.loaders.exhaustion import is_out_of_memory
from modelmgr.workers.process import WorkerProcess
from modelmgr.workers.process_exit import kernel_oom_kills
from modelmgr.workers.protocol import Channel
from modelmgr.workers.shared_arrays import Segment

_LOG = logging.getLogger(__name__)
_Expected = TypeVar("_Expected")

_EXIT_NEWS_S = 5.0  # between the end of a pipe and the news of the process's end
_NO_THREAD = ("thread creation failed", "pthread_create failed")
_KILL_S = 60.0  # freeing tens of GiB takes the kernel seconds


class _Expired(Exception):  # noqa: N818 - not an error: it never leaves this module
    """The time for an answer passed."""


class Conversation:
    """The talk with one process. Thread-safe; owns the socket and the process's descriptors.

    Args:
        process: whom to talk to.
        connection: the socket to it.
        tag: the model, for messages.
        budget_bytes: the budget in force, for OutOfMemoryError.
    """

    def __init__(
        self,
        process: WorkerProcess,
        connection: socket.socket,
        *,
        tag: str,
        budget_bytes: int | None,
    ) -> None:
        self.name = f"the worker of {tag!r} (process {process.pid})"
        self._owner = Owner()
        self._process = process
        self._channel = Channel(connection, self._wait)
        self._budget_bytes = budget_bytes
        self._lock = threading.Lock()  # held for a whole request
        self._closing = threading.Lock()
        self._deadline: float | None = None
        self._serials = threading.Lock()
        self._serial = 0
        self._closed_ns: int | None = None
        self._killed = False
        self._broken: str | None = None
        self._close_problem: str | None = None
        self._oom_kills = kernel_oom_kills()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.status is None

    @property
    def close_problem(self) -> str | None:
        """What the model did at its end instead of closing, None where it closed (or was killed).

        Known once ``close`` has returned.
        """
        return self._close_problem

    def next_id(self) -> int:
        """Return an id that no request had."""
        with self._serials:
            self._serial += 1
            return self._serial

    def kill(self) -> None:
        """End the process by SIGKILL at once, whatever it does; ``close`` is still needed.

        In a forked child nothing happens: the process is its parent's.
        """
        if not self._owner.is_here:
            return
        self._killed = True
        self._process.kill()

    def close(self, timeout_s: float) -> int:
        """Ask the process to end, then kill it; return nanoseconds until it was gone.

        A second call does nothing and returns the same. Nor does one in a forked child, whose
        parent's the process is; it returns 0.

        Raises:
            WorkerTimeoutError: the kernel did not end the process.
        """
        if not self._owner.is_here:
            return 0
        with self._closing:
            if self._closed_ns is not None:
                return self._closed_ns
            started_ns = time.monotonic_ns()
            deadline = time.monotonic() + timeout_s
            asked = self.alive and self._broken is None and self._lock.acquire(timeout=timeout_s)
            silent = False
            if asked:
                try:
                    silent = not self._ask_to_end(deadline)
                finally:
                    self._lock.release()
            left_s = max(0.0, deadline - time.monotonic()) if asked else 0.0
            if self._process.wait(left_s) is None:
                if asked:
                    self._close_problem = (
                        f"its close() did not end within {timeout_s:g} s and its process was killed"
                    )
                self.kill()
                if self._process.wait(_KILL_S) is None:
                    raise WorkerTimeoutError(
                        f"{self.name} was killed, but the kernel has not ended it within "
                        f"{_KILL_S:g} s (is it waiting for a disk or a driver?)",
                        pid=self._process.pid,
                    )
            if silent and self._close_problem is None and not self._killed:
                self._close_problem = f"its process {self._process.status} during its close()"
            closed_ns = time.monotonic_ns() - started_ns
            if self._close_problem is not None:
                _LOG.warning("%s: %s", self.name, self._close_problem)
            with self._lock:  # a request in another thread ends now, for its process has
                self._closed_ns = closed_ns
                self._channel.close()
                self._process.release()
            return closed_ns

    def refuse(self, why: str) -> WorkerProtocolError:
        """End a process whose answer made no sense after all; return the error to raise."""
        return self._end(why)

    def ask(
        self,
        request: protocol.Request,
        expected: type[_Expected],
        timeout_s: float | None,
        doing: str,
        buffers: Sequence[memoryview] | Segment = (),
    ) -> tuple[_Expected, list[memoryview] | Segment]:
        """Return the expected reply and its buffers.

        Args:
            request: what to send.
            expected: the type of the answer to it.
            timeout_s: seconds; None waits for ever.
            doing: what the process does meanwhile, for messages.
            buffers: what goes behind the request.

        Raises:
            UsageError: the request is too large, the conversation is closed, or this is a forked
                child of the process that it belongs to.
            ModelmgrError: what the process said went wrong.
            WorkerTimeoutError, WorkerDiedError, WorkerProtocolError: how the process ended.
        """
        self._owner.check(self.name, "start one here")
        if timeout_s is not None and timeout_s > LONGEST_S:
            timeout_s = None
        packed = protocol.pack(request, buffers)
        with self._lock:
            if self._closed_ns is not None or self._broken is not None or not self.alive:
                packed.close()
                if self._closed_ns is not None:
                    raise UsageError(f"{self.name} is closed: start another one")
                raise self._describe_end(doing)
            reply, out = self._exchange(packed, timeout_s, doing)
            if isinstance(reply, protocol.Failed) and reply.id == request.id:
                raise self._revive(reply)
            if not isinstance(reply, expected) or reply.id != request.id:
                raise self._end(
                    f"answered {type(reply).__name__} {reply.id} to "
                    f"{type(request).__name__} {request.id}"
                )
            return reply, out

    def _exchange(
        self, packed: protocol.Packed, timeout_s: float | None, doing: str
    ) -> tuple[protocol.Reply, list[memoryview] | Segment]:
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            self._channel.send_packed(packed)
            return self._channel.receive_reply()
        except _Expired:
            self._broken = f"gave no answer within {timeout_s:.3g} s while {doing}, and was killed"
            self._kill_and_wait()
            raise WorkerTimeoutError(
                f"{self.name} {self._broken}",
                pid=self._process.pid,
                details=self._process.log.tail(),
            ) from None
        except WorkerProtocolError as error:
            raise self._end(f"while {doing}: {error}") from error
        except (EOFError, OSError):
            if self._process.wait(_EXIT_NEWS_S) is None:
                raise self._end(f"closed its pipe while {doing}, and went on running") from None
            raise self._describe_end(doing) from None
        except BaseException:  # Ctrl-C: the answer to come would be taken for the next one's
            self._broken = f"was ended while {doing}, because the caller was interrupted"
            self.kill()
            raise

    def _wait(self, event: int) -> None:
        left_ms = None
        if self._deadline is not None:
            left_ms = (self._deadline - time.monotonic()) * 1000
            if left_ms <= 0:  # before asking: one that never stops talking is late as well
                raise _Expired
        poll = select.poll()
        poll.register(self._channel.fileno(), event)
        poll.register(self._process.pidfd, select.POLLIN)
        ready = poll.poll(left_ms)
        if not ready:
            raise _Expired
        # What it said before it ended is read first. A process that it left behind may hold the
        # pipe open: the end of the process counts, not that of the pipe.
        if all(descriptor == self._process.pidfd for descriptor, _ in ready):
            raise EOFError("the process ended")

    def _ask_to_end(self, deadline: float) -> bool:
        """Ask for a clean end; return whether there was an answer."""
        self._deadline = deadline
        try:
            self._channel.send(protocol.Close(id=self.next_id()))
            reply, _ = self._channel.receive_reply()
        except (_Expired, EOFError, OSError):
            return False
        except WorkerProtocolError as error:
            self._close_problem = f"its close() gave no answer: {error}"
            self._kill_and_wait()
            return True
        if isinstance(reply, protocol.Failed):
            self._close_problem = f"its close() raised: {self._revive(reply)}"
        return True

    def _revive(self, reply: protocol.Failed) -> ModelmgrError:
        return revive(reply.failure, pid=self._process.pid, output=self._process.log.tail())

    def _kill_and_wait(self) -> None:
        self._process.kill()
        self._process.wait(_KILL_S)

    def _end(self, why: str) -> WorkerProtocolError:
        self._broken = f"{why}; it was killed"
        self._kill_and_wait()
        return WorkerProtocolError(
            f"{self.name} {self._broken}", pid=self._process.pid, details=self._process.log.tail()
        )

    def _describe_end(self, doing: str) -> WorkerError:
        status = self._process.status
        details = self._process.log.tail()
        if self._broken is not None or status is None:
            message = f"{self.name} {self._broken or 'is ending'}"
            return WorkerDiedError(message, pid=self._process.pid, details=details)
        message = f"{self.name} {status} while {doing}"
        if self._killed:
            message += ": kill() was called"
        elif self._ran_out_of_memory(details):
            return OutOfMemoryError(
                f"{message}: it ran out of memory",
                pid=self._process.pid,
                details=details,
                budget_bytes=self._budget_bytes,
            )
        elif status.signal == signal.SIGKILL and status.reason is None:
            message += ": somebody killed it, perhaps the kernel for lack of memory"
        return WorkerDiedError(
            message,
            pid=self._process.pid,
            details=details,
            exit_code=status.code,
            signal=status.signal,
        )

    def _ran_out_of_memory(self, details: str | None) -> bool:
        """Return whether the kernel ended it for that, or native code said so before it gave up."""
        status = self._process.status
        if status is None or status.reason is not None or status.code == 0:
            return False
        if status.signal == signal.SIGKILL:
            kills = kernel_oom_kills()
            return kills is not None and self._oom_kills is not None and kills > self._oom_kills
        if self._budget_bytes is None and status.signal != signal.SIGABRT:
            return False
        # C++'s bad_alloc without a handler; OpenMP or OpenBLAS without room for a thread's stack.
        text = (details or "").lower()
        no_thread = any(phrase in text for phrase in _NO_THREAD)
        return no_thread or is_out_of_memory(RuntimeError(text))
