"""Who is at the other end of a Unix socket, as the kernel says, not as the peer does."""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

from modelmgr.runtime.service.descriptors import none_left

_CREDENTIALS = struct.Struct("3i")
_SO_PEERPIDFD = 77  # since Linux 6.5 (include/uapi/asm-generic/socket.h); Python has no name for it


class Peer(NamedTuple):
    """The process that connected, as it was when it did; 0 where it cannot be seen from here."""

    pid: int
    uid: int
    gid: int


def peer_of(end: socket.socket) -> Peer:
    """Return who is at the other end (SO_PEERCRED, unix(7))."""
    data = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Peer(*_CREDENTIALS.unpack(data))


def open_peer_pidfd(end: socket.socket, pid: int) -> int | None:
    """Return a descriptor that becomes readable when the peer's process ends.

    None where the process cannot be seen from here (another container's): then only its
    connection tells.

    Raises:
        ProcessLookupError: the process has ended already.
        OSError: there is no descriptor for it.
    """
    try:
        return end.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except ProcessLookupError:
        raise
    except OSError as error:
        if none_left(error):
            raise
        return os.pidfd_open(pid) if pid > 0 else None  # an older kernel
