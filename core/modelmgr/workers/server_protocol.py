"""What a launcher and a forkserver say to each other: one JSON message a packet.

The socket keeps packets apart (SOCK_SEQPACKET) and carries descriptors (SCM_RIGHTS): a request to
fork brings the worker's socket and its output pipe, the answer brings a pidfd, which names the
worker for good where its number would not.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence

import msgspec

from modelmgr.workers.process_exit import ExitStatus

MAX_PACKET_BYTES = 1 << 16
_MAX_DESCRIPTORS = 4


class Preload(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first request: import these, then be ready."""

    modules: tuple[str, ...]


class Fork(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Fork a worker; descriptors: its end of the socket, its end of the output pipe.

    A ``fresh`` one becomes an interpreter of its own, which inherits nothing of the server's.
    """

    serial: int
    fresh: bool = False


class ServerReady(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The modules are imported; ``missing`` gives the reason for each that is not."""

    missing: dict[str, str]


class Forked(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A worker was made; descriptor: its pidfd."""

    serial: int
    pid: int


class ForkFailed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The system has no room for a further process."""

    serial: int
    reason: str


class Exited(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A worker ended and was waited for."""

    pid: int
    status: ExitStatus


Order = Preload | Fork
Event = ServerReady | Forked | ForkFailed | Exited

_ENCODER = msgspec.json.Encoder()
_ORDERS: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
_EVENTS: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def send(end: socket.socket, message: Order | Event, descriptors: Sequence[int] = ()) -> None:
    """Send one packet; OSError when the other end is gone."""
    data = _ENCODER.encode(message)
    if descriptors:
        socket.send_fds(end, [data], descriptors)
    else:
        end.send(data)


def receive_order(end: socket.socket) -> tuple[Order, list[int]]:
    """Return the next order and its descriptors; EOFError when the launcher is gone."""
    data, descriptors = _receive(end)
    return _ORDERS.decode(data), descriptors


def receive_event(end: socket.socket) -> tuple[Event, list[int]]:
    """Return the next event and its descriptors.

    Raises:
        EOFError: the server is gone.
        ValueError: a packet that is no event.
    """
    data, descriptors = _receive(end)
    try:
        return _EVENTS.decode(data), descriptors
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        close_all(descriptors)
        raise ValueError(f"a forkserver sent what is no event: {error}") from error


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors that nobody will use."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _receive(end: socket.socket) -> tuple[bytes, list[int]]:
    try:
        data, descriptors, _, _ = socket.recv_fds(
            end, MAX_PACKET_BYTES, _MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        data, descriptors = b"", []
    if not data:
        raise EOFError("the other end of a forkserver's socket is closed")
    return data, list(descriptors)
