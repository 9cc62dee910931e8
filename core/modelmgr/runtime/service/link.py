"""A client's connections to one life of a server: one that stands for it, others to ask on.

Each request has a connection to itself until it is answered, so that one that waits holds up no
other thread. A connection whose request was interrupted is closed: the server takes that as the
request's end. The first connection, the anchor, is never asked on; its end is the session's end.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from modelmgr.errors import (
    AcquireTimeoutError,
    ManagerClosedError,
    ServiceLostError,
    UsageError,
)
from modelmgr.runtime.service import faults, messages, parcels
from modelmgr.runtime.service.framing import MalformedError, SilenceError, Stream
from modelmgr.runtime.service.peers import peer_of

_Reply = TypeVar("_Reply")

_ANSWER_TIMEOUT_S = 60.0
"""How long a server may take to answer what it need not wait for."""
_FRAME_TIMEOUT_S = 30.0
_FAREWELL_MS = 200  # a killed process's descriptors are closed one after another
# Waits for leases must neither keep a call from its connection nor a release: what they wait for may
# be what this very process holds.
_KEPT_FOR_SHORT = 2
_SHARE_FOR_CALLS = 3  # one of so many


class Link:
    """A session with a server. Thread-safe; of use only in the process that opened it.

    Args:
        path: the server's socket.

    Raises:
        ServiceLostError: nobody listens there.
        UsageError: the server is another user's, or refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pid = os.getpid()
        self.lost: str | None = None
        self.closed = False
        self._encoders = threading.local()
        self._lock = threading.Lock()
        self._idle: deque[Stream] = deque()
        self._open: set[Stream] = set()
        self._token: bytes | None = None
        self._anchor, welcome = self._connect()
        self._token = welcome.token
        self.epoch = welcome.epoch
        self.server_pid = welcome.pid
        self._short = threading.BoundedSemaphore(_KEPT_FOR_SHORT)
        left = welcome.connections - 1 - _KEPT_FOR_SHORT
        calls = max(1, left // _SHARE_FOR_CALLS)
        self._calls = threading.BoundedSemaphore(calls)
        self._waits = threading.BoundedSemaphore(max(1, left - calls))
        _LINKS.add(self)

    def ask(
        self,
        request: messages.Request,
        expected: type[_Reply],
        buffers: Sequence[memoryview] = (),
    ) -> _Reply:
        """Return the answer to a request that the server need not wait for.

        Raises:
            ServiceLostError: the server is gone, or gave no answer.
            ModelmgrError: what the server said went wrong.
        """
        with self._short:
            reply, parcel = self._exchange(request, buffers, patience_s=_ANSWER_TIMEOUT_S)
        parcel.close()
        return self._check(reply, expected)

    def wait_for_lease(
        self, request: messages.Acquire, *, timeout_s: float | None
    ) -> messages.Granted:
        """Return what is granted, however long that takes.

        Args:
            request: what to ask.
            timeout_s: how long to wait for a connection to ask on.

        Raises:
            AcquireTimeoutError: too many threads wait already, or what the server said.
            ServiceLostError, ModelmgrError: as ``ask``.
        """
        if not self._waits.acquire(timeout=timeout_s):
            raise AcquireTimeoutError(
                f"Timeout waiting to acquire model: {request.tag!r}, as all of this process's "
                "connections to the server are waiting"
            )
        try:
            reply, parcel = self._exchange(request, (), patience_s=None)
        finally:
            self._waits.release()
        parcel.close()
        return self._check(reply, messages.Granted)

    def call(
        self,
        request: messages.Request,
        expected: type[_Reply],
        buffers: Sequence[memoryview] = (),
    ) -> tuple[_Reply, parcels.Parcel]:
        """Return the answer of a model, however long it takes, and the parcel, to be closed.

        Raises:
            ServiceLostError, ModelmgrError: as ``ask``.
        """
        with self._calls:
            reply, parcel = self._exchange(request, buffers, patience_s=None)
        try:
            return self._check(reply, expected), parcel
        except BaseException:
            parcel.close()
            raise

    def close(self) -> None:
        """End the session; the server takes back what it holds. A second call does nothing."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            streams = [self._anchor, *self._open]
            idle = list(self._idle)
            self._idle.clear()
        _LINKS.discard(self)
        if os.getpid() != self.pid:
            return  # the descriptors were closed at the fork, and the session is the parent's
        for stream in streams:
            stream.cut()
        for stream in [self._anchor, *idle]:
            stream.close()

    def check_process(self) -> None:
        """Raise UsageError in a forked child: the session is its parent's."""
        if os.getpid() != self.pid:
            raise UsageError(
                f"this manager belongs to process {self.pid}, and this is its child {os.getpid()}: "
                "call modelmgr.connect() here"
            )

    def forget_in_child(self) -> None:
        """Close this process's copies of the descriptors after a fork, and leave the rest alone."""
        # Not through the sockets' locks or `cut`: that would end the parent's connections.
        for stream in [self._anchor, *list(self._open)]:
            stream.close()

    # One exchange ----------------------------------------------------------------------------

    def _exchange(
        self,
        request: messages.Request,
        buffers: Sequence[memoryview],
        *,
        patience_s: float | None,
    ) -> tuple[messages.Reply, parcels.Parcel]:
        self.check_process()
        stream = self._take()
        try:
            deadline = None if patience_s is None else time.monotonic() + patience_s
            parcels.post(stream, self._encoder(), request, buffers)
            parcel = self._receive(stream, deadline)
            reply = parcel.decode(messages.REPLIES)
        except UsageError:  # it was not sent
            self._give_back(stream)
            raise
        except (EOFError, OSError, MalformedError) as error:
            self._discard(stream)
            raise self._loss(error) from None
        except BaseException:
            self._discard(stream)
            raise
        # The body lies in the stream's buffer, which is free once it is decoded.
        self._give_back(stream)
        return reply, parcel

    def _receive(self, stream: Stream, deadline: float | None) -> parcels.Parcel:
        while True:
            try:
                return parcels.receive(stream)
            except SilenceError:
                if deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError(f"no answer within {_ANSWER_TIMEOUT_S:g} s") from None

    def _check(self, reply: messages.Reply, expected: type[_Reply]) -> _Reply:
        if isinstance(reply, expected):
            return reply
        if isinstance(reply, messages.Failed):
            raise faults.revive(reply.fault)
        raise ServiceLostError(
            f"the server at {self.path} answered {type(reply).__name__} where "
            f"{expected.__name__} was due"
        )

    def _loss(self, error: Exception) -> ServiceLostError | ManagerClosedError:
        """Return what a broken connection means: this request's end, or the server's."""
        if self.closed:
            return ManagerClosedError("this connection to the server was shut down")
        if self.lost is None:
            poll = select.poll()
            poll.register(self._anchor.fileno(), select.POLLRDHUP)
            if not poll.poll(_FAREWELL_MS):
                return ServiceLostError(f"the server at {self.path} gave no answer: {error}")
            self.lost = (
                f"the server at {self.path} (process {self.server_pid}) is gone, and every lease "
                "of it; call reconnect() once it runs again"
            )
        return ServiceLostError(self.lost)

    # Connections -----------------------------------------------------------------------------

    def _take(self) -> Stream:
        if self.closed:
            raise ManagerClosedError("this connection to the server was shut down; connect anew")
        if self.lost is not None:
            raise ServiceLostError(self.lost)
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            stream, _ = self._connect()
        except ServiceLostError as error:
            raise self._loss(error) from None
        with self._lock:
            if not self.closed:
                self._open.add(stream)
                return stream
        stream.close()
        raise ManagerClosedError("this connection to the server was shut down; connect anew")

    def _give_back(self, stream: Stream) -> None:
        if self.closed:
            self._discard(stream)
        else:
            self._idle.append(stream)

    def _discard(self, stream: Stream) -> None:
        with self._lock:
            self._open.discard(stream)
        stream.close()

    def _connect(self) -> tuple[Stream, messages.Welcome]:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream = Stream(end, frame_timeout_s=_FRAME_TIMEOUT_S)
        try:
            try:
                end.connect(str(self.path))
            except OSError as error:
                raise ServiceLostError(
                    f"no server listens at {self.path} ({error}); start one with `modelmgr serve`"
                ) from error
            server = peer_of(end)
            if server.uid != os.geteuid():
                raise UsageError(  # noqa: TRY301 - one place closes the stream
                    f"the server at {self.path} is user {server.uid}'s, and this is user "
                    f"{os.geteuid()}: choose another socket path"
                )
            stream.set_silence(_ANSWER_TIMEOUT_S)
            return stream, self._say_hello(stream)
        except BaseException:
            stream.close()
            raise

    def _say_hello(self, stream: Stream) -> messages.Welcome:
        hello = messages.Hello(version=messages.PROTOCOL_VERSION, token=self._token)
        try:
            parcels.post(stream, self._encoder(), hello)
            parcel = parcels.receive(stream)
            parcel.close()
            reply = parcel.decode(messages.REPLIES)
        except (EOFError, OSError, MalformedError, SilenceError) as error:
            raise ServiceLostError(
                f"the server at {self.path} did not greet this process: {error or 'no answer'}"
            ) from error
        return self._check(reply, messages.Welcome)

    def _encoder(self) -> msgspec.msgpack.Encoder:
        encoders: Any = self._encoders
        try:
            found: msgspec.msgpack.Encoder = encoders.one
        except AttributeError:
            found = encoders.one = msgspec.msgpack.Encoder()
        return found


_LINKS: weakref.WeakSet[Link] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # A child that kept them open would hide its parent's death from the server.
    for link in list(_LINKS):
        link.forget_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
