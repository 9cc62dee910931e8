"""Messages with arrays: inside the message where they are small, in shared memory where not.

Between ``framing``, which knows bytes, and those who say something: it puts a message and its
arrays on a stream, and takes them off again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from modelmgr.errors import UsageError
from modelmgr.runtime.service.framing import (
    MAX_BODY_BYTES,
    MAX_SHARED_BODY_BYTES,
    MalformedError,
    Stream,
)
from modelmgr.runtime.service.shared_arrays import INLINE_BYTES, Received, share

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
        if shared:
            return self._shared(inline).map(self._after, shared)
        return [memoryview(data) for data in inline]

    def copies(self, inline: Sequence[bytes], shared: Sequence[int]) -> list[memoryview]:
        """Return the arrays' bytes, to be kept and written; errors as ``views``."""
        if shared:
            return self._shared(inline).copy(self._after, shared)
        return [memoryview(bytearray(data)) for data in inline]

    def close(self) -> None:
        """Close what came with the message."""
        if self._memory is not None:
            self._memory.close()

    def _shared(self, inline: Sequence[bytes]) -> Received:
        if self._memory is None or inline:
            raise MalformedError("arrays are to lie in shared memory, and none came")
        return self._memory


def receive(stream: Stream) -> Parcel:
    """Return the next message of a stream; errors as ``Stream.receive``."""
    body, descriptor = stream.receive()
    if descriptor is None:
        assert not isinstance(body, int)  # noqa: S101 - a body in memory comes with the memory
        return Parcel(body, None, 0)
    memory = Received(descriptor)
    if not isinstance(body, int):
        return Parcel(body, memory, 0)
    try:
        return Parcel(memory.body(body), memory, body)
    except BaseException:
        memory.close()
        raise


def arrays_of(buffers: Sequence[memoryview]) -> dict[str, Any]:
    """Return how a message names its arrays: ``inline`` or ``shared``; give both to ``post``."""
    if sum(buffer.nbytes for buffer in buffers) <= INLINE_BYTES:
        return {"inline": tuple(bytes(buffer) for buffer in buffers)}
    return {"shared": tuple(buffer.nbytes for buffer in buffers)}


def post(
    stream: Stream,
    encoder: msgspec.msgpack.Encoder,
    message: Any,  # noqa: ANN401 - any of the messages
    buffers: Sequence[memoryview] = (),
) -> None:
    """Send a message; its arrays beside it where it says that they are shared.

    Raises:
        UsageError: it is too large, or holds what cannot be sent; nothing was sent.
        OSError: the other end is gone, or does not read.
    """
    try:
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
    memory = share(b"" if inside else body, buffers)
    try:
        if inside:
            stream.send(encoder, message, memory)
        else:
            stream.send_shared(len(body), memory)
    finally:
        os.close(memory)
