"""Large arrays between processes: sealed anonymous memory whose descriptor goes with a message.

The kernel frees it with its last descriptor and mapping, so a killed process leaves nothing. It is
sealed before it is sent: nobody can shrink it under a reader (which would end the reader by
SIGBUS) or change it after it was checked, and a reader refuses memory that is not sealed so.
Whoever stands between a client and a worker hands the descriptor on: the arrays are written once.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Sequence

from modelmgr.errors import UsageError, WorkerProtocolError

INLINE_BYTES = 64 * 1024
"""Arrays of so many bytes together go inside their message: a copy is cheaper than new pages."""
MAX_BYTES = 4 * 1024**3
"""Of one message's arrays: what a worker takes at once."""
MAX_ARRAYS = 4096

_ALIGNMENT = 64  # of each array, so that vector instructions find it as in numpy's own memory
_WRITE_BYTES = 1 << 30  # the kernel writes a little less than 2 GiB at once
_PIECES = 512  # IOV_MAX is 1024, and each array may bring its padding
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_NEEDED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE


def share(body: bytes, buffers: Sequence[memoryview]) -> int:
    """Return a descriptor of new sealed memory with the body and the buffers behind it.

    Raises:
        UsageError: there are too many, or they are too large.
        OSError: no memory or no descriptor is left.
    """
    sizes = [buffer.nbytes for buffer in buffers]
    if len(sizes) > MAX_ARRAYS or sum(sizes) > MAX_BYTES:
        raise UsageError(
            f"{len(sizes)} arrays of {sum(sizes)} bytes are more than a worker takes at once "
            f"({MAX_ARRAYS} arrays, {MAX_BYTES} bytes); use smaller batches"
        )
    memory = os.memfd_create("modelmgr-arrays", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        pieces = [memoryview(body)]
        at = len(body)
        for buffer, (begin, end) in zip(buffers, _places(len(body), sizes), strict=True):
            if begin > at:
                pieces.append(memoryview(bytes(begin - at)))
            pieces.append(buffer.cast("B"))
            at = end
        _write_all(memory, [piece for piece in pieces if piece.nbytes])
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(memory)
        raise
    return memory


class Received:
    """Sealed memory that came with a message; closes its descriptor.

    Args:
        memory: the descriptor; owned from now on.

    Raises:
        WorkerProtocolError: it is not memory that was sealed.
    """

    def __init__(self, memory: int) -> None:
        self._memory = memory
        try:
            seals = fcntl.fcntl(memory, fcntl.F_GET_SEALS)
            self._size_bytes = os.fstat(memory).st_size
        except OSError:
            self.close()
            raise WorkerProtocolError(
                "the descriptor that came is no memory that can be sealed"
            ) from None
        if seals & _NEEDED != _NEEDED:
            self.close()
            raise WorkerProtocolError("the memory that came can still be changed: it is not sealed")

    @property
    def descriptor(self) -> int:
        """The descriptor, for sending it on; it stays this object's to close."""
        return self._memory

    def close(self) -> None:
        """Close the descriptor; mappings stay as long as somebody looks at them."""
        memory, self._memory = self._memory, -1
        if memory >= 0:
            os.close(memory)

    def __del__(self) -> None:
        self.close()

    def body(self, size: int) -> bytearray:
        """Return the body at the beginning."""
        self._check(size)
        return self._read(0, size)

    def map(self, after: int, sizes: Sequence[int], *, writable: bool = False) -> list[memoryview]:
        """Return the buffers behind a body as views of the memory itself.

        Args:
            after: the body's size.
            sizes: the buffers' sizes.
            writable: whether they can be written; nobody else sees what is (the kernel copies the
                pages that are written, and no others).
        """
        places = self.locate(after, sizes)
        if not sum(sizes):
            return [memoryview(bytearray()) for _ in sizes]
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        mapped = mmap.mmap(self._memory, places[-1][1], flags=mmap.MAP_PRIVATE, prot=protection)
        whole = memoryview(mapped)
        return [whole[begin:end] for begin, end in places]

    def copy(self, after: int, sizes: Sequence[int]) -> list[memoryview]:
        """Return the buffers behind a body as copies of one's own, which can be written.

        A mapping would cost a descriptor for as long as somebody keeps the array.
        """
        places = self.locate(after, sizes)
        return [memoryview(self._read(begin, end - begin)) for begin, end in places]

    def locate(self, after: int, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Return where buffers begin and end; WorkerProtocolError where they do not lie there."""
        if len(sizes) > MAX_ARRAYS or sum(sizes) > MAX_BYTES:
            raise WorkerProtocolError(f"{len(sizes)} arrays of {sum(sizes)} bytes")
        places = _places(after, sizes)
        if places:
            self._check(places[-1][1])
        return places

    def _check(self, end: int) -> None:
        if end > self._size_bytes:
            raise WorkerProtocolError(f"{end} bytes were announced, and {self._size_bytes} came")

    def _read(self, at: int, size: int) -> bytearray:
        data = bytearray(size)
        filled = 0
        with memoryview(data) as view:
            while filled < size:
                got = os.preadv(self._memory, [view[filled : filled + _WRITE_BYTES]], at + filled)
                if got == 0:
                    raise WorkerProtocolError("the memory that came is shorter than it said")
                filled += got
        return data


class Segment:
    """Arrays in memory that came: which, and where they lie.

    Args:
        memory: the memory, which stays its owner's to close.
        after: where the arrays begin: the size of the body before them.
        sizes: of each array.

    Raises:
        WorkerProtocolError: they do not lie there.
    """

    __slots__ = ("after", "memory", "sizes")

    def __init__(self, memory: Received, after: int, sizes: Sequence[int]) -> None:
        self.memory = memory
        self.after = after
        self.sizes = tuple(sizes)
        memory.locate(after, self.sizes)

    def views(self) -> list[memoryview]:
        """Return the arrays' bytes, to be read."""
        return self.memory.map(self.after, self.sizes)

    def private(self) -> list[memoryview]:
        """Return the arrays' bytes, to be read and written by this process."""
        return self.memory.map(self.after, self.sizes, writable=True)

    def copies(self) -> list[memoryview]:
        """Return the arrays' bytes, to be kept and written."""
        return self.memory.copy(self.after, self.sizes)


def _places(after: int, sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return where each buffer begins and ends."""
    places: list[tuple[int, int]] = []
    end = after
    for size in sizes:
        begin = -(-end // _ALIGNMENT) * _ALIGNMENT
        end = begin + size
        places.append((begin, end))
    return places


def _write_all(memory: int, pieces: list[memoryview]) -> None:
    waiting = [
        piece[at : at + _WRITE_BYTES]
        for piece in pieces
        for at in range(0, len(piece), _WRITE_BYTES)
    ]
    first = 0
    while first < len(waiting):
        now: list[memoryview] = []
        size = 0
        for piece in waiting[first : first + _PIECES]:
            if size + len(piece) > _WRITE_BYTES and now:
                break
            now.append(piece)
            size += len(piece)
        written = os.writev(memory, now)
        while first < len(waiting) and written >= len(waiting[first]):
            written -= len(waiting[first])
            first += 1
        if written:
            waiting[first] = waiting[first][written:]
