"""The C library's allocator inside a worker: set so that memory figures are true, or for speed.

Both settings are production's business too: ``memory`` returns what is freed to the kernel at
once, so that the process's peak is the peak of its live tensors; ``latency`` keeps freed blocks,
as the C library does by itself after a while, and costs no page faults. It knows glibc alone;
with another C library nothing is set and nothing fails.
"""

from __future__ import annotations

import ctypes
import functools
import gc
from collections.abc import Callable
from typing import Literal

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

# Measured: 64 KiB takes the peak of a forward pass to 1.00-1.03 times the live tensors, from 1.1
# to 2.2 by default; set before a framework is imported, or it comes too late.
_MEMORY = {_M_MMAP_THRESHOLD: 64 * 1024, _M_TRIM_THRESHOLD: 128 * 1024}
# 32 MiB is the largest that glibc takes, and where its own adaptation of the threshold ends; it
# then sets the trim threshold to twice that (mallopt(3), M_MMAP_THRESHOLD).
_LATENCY = {_M_MMAP_THRESHOLD: 32 * 1024**2, _M_TRIM_THRESHOLD: 64 * 1024**2}


def use_policy(policy: Literal["memory", "latency"]) -> bool:
    """Set the allocator for a phase; return whether the C library took it."""
    mallopt = _function("mallopt")
    if mallopt is None:
        return False
    settings = _MEMORY if policy == "memory" else _LATENCY
    taken = [mallopt(parameter, value) for parameter, value in settings.items()]
    return all(answer == 1 for answer in taken)


def give_back() -> None:
    """Collect garbage and return free heap pages to the kernel."""
    gc.collect()
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


@functools.cache
def _function(name: str) -> Callable[..., int] | None:
    try:
        return getattr(ctypes.CDLL(None, use_errno=True), name)  # type: ignore[no-any-return]  # a C function
    except (AttributeError, OSError):
        return None
