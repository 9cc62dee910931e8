"""Randomness by name: every model and purpose draws from a stream of its own.

A stream is the Mersenne Twister of numpy's ``RandomState``, whose sequence is frozen: "the exact
stream of values ... is guaranteed across versions" (NEP 19); ``Generator`` and Python's ``random``
promise less. Only its uniform numbers are used; ``distributions`` and ``arrivals`` make everything
else of them, with arithmetic that is exact on every machine. Seeds come from SHA-256 of the names,
never from ``hash``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from modelmgr.workload.exact_math import FloatArray, log

_FIRST_BLOCK = 64
_LARGEST_BLOCK = 1024


class Stream:
    """Numbers in [0, 1) with 53 random bits; called, it returns the next one.

    However many are taken at a time, the sequence is the same. It is opened when it is first drawn
    from: that takes longer than a hundred numbers, and a user of a closed loop has many streams.
    """

    __slots__ = ("_digest", "_state")

    def __init__(self, digest: bytes) -> None:
        """Start a stream; ``open_stream`` is how to get one."""
        self._digest = digest
        self._state: np.random.RandomState | None = None

    def __call__(self) -> float:
        """Return the next number."""
        return (self._state or self._open()).random_sample()

    def take(self, count: int) -> FloatArray:
        """Return the next numbers."""
        return (self._state or self._open()).random_sample(count)

    def _open(self) -> np.random.RandomState:
        seed = np.frombuffer(self._digest, dtype="<u4").astype(np.uint32)
        self._state = np.random.RandomState(seed)
        return self._state

    def child(self, name: str) -> Stream:
        """Return another stream: for a transform that needs two independent ones."""
        return Stream(hashlib.sha256(self._digest + name.encode()).digest())


def open_stream(seed: int, *names: str | int) -> Stream:
    """Return a stream that depends on nothing but the seed and its names, in order.

    Two different lists of names give independent streams; the number 1 and the text "1" are one
    name.
    """
    digest = hashlib.sha256()
    for name in (seed, *names):
        text = str(name).encode()
        digest.update(b"%d:" % len(text))  # so that ("ab", "c") is not ("a", "bc")
        digest.update(text)
    return Stream(digest.digest())


class Variates:
    """Numbers of some distribution in order, made in blocks, taken in any portions.

    A block must continue the sequence whatever its size: then the portions do not matter either.
    """

    __slots__ = ("_at", "_block", "_make", "_size")

    def __init__(self, make: Callable[[int], FloatArray]) -> None:
        """Take what makes the next block, of about so many numbers."""
        self._make = make
        self._block: FloatArray = np.empty(0)
        self._at = 0
        self._size = _FIRST_BLOCK

    def next_block(self) -> FloatArray:
        """Return a new block, larger from call to call; for who takes nothing else."""
        size = self._size
        self._size = min(_LARGEST_BLOCK, 2 * size)
        return self._make(size)

    def take(self, count: int) -> FloatArray:
        """Return the next numbers."""
        end = self._at + count
        if end > len(self._block):
            parts = [self._block[self._at :]]
            have = len(parts[0])
            while have < count:
                block = self.next_block()
                parts.append(block)
                have += len(block)
            self._block = np.concatenate(parts)
            self._at, end = 0, count
        taken = self._block[self._at : end]
        self._at = end
        return taken


def exponential(stream: Stream) -> Variates:
    """Return exponential numbers of mean 1, by inversion."""
    return Variates(lambda count: -log(1.0 - stream.take(count)))
