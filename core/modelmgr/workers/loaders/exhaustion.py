"""Recognising that an error means "no memory left", whoever raised it and in whatever process.

Loaders let such errors through unchanged, so that a worker can report them as what they were.
"""

from __future__ import annotations

import errno

from modelmgr.workers.loaders.messages import text_of

# What the allocators say, in lower case: torch's CPU and CUDA allocators, ONNX Runtime's arena,
# the C++ library's bad_alloc.
_PHRASES = (
    "can't allocate memory",
    "out of memory",
    "not enough memory",
    "failed to allocate memory",
    "bad_alloc",
    "bad allocation",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error, or one that caused it, says that memory ran out."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        names = (kind.__name__ for kind in type(current).__mro__)
        if isinstance(current, MemoryError) or "OutOfMemoryError" in names:
            return True
        if isinstance(current, OSError) and current.errno == errno.ENOMEM:
            return True
        text = text_of(current).lower()
        if any(phrase in text for phrase in _PHRASES):
            return True
        current = current.__cause__ or current.__context__
    return False
