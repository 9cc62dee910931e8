"""Randomness by name: every model and purpose draws from a stream of its own.

A stream is the sequence that Python guarantees: "The generator's random() method will continue to
produce the same sequence when the compatible seeder is given the same seed"
(https://docs.python.org/3/library/random.html#notes-on-reproducibility). Nothing else of ``random``
has that promise, so nothing else of it is handed out; ``distributions`` and ``arrivals`` transform
these numbers themselves. Seeds come from SHA-256 of the names, never from ``hash``.

What is left to the machine: ``log``, ``pow``, ``exp`` and ``sin`` of its C library, whose last bit
may differ between libraries. Rounded to nanoseconds that moves about one draw in ten million, by
one nanosecond.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

Draw = Callable[[], float]
"""Returns the next number of a stream: 53 random bits in [0, 1)."""


def open_stream(seed: int, *names: str | int) -> Draw:
    """Return a stream that depends on nothing but the seed and its names, in order.

    Two different lists of names give independent streams; the number 1 and the text "1" are one
    name.
    """
    digest = hashlib.sha256()
    for name in (seed, *names):
        text = str(name).encode()
        digest.update(b"%d:" % len(text))  # so that ("ab", "c") is not ("a", "bc")
        digest.update(text)
    generator = random.Random(int.from_bytes(digest.digest(), "big"))  # noqa: S311 - repeatable on purpose, no secret
    return generator.random
