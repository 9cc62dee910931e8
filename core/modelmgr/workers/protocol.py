"""What parent and child say to each other: tagged JSON messages, and buffers behind them.

One message is a fixed header (magic, length of the JSON, number of buffers), the length of each
buffer, the JSON, the buffers. Large buffers lie in memory whose descriptor comes with the header
(see ``shared_arrays``); what stands before the lengths says where in it. Everything is limited in
size and validated before it is used; there is no pickle and nothing is ever evaluated, so whatever
a child writes can at worst be refused.
This module knows sockets and bytes, but no process: who waits, and what silence means, is its
callers' business.
"""

from __future__ import annotations

import array
import os
import select
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec

from modelmgr.errors import UsageError, WorkerProtocolError
from modelmgr.workers.failures import Failure
from modelmgr.workers.reports import EstimateReport, LoadReport, ShapeReport
from modelmgr.workers.shared_arrays import INLINE_BYTES, Received, Segment, share
from modelmgr.workload.model_spec import ModelSpec

Phase = Literal["memory", "latency"]
Count = Annotated[int, msgspec.Meta(ge=0)]

MAX_JSON_BYTES = 64 * 1024**2
MAX_BUFFERS = 4096
MAX_BUFFER_BYTES = 4 * 1024**3  # all buffers of one message together

_MAGIC = b"MMW1"
_HEADER = struct.Struct(">4sII")
_LENGTH = struct.Struct(">Q")
_SHARED = 1 << 31  # beside the number of buffers: they lie in memory that comes with the header
_ANCILLARY_BYTES = socket.CMSG_LEN(array.array("i").itemsize)


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    id: Count


