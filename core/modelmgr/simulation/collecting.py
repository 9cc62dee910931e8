"""Garbage collection while a simulation runs: seldom, as it makes next to no cycles.

By default the interpreter looks for cycles after every 700 new objects, and now and then through
all there are: a tenth of a simulation's time. Owns the interpreter's thresholds while any
simulation runs, and gives them back after the last one.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

_NEW_OBJECTS = 100_000
# The thresholds that each simulation under way found; the first found those to give back.
_found: list[tuple[int, int, int]] = []


@contextmanager
def seldom_collecting() -> Generator[None]:
    """Let cycles be looked for after 100,000 new objects, within a ``with`` block.

    Several may overlap, in threads of their own; what somebody sets meanwhile is overwritten.
    """
    new, *older = gc.get_threshold()
    _found.append(gc.get_threshold())
    gc.set_threshold(max(_NEW_OBJECTS, new) if new else 0, *older)  # 0: not at all
    try:
        yield
    finally:
        first = _found[0]
        _found.pop()
        if not _found:
            gc.set_threshold(*first)
