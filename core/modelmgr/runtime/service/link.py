"""A client's connections to one life of a server: one that stands for it, others to ask on.

Each request has a connection to itself until it is answered, so that one that waits holds up no
other thread. A connection whose request was interrupted is closed: the server takes that as the
request's end. The first connection, the anchor, is never asked on; its end is the session's end.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from modelmgr.errors import (
    LeaseError,
    ManagerClosedError,
    ModelmgrError,
    ServiceLostError,
)
from modelmgr.ownership import Owner
from modelmgr.runtime.service import faults, messages, parcels
from modelmgr.runtime.service.dialling import Dialler
from modelmgr.runtime.service.framing import MalformedError, SilenceError, Stream
from modelmgr.runtime.service.permits import Permits

_Reply = TypeVar("_Reply")
_Made = TypeVar("_Made")

_ANSWER_TIMEOUT_S = 60.0
"""How long a server that runs may take to answer what it need not wait for."""
_FAREWELL_MS = 200  # a killed process's descriptors are closed one after another
# Waits for leases must keep neither a call nor a release from its connection: what they wait for
# may be what this very process holds.
_KEPT_FOR_SHORT = 2
_SHARE_FOR_CALLS = 3  # one of so many


class _LastWordsError(Exception):
    """The server refused a request, and closes the connection that it came on."""

    def __init__(self, said: ModelmgrError) -> None:
        super().__init__(str(said))
        self.said = said


class LeaseReference(weakref.ref[Any]):
    """Knows the serial of a lease that was dropped without a release."""

    __slots__ = ("serial",)

    serial: int


class Link:
    """A session with a server. Thread-safe; of use only in the process that opened it.

    Args:
        path: the server's socket.
        patience_s: how long the server may show no sign of life, seconds.

    Raises:
        ServiceLostError: nobody listens there, or nobody answers.
        UsageError: the server is another user's, or refuses.
    """

    def __init__(self, path: Path, patience_s: float) -> None:
        self._dialler = Dialler(path, patience_s)
        self.path = path
        self.owner = Owner()
        self.lost: str | None = None
        self.closed = False
        self._superseded = False
        self._encoders = threading.local()
        self._lock = threading.Lock()
        self._idle: deque[Stream] = deque()
        self._open: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._leases: dict[int, LeaseReference] = {}
        self._dropped: deque[LeaseReference] = deque()
        self._anchor, welcome = self._dialler.connect()
        self._dialler.token = welcome.token
        self.epoch = welcome.epoch
        self.server_pid = welcome.pid
        self._short = Permits(_KEPT_FOR_SHORT)
        left = welcome.connections - 1 - _KEPT_FOR_SHORT
        calls = max(1, left // _SHARE_FOR_CALLS)
        self._calls = Permits(calls)
        self._waits = Permits(max(1, left - calls))
        _LINKS.add(self)

    def ask(self, request: messages.Request, expected: type[_Reply]) -> _Reply:
        """Return the answer to a request that the server need not wait for.

        Raises:
            ServiceLostError: the server is gone, or gave no answer.
            ModelmgrError: what the server said went wrong.
        """
        permit = self._short.take(None)
        try:
            return self._exchange(request, expected, _as_it_came, patience_s=_ANSWER_TIMEOUT_S)
        finally:
            self._short.give_back(permit)

    def wait_for_lease(
        self,
        request: messages.Acquire,
        make: Callable[[messages.Granted], _Made],
        *,
        timeout_s: float | None,
    ) -> _Made:
        """Return what is made of a grant, however long that takes.

        Args:
            request: what to ask.
            make: makes a lease of a grant; from then on it gives itself back when it is dropped.
            timeout_s: how long to wait for a connection to ask on.

        Raises:
            AcquireTimeoutError: too many threads wait already, or what the server said.
            ServiceLostError, ModelmgrError: as ``ask``.
        """
        permit = self._waits.take(timeout_s)
        try:
            return self._exchange(
                request, messages.Granted, lambda granted, _: make(granted), patience_s=None
            )
        finally:
            self._waits.give_back(permit)

    def call(
        self,
        request: messages.Request,
        expected: type[_Reply],
        take: Callable[[_Reply, parcels.Parcel], _Made],
        buffers: Sequence[memoryview] = (),
    ) -> _Made:
        """Return what ``take`` makes of a model's answer, however long that takes.

        Raises:
            ServiceLostError, ModelmgrError: as ``ask``.
        """
        permit = self._calls.take(None)
        try:
            return self._exchange(request, expected, take, buffers, patience_s=None)
        finally:
            self._calls.give_back(permit)

    def keep(self, lease: object, serial: int) -> None:
        """Give a lease back with the next request should it be dropped without a release.

        No line of Python runs when it is dropped: an interrupt there could lose it.
        """
        reference = LeaseReference(lease, self._dropped.append)
        reference.serial = serial
        self._leases[serial] = reference

    def release_later(self, serial: int) -> None:
        """Tell the server with the next request, as nobody knows whether it was told."""
        kept = self._leases.get(serial)
        if kept is not None:
            self._dropped.append(kept)

    def released(self, serial: int) -> None:
        """Forget a lease that the server took back."""
        self._leases.pop(serial, None)

    def close(self, *, superseded: bool = False) -> None:
        """End the session; the server takes back what it holds. A second call does nothing.

        Args:
            superseded: another link takes its place, and only leases of before come here still.
        """
        with self._lock:
            if self.closed:
                return
            self._superseded = superseded
            self.closed = True
            streams = [self._anchor, *self._open]
            idle = list(self._idle)
            self._idle.clear()
        _LINKS.discard(self)
        if not self.owner.is_here:
            return  # the descriptors were closed at the fork, and the session is the parent's
        for stream in streams:
            stream.cut()
        for stream in [self._anchor, *idle]:
            stream.close()

    def check_process(self) -> None:
        """Raise UsageError in a forked child: the session is its parent's."""
        self.owner.check("this manager", "call modelmgr.connect() here")

    def forget_in_child(self) -> None:
        """Close this process's copies of the descriptors after a fork, and leave the rest alone."""
        # Not through the sockets' locks or `cut`: that would end the parent's connections.
        for stream in [self._anchor, *list(self._open)]:
            stream.close()

    # One exchange ----------------------------------------------------------------------------

    def _exchange(
        self,
        request: messages.Request,
        expected: type[_Reply],
        take: Callable[[_Reply, parcels.Parcel], _Made],
        buffers: Sequence[memoryview] = (),
        *,
        patience_s: float | None,
    ) -> _Made:
        # An interrupt can come between any two steps. Until the answer is in its final form, it
        # costs the connection, by which the server knows; a stream that is lost closes itself.
        self.check_process()
        stream = self._take()
        try:
            if self._dropped:
                self._release_dropped(stream)
            deadline = None if patience_s is None else time.monotonic() + patience_s
            parcels.post(stream, self._encoder(), request, buffers)
            parcel = self._receive(stream, deadline)
            try:
                reply = self._check(parcel.decode(messages.REPLIES), expected)
                made = take(reply, parcel)
            finally:
                parcel.close()
        except _LastWordsError as error:
            self._discard(stream)
            raise error.said from None
        except ModelmgrError:  # it was not sent, or this is the answer: the stream is fine
            self._give_back(stream)
            raise
        except (EOFError, OSError, MalformedError) as error:
            self._discard(stream)
            raise self._loss(error) from None
        except BaseException:
            self._discard(stream)
            raise
        self._give_back(stream)
        return made

    def _release_dropped(self, stream: Stream) -> None:
        while self._dropped:
            try:
                dropped = self._dropped[0]
            except IndexError:  # another thread was faster
                return
            request = messages.Release(epoch=self.epoch, serial=dropped.serial)
            parcels.post(stream, self._encoder(), request)
            self._receive(stream, None).close()  # whatever it says: nobody is left to be told
            self._leases.pop(dropped.serial, None)
            with contextlib.suppress(ValueError):
                self._dropped.remove(dropped)

    def _receive(self, stream: Stream, deadline: float | None) -> parcels.Parcel:
        while True:
            try:
                return parcels.receive(stream)
            except SilenceError:
                self._dialler.check_alive()
                if deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError(f"no answer within {_ANSWER_TIMEOUT_S:g} s") from None

    def _check(self, reply: messages.Reply, expected: type[_Reply]) -> _Reply:
        if isinstance(reply, expected):
            return reply
        if isinstance(reply, messages.Failed):
            error = faults.revive(reply.fault)
            raise _LastWordsError(error) if reply.closing else error
        raise ServiceLostError(
            f"the server at {self.path} answered {type(reply).__name__} where "
            f"{expected.__name__} was due"
        )

    def _loss(self, error: Exception) -> ServiceLostError | ManagerClosedError:
        """Return what a broken connection means: this request's end, or the server's."""
        if self.closed:
            return ManagerClosedError("this connection to the server was shut down")
        if self.lost is None:
            if not self._anchor.hung_up(_FAREWELL_MS):
                if isinstance(error, ServiceLostError):  # it says itself why
                    return error
                why = str(error)
                if isinstance(error, BlockingIOError):
                    why = f"it has read nothing for {self._dialler.patience_s:g} s"
                return ServiceLostError(f"the server at {self.path} gave no answer: {why}")
            self.lost = (
                f"the server at {self.path} (process {self.server_pid}) is gone, and every lease "
                "of it; call reconnect() once it runs again"
            )
        return ServiceLostError(self.lost)

    # Connections -----------------------------------------------------------------------------

    def _take(self) -> Stream:
        self._refuse_if_closed()
        if self.lost is not None:
            raise ServiceLostError(self.lost)
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            stream, _ = self._dialler.connect()
        except ServiceLostError as error:
            raise self._loss(error) from None
        with self._lock:
            self._refuse_if_closed()  # the stream closes itself
            self._open.add(stream)
        return stream

    def _refuse_if_closed(self) -> None:
        if self._superseded:
            raise LeaseError(
                "this lease is of an earlier connection to the server: acquire the model again"
            )
        if self.closed:
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

    def _encoder(self) -> msgspec.msgpack.Encoder:
        encoders: Any = self._encoders
        try:
            found: msgspec.msgpack.Encoder = encoders.one
        except AttributeError:
            found = encoders.one = msgspec.msgpack.Encoder()
        return found


def _as_it_came(reply: _Reply, _: parcels.Parcel) -> _Reply:
    return reply


_LINKS: weakref.WeakSet[Link] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # A child that kept them open would hide its parent's death from the server.
    for link in list(_LINKS):
        link.forget_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