class Configure(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """The first request: what this worker is for, and where its parent stands."""

    spec: ModelSpec
    device: str
    seed: int
    budget_bytes: int | None
    environment: dict[str, str]
    working_directory: str
    import_path: tuple[str, ...]
    rehearse: bool = True


class Prepare(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Get ready to load: import and rehearse, so that ``Load`` need not."""


class Load(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Load the model."""


class RunShape(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Run one shape of random batches in one phase."""

    dims: dict[str, int]
    phase: Phase
    warmups: Count
    repeats: Annotated[int, msgspec.Meta(ge=1)]
    seed: int
    count_tensors: bool = True


class Infer(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Run the batch that the tree (see ``payload``) and the buffers describe."""

    tree: Any


class Estimate(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Guess without loading; ``spec`` is another model than the worker's own."""

    shapes: tuple[dict[str, int], ...]
    spec: ModelSpec | None = None


class Close(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Free the model and end."""


class Ready(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """The child took its configuration."""

    pid: int


class Prepared(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """The child is ready to load."""


class Loaded(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """The model is in memory."""

    report: LoadReport


class ShapeDone(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """The shape was run."""

    report: ShapeReport


class Outputs(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """What the model returned, as a tree and buffers."""

    tree: Any


class Estimated(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """The guess."""

    report: EstimateReport


class Closed(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """The model was freed; the process ends now."""


class Failed(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """The request failed; the process goes on."""

    failure: Failure


Request = Configure | Prepare | Load | RunShape | Infer | Estimate | Close
Reply = Ready | Prepared | Loaded | ShapeDone | Outputs | Estimated | Closed | Failed

_Kind = TypeVar("_Kind")

_ENCODER = msgspec.json.Encoder()
_REQUESTS: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_REPLIES: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


class Channel:
    """One end of the stream socket between parent and child.

    Args:
        end: the socket; the channel owns it from now on.
        wait: called with ``select.POLLIN`` or ``POLLOUT`` whenever the socket is not ready; it
            returns once it is, or raises. None makes the socket block (the child's side).
    """

    def __init__(self, end: socket.socket, wait: Callable[[int], None] | None = None) -> None:
        self._socket = end
        self._wait = wait
        self._memory: Received | None = None
        end.setblocking(wait is None)

    def fileno(self) -> int:
        """Return the socket's file descriptor, -1 once it is closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        self._socket.close()

    def send(self, message: Request | Reply, buffers: Sequence[memoryview] | Segment = ()) -> None:
        """Send one message with its buffers.

        Raises:
            UsageError: it is larger than a message may be, or holds what JSON cannot.
            OSError: the other end is gone.
        """
        self.send_packed(pack(message, buffers))

    def send_packed(self, packed: Packed) -> None:
        """Send a packed message and close its memory; OSError when the other end is gone."""
        try:
            head, *parts = packed.parts
            if packed.memory is None:
                self._send_all(head)
            else:
                self._send_with(head, packed.memory)
            for part in parts:
                self._send_all(part)
        finally:
            packed.close()

    def receive_request(self) -> tuple[Request, list[memoryview]]:
        """Return the next request; EOFError when the parent is gone."""
        text, buffers = self._receive()
        if isinstance(buffers, Segment):
            segment, buffers = buffers, buffers.private()
            segment.memory.close()
        return _decode(_REQUESTS, text), buffers

    def receive_reply(self) -> tuple[Reply, list[memoryview] | Segment]:
        """Return the next reply; EOFError at its end, WorkerProtocolError when it is none."""
        text, buffers = self._receive()
        return _decode(_REPLIES, text), buffers

    def _receive(self) -> tuple[memoryview, list[memoryview] | Segment]:
        magic, json_bytes, count = _HEADER.unpack(self._read_header())
        memory, self._memory = self._memory, None
        shared = bool(count & _SHARED)
        count &= ~_SHARED
        if magic != _MAGIC:
            raise WorkerProtocolError(f"expected a message, got bytes that begin with {magic!r}")
        if json_bytes > MAX_JSON_BYTES or count > MAX_BUFFERS:
            raise WorkerProtocolError(f"a message of {json_bytes} bytes and {count} buffers")
        if shared != (memory is not None):
            raise WorkerProtocolError("a message and the memory that came with it do not agree")
        after = _LENGTH.unpack(self._read(_LENGTH.size))[0] if shared else 0
        lengths = [_LENGTH.unpack(self._read(_LENGTH.size))[0] for _ in range(count)]
        if sum(lengths) > MAX_BUFFER_BYTES:
            raise WorkerProtocolError(f"a message with buffers of {sum(lengths)} bytes")
        text = self._read(json_bytes)
        if memory is not None:
            return text, Segment(memory, after, lengths)
        return text, [self._read(length) for length in lengths]

    def _read_header(self) -> memoryview:
        """Return a header; the memory that comes with its first byte is kept."""
        data = bytearray(_HEADER.size)
        while True:
            try:
                got, ancillary, _, _ = self._socket.recvmsg_into(
                    [data], _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
                )
                break
            except BlockingIOError:
                self._block(select.POLLIN)
        for level, kind, sent in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                (descriptor,) = array.array("i", sent)  # more have no room: the kernel closes them
                self._memory = Received(descriptor)
        if got == 0:
            raise EOFError("the other end closed the pipe")
        data[got:] = self._read(_HEADER.size - got)
        return memoryview(data)

    def _read(self, size: int) -> memoryview:
        # Grown as the bytes arrive: a length that lies cannot make this process take the memory.
        data = bytearray(min(size, 1 << 20))
        filled = 0
        while filled < size:
            if filled == len(data):
                data.extend(bytes(min(size - filled, len(data), 64 << 20)))
            with memoryview(data) as view:
                try:
                    received = self._socket.recv_into(view[filled:])
                except BlockingIOError:
                    received = None
            if received is None:
                self._block(select.POLLIN)
            elif received == 0:
                raise EOFError("the other end closed the pipe")
            else:
                filled += received
        return memoryview(data)

    def _send_with(self, data: memoryview, memory: int) -> None:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory]))
        while True:
            try:
                sent = self._socket.sendmsg([data], [rights])
                break
            except BlockingIOError:
                self._block(select.POLLOUT)
        self._send_all(data[sent:])

    def _send_all(self, data: memoryview) -> None:
        sent = 0
        while sent < len(data):
            try:
                sent += self._socket.send(data[sent:])
            except BlockingIOError:
                self._block(select.POLLOUT)

    def _block(self, event: int) -> None:
        if self._wait is not None:
            self._wait(event)


class Packed(NamedTuple):
    """The bytes of a message, piece by piece, and the memory that goes with the first.

    ``owned`` says that the memory was made for this message.
    """

    parts: list[memoryview]
    memory: int | None = None
    owned: bool = False

    def close(self) -> None:
        """Close the memory where it was made for this message; to be called once."""
        if self.memory is not None and self.owned:
            os.close(self.memory)


def pack(message: Request | Reply, buffers: Sequence[memoryview] | Segment = ()) -> Packed:
    """Return a message as it is sent, which closes it; UsageError where it is too large."""
    try:
        text = _ENCODER.encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"this cannot be sent to a worker: {error}") from error
    segment = buffers if isinstance(buffers, Segment) else None
    inside = () if isinstance(buffers, Segment) else buffers
    lengths = [buffer.nbytes for buffer in inside] if segment is None else [*segment.sizes]
    if len(text) > MAX_JSON_BYTES:
        raise UsageError(
            f"{len(text)} bytes of lists and text are more than a worker takes at once "
            f"({MAX_JSON_BYTES}); pass numbers as numpy arrays"
        )
    if len(lengths) > MAX_BUFFERS or sum(lengths) > MAX_BUFFER_BYTES:
        raise UsageError(
            f"{len(lengths)} arrays of {sum(lengths)} bytes are more than a worker takes at once "
            f"({MAX_BUFFERS} arrays, {MAX_BUFFER_BYTES} bytes); use smaller batches"
        )
    sizes = b"".join(map(_LENGTH.pack, lengths))
    if segment is None and sum(lengths) <= INLINE_BYTES:
        head = _HEADER.pack(_MAGIC, len(text), len(lengths))
        whole = memoryview(head + sizes + text)
        return Packed([whole, *(buffer.cast("B") for buffer in inside if buffer.nbytes)])
    head = _HEADER.pack(_MAGIC, len(text), len(lengths) | _SHARED)
    after = 0 if segment is None else segment.after
    whole = memoryview(head + _LENGTH.pack(after) + sizes + text)
    if segment is None:
        return Packed([whole], share(b"", inside), owned=True)
    return Packed([whole], segment.memory.descriptor)


def _decode(decoder: msgspec.json.Decoder[_Kind], text: memoryview) -> _Kind:
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WorkerProtocolError(f"a message that is no answer: {error}") from error
