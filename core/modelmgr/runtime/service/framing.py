"""Frames on a Unix stream socket: a header, a body, and at most one descriptor of shared memory.

Owns limits and time-outs: what is too large, too slow or no frame ends the connection it came on
and nothing else. It knows nothing of what is said; it never unpickles and never evaluates.
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import struct
import time
from numbers import Real
from typing import cast

import msgspec

from modelmgr.errors import UsageError
from modelmgr.runtime.service import descriptors

MAX_BODY_BYTES = 1024**2
"""The largest body that goes through the socket itself."""
MAX_SHARED_BODY_BYTES = 64 * 1024**2
"""The largest body that lies in shared memory: as much JSON as a worker takes at once."""
LONGEST_S = 1e6
"""The longest that anybody waits for the other end to show itself: 11 days."""

_MAGIC = b"MS"
_HEADER = struct.Struct(">2sBxI")
_HEADER_BYTES = _HEADER.size
_MEMORY = 1  # a descriptor comes with the frame
_SHARED_BODY = 2  # ... and the body lies in it, at its beginning
_START_BYTES = 16 * 1024
# Exactly one descriptor has room: more are refused by the kernel, not by us.
_ANCILLARY_BYTES = socket.CMSG_LEN(array.array("i").itemsize)
# Plain numbers: to ask an enumeration costs microseconds with every message.
_FLAGS = int(socket.MSG_CMSG_CLOEXEC)
_TRUNCATED = int(socket.MSG_CTRUNC)
_TIMEVAL = struct.Struct("ll")


def checked_wait(name: str, value: object) -> float:
    """Return a time to wait in seconds; UsageError where it is none, or more than poll(2) takes."""
    seconds = cast("float", value) if value is not True and isinstance(value, Real) else 0.0
    if not 0 < seconds <= LONGEST_S:
        raise UsageError(
            f"{name} must be seconds, more than 0 and at most {LONGEST_S:g}, not {value!r}"
        )
    return float(seconds)


class MalformedError(Exception):
    """The other end sent what is no frame, or no message; its connection is to be closed."""


class NoRoomError(MalformedError):
    """Memory came, and this process has no descriptor for it; the stream is fine."""


class SilenceError(Exception):
    """Nothing came in the time that was set with ``set_silence``."""


class Stream:
    """One end of a connection, for one thread at a time.

    Args:
        end: the connected socket, blocking; the stream owns it from now on.
        frame_timeout_s: how long the other end may take from a frame's first byte to its last, and
            how long it may leave what it is sent unread.
    """

    def __init__(self, end: socket.socket, *, frame_timeout_s: float) -> None:
        self._socket = end
        self._memory: int | None = None
        self._no_room = False
        self._frame_timeout_s = frame_timeout_s
        self._in = bytearray(_START_BYTES)
        self._view = memoryview(self._in)
        self._start: int = 0
        self._end: int = 0
        self._out = bytearray(_HEADER_BYTES)
        end.setblocking(True)
        self._set_timeout(socket.SO_SNDTIMEO, frame_timeout_s)

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 once it is closed."""
        return self._socket.fileno()

    def set_silence(self, timeout_s: float | None) -> None:
        """Let ``receive`` raise SilenceError when nothing comes for so long; None: never."""
        self._set_timeout(socket.SO_RCVTIMEO, timeout_s or 0.0)

    def close(self) -> None:
        """Close the socket, and what was received and not taken; a second call does nothing."""
        self._socket.close()
        self._drop_memory()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # interrupted before it had a socket
            self.close()

    def cut(self) -> None:
        """End the connection without closing the socket: a thread that waits on it wakes up."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def hear_no_more(self) -> None:
        """Let ``receive`` end with EOFError once what has come is read; sending goes on."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    def hung_up(self, within_ms: float = 0.0) -> bool:
        """Say whether the other end is gone, or goes within so many milliseconds."""
        descriptor = self._socket.fileno()
        if descriptor < 0:
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLRDHUP)
        return bool(poll.poll(within_ms))

    # Sending ---------------------------------------------------------------------------------

    def send(
        self, encoder: msgspec.msgpack.Encoder, message: object, memory: int | None = None
    ) -> None:
        """Send one message, with a descriptor where one is given (it stays the caller's).

        Raises:
            ValueError: it is larger than ``MAX_BODY_BYTES``; nothing was sent.
            OSError: the other end is gone, or does not read.
        """
        out = self._out
        encoder.encode_into(message, out, _HEADER_BYTES)
        size = len(out) - _HEADER_BYTES
        if size > MAX_BODY_BYTES:
            self._out = bytearray(_HEADER_BYTES)
            raise ValueError(f"a message of {size} bytes")
        _HEADER.pack_into(out, 0, _MAGIC, 0 if memory is None else _MEMORY, size)
        if memory is None:
            self._socket.sendall(out)
        else:
            self._send_with(out, memory)
        if len(out) > _START_BYTES:
            self._out = bytearray(_HEADER_BYTES)

    def send_shared(self, body_bytes: int, memory: int) -> None:
        """Send a message whose body lies at the beginning of shared memory; errors as ``send``."""
        self._send_with(_HEADER.pack(_MAGIC, _MEMORY | _SHARED_BODY, body_bytes), memory)

    def _send_with(self, data: bytes | bytearray, memory: int) -> None:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory]))
        sent = self._socket.sendmsg([data], [rights])
        if sent < len(data):
            self._socket.sendall(memoryview(data)[sent:])

    # Receiving -------------------------------------------------------------------------------

    def receive(self) -> tuple[memoryview | int, int | None]:
        """Return the next frame: its body, or the body's size where it lies in the memory.

        The body is valid until the next call. The descriptor is the caller's to close.

        Raises:
            MalformedError: what came is no frame, or took too long to come.
            NoRoomError: there is no descriptor for what came with it; the next frame can be read.
            SilenceError: nothing came in the time set; the stream is fine.
            EOFError: the other end closed the connection.
            OSError: the connection broke.
        """
        if self._start == self._end:
            self._start = self._end = 0
            if len(self._in) > _START_BYTES:  # one large message does not cost memory for ever
                self._resize(_START_BYTES)
            self._fill()
        deadline: float | None = None
        while self._end - self._start < _HEADER_BYTES:
            deadline = self._await_more(deadline)
            self._fill()
        header: tuple[bytes, int, int] = _HEADER.unpack_from(self._in, self._start)
        magic, flags, size = header
        if magic != _MAGIC or flags & ~(_MEMORY | _SHARED_BODY) or flags == _SHARED_BODY:
            raise MalformedError(f"bytes that are no message begin with {magic!r}")
        if size > (MAX_SHARED_BODY_BYTES if flags & _SHARED_BODY else MAX_BODY_BYTES):
            raise MalformedError(f"a message of {size} bytes is larger than any may be")
        wanted = _HEADER_BYTES if flags & _SHARED_BODY else _HEADER_BYTES + size
        while self._end - self._start < wanted:
            if self._start + wanted > len(self._in):
                self._make_room(wanted)
            deadline = self._await_more(deadline)
            self._fill()
        begin = self._start + _HEADER_BYTES
        self._start += wanted
        memory, self._memory = self._memory, None
        no_room, self._no_room = self._no_room, False
        if (memory is not None or no_room) != bool(flags & _MEMORY):
            if memory is not None:
                os.close(memory)
            raise MalformedError("a message and the descriptors that came with it do not agree")
        if no_room:
            raise NoRoomError(
                f"process {os.getpid()} has no descriptor for the memory that came with it: "
                f"{descriptors.explain_limit()}"
            )
        if flags & _SHARED_BODY:
            return size, memory
        return self._view[begin : begin + size], memory

    def _fill(self) -> None:
        try:
            got, ancillary, flags, _ = self._socket.recvmsg_into(
                [self._view[self._end :]], _ANCILLARY_BYTES, _FLAGS
            )
        except BlockingIOError:
            raise SilenceError from None
        if ancillary:
            self._keep(ancillary)
        if flags & _TRUNCATED:
            if not ancillary:  # there was room for one: what had none was this process
                self._no_room = True
            else:
                raise MalformedError("more descriptors than one came with a message")
        if got == 0:
            raise EOFError("the other end closed the connection")
        self._end += got

    def _keep(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        received = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received.frombytes(data[: len(data) - len(data) % received.itemsize])
        surplus = [*received]
        if self._memory is None and surplus:
            self._memory = surplus.pop(0)
        for descriptor in surplus:
            os.close(descriptor)
        if surplus:
            raise MalformedError("more descriptors than one came with a message")

    def _await_more(self, deadline: float | None) -> float:
        now = time.monotonic()
        if deadline is None:
            deadline = now + self._frame_timeout_s
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if now >= deadline or not poll.poll((deadline - now) * 1000):
            raise MalformedError(
                f"the rest of a message did not come within {self._frame_timeout_s:g} s"
            )
        return deadline

    def _make_room(self, wanted: int) -> None:
        kept = bytes(self._view[self._start : self._end])
        if wanted > len(self._in):
            self._resize(wanted)
        self._in[: len(kept)] = kept
        self._start, self._end = 0, len(kept)

    def _resize(self, size: int) -> None:
        # A new one: a body that somebody still looks at keeps the old one alive.
        self._in = bytearray(size)
        self._view = memoryview(self._in)

    def _drop_memory(self) -> None:
        memory, self._memory = self._memory, None
        if memory is not None:
            os.close(memory)

    def _set_timeout(self, option: int, timeout_s: float) -> None:
        whole, part = divmod(round(timeout_s * 1e6), 1_000_000)
        self._socket.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(whole, part))
