"""Whether a model's memory grows with every batch: a rule over what its process held, no clock.

Only settled readings count: garbage collected, free heap pages returned, after at least one warm-up
of the same shape. An ordinary model then ends a run of batches with what it began it with, but for

- the kernel's own counters, which lag by up to 256 KiB a core and jitter from run to run,
- what is made once, in any run: a cache, a compiled graph, a thread's heap. It does not come again.

So a leak is growth in (nearly) every run that was long enough to show it, the last one included,
that no single run explains, and that is well above what counters lag. Pages of files are left out:
they are touched one by one, and a process gives them back whenever the kernel wants them.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from modelmgr.units import MIB, format_bytes

MIN_BATCHES = 4
"""Fewer say nothing: two runs of one batch each may both have made something once."""
MIN_RUNS = 2
LEAST_TOTAL_BYTES = 2 * MIB
"""Below it nobody needs to know, and a counter's lag on a machine of many cores looks like it."""
LEAST_PER_BATCH_BYTES = 16 * 1024
SHARE_OF_RUNS = 0.8
"""Of the runs that must have grown: a collection or a trim may hide one."""
SHARE_OF_ONE = 4.0
"""How many times the median rate the mean may be: beyond it, a few runs explain all of it."""


class RunGrowth(msgspec.Struct, frozen=True, kw_only=True):
    """One run of batches of one shape: how many, and what the process grew by meanwhile, bytes."""

    batches: int
    grown_bytes: int


class Leak(msgspec.Struct, frozen=True, kw_only=True):
    """Memory that grew with every batch.

    Attributes:
        per_batch_bytes: the median rate of the runs.
        batches: how many batches were looked at.
        total_bytes: what the process grew by over all of them.
    """

    per_batch_bytes: int
    batches: int
    total_bytes: int

    def __str__(self) -> str:
        return (
            f"memory grew by {format_bytes(self.per_batch_bytes)} per batch over {self.batches} "
            f"batches: {format_bytes(self.total_bytes)}; it may grow without end, and the figures "
            "with it"
        )


def find_leak(runs: Sequence[RunGrowth]) -> Leak | None:
    """Return what a process's runs, in order, say of a leak; None where they do not say so."""
    batches = sum(run.batches for run in runs)
    total_bytes = sum(run.grown_bytes for run in runs)
    if len(runs) < MIN_RUNS or batches < MIN_BATCHES or total_bytes < LEAST_TOTAL_BYTES:
        return None
    growing = [run.grown_bytes >= LEAST_PER_BATCH_BYTES * run.batches for run in runs]
    if not growing[-1] or sum(growing) < SHARE_OF_RUNS * len(runs):
        return None
    per_batch_bytes = round(statistics.median(run.grown_bytes / run.batches for run in runs))
    if total_bytes > SHARE_OF_ONE * per_batch_bytes * batches:
        return None
    return Leak(per_batch_bytes=per_batch_bytes, batches=batches, total_bytes=total_bytes)


def worst_leak(leaks: Sequence[Leak | None]) -> Leak | None:
    """Return the largest of the processes' leaks where every process had one, else None."""
    found = [leak for leak in leaks if leak is not None]
    if not found or len(found) < len(leaks):
        return None
    return max(found, key=lambda leak: leak.per_batch_bytes)
