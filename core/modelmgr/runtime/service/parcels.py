"""Messages with arrays: inside the message where they are small, in shared memory where not.

Between ``framing``, which knows bytes, and those who say something: it puts a message and its
arrays on a stream, and takes them off again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Sequence
from typing import Any, TypeVar

import msgspec

from modelmgr.errors import ServiceLostError, UsageError, WorkerProtocolError
from modelmgr.runtime.service import descriptors
from modelmgr.runtime.service.framing import (
    MAX_BODY_BYTES,
    MAX_SHARED_BODY_BYTES,
    MalformedError,
    Stream,
)
from modelmgr.workers.shared_arrays import INLINE_BYTES, Received, Segment, share

_Kind = TypeVar("_Kind")


class Parcel:
    """One message as it came; ``close`` it once its arrays were taken."""

    __slots__ = ("_after", "_body", "_memory")

    def __init__(self, body: memoryview | bytearray, memory: Received | None, after: int) -> None:
        self._body = body
        self._memory = memory
        self._after = after

    def decode(self, decoder: msgspec.msgpack.Decoder[_Kind]) -> _Kind:
        """Return the message; MalformedError where it is none."""
        try:
            return decoder.decode(self._body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError) as error:
            raise MalformedError(f"a message that is none: {error}") from error

    def views(self, inline: Sequence[bytes], shared: Sequence[int]) -> list[memoryview]:
        """Return the arrays' bytes, to be read; MalformedError where they did not come."""
        segment = self.segment(inline, shared)
        if segment is None:
            return [memoryview(data) for data in inline]
        return segment.views()

    def copies(self, inline: Sequence[bytes], shared: Sequence[int]) -> list[memoryview]:
        """Return the arrays' bytes, to be kept and written; errors as ``views``."""
        segment = self.segment(inline, shared)
        if segment is None:
            return [memoryview(bytearray(data)) for data in inline]
        return segment.copies()

    def segment(self, inline: Sequence[bytes], shared: Sequence[int]) -> Segment | None:
        """Return where the arrays lie, None where they are inside the message; errors as ``views``.

        It is of use until ``close``.
        """
        if not shared:
            return None
        if self._memory is None or inline:
            raise MalformedError("arrays are to lie in shared memory, and none came")
        with _malformed_where_unusable():
            return Segment(self._memory, self._after, shared)

    def close(self) -> None:
        """Close what came with the message."""
        if self._memory is not None:
            self._memory.close()


def receive(stream: Stream) -> Parcel:
    """Return the next message of a stream; errors as ``Stream.receive``."""
    body, descriptor = stream.receive()
    if descriptor is None:
        assert not isinstance(body, int)  # noqa: S101 - a body in memory comes with the memory
        return Parcel(body, None, 0)
    with _malformed_where_unusable():
        memory = Received(descriptor)
        if not isinstance(body, int):
            return Parcel(body, memory, 0)
        try:
            return Parcel(memory.body(body), memory, body)
        except BaseException:
            memory.close()
            raise


@contextlib.contextmanager
def _malformed_where_unusable() -> Generator[None]:
    try:
        yield
    except WorkerProtocolError as error:
        raise MalformedError(str(error)) from None


def arrays_of(buffers: Sequence[memoryview] | Segment) -> dict[str, Any]:
    """Return how a message names its arrays: ``inline`` or ``shared``; give both to ``post``."""
    if isinstance(buffers, Segment):
        return {"shared": buffers.sizes}
    if sum(buffer.nbytes for buffer in buffers) <= INLINE_BYTES:
        return {"inline": tuple(bytes(buffer) for buffer in buffers)}
    return {"shared": tuple(buffer.nbytes for buffer in buffers)}


def post(
    stream: Stream,
    encoder: msgspec.msgpack.Encoder,
    message: Any,  # noqa: ANN401 - any of the messages
    buffers: Sequence[memoryview] | Segment = (),
) -> None:
    """Send a message; its arrays beside it where it says that they are shared.

    Arrays that lie in memory which nothing comes before are handed on as they lie.

    Raises:
        UsageError: it is too large, or holds what cannot be sent; nothing was sent.
        ServiceLostError: there is no descriptor for its memory; nothing was sent.
        OSError: the other end is gone, or does not read.
    """
    try:
        if isinstance(buffers, Segment):
            if buffers.after == 0:
                with contextlib.suppress(ValueError):  # too large a body to go beside them
                    stream.send(encoder, message, buffers.memory.descriptor)
                    return
            buffers = buffers.views()
        if not (buffers and message.shared):
            try:
                stream.send(encoder, message)
            except ValueError as error:
                if isinstance(error, UnicodeError):
                    raise
            else:
                return
            buffers = ()
        body = encoder.encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"this cannot be sent to another process: {error}") from error
    if len(body) > MAX_SHARED_BODY_BYTES:
        raise UsageError(
            f"{len(body)} bytes of lists and text are more than goes to another process at once "
            f"({MAX_SHARED_BODY_BYTES}); pass numbers as numpy arrays"
        )
    inside = len(body) <= MAX_BODY_BYTES
    memory = _shared(b"" if inside else body, buffers)
    try:
        if inside:
            stream.send(encoder, message, memory)
        else:
            stream.send_shared(len(body), memory)
    finally:
        os.close(memory)


def _shared(body: bytes, buffers: Sequence[memoryview]) -> int:
    try:
        return share(body, buffers)
    except OSError as error:
        if not descriptors.none_left(error):
            raise
        raise ServiceLostError(
            f"process {os.getpid()} has no descriptor for the memory to send: "
            f"{descriptors.explain(error)}"
        ) from error
