"""Where a copy's peak goes: five lines that add up to it exactly, for each process and each model.

For one process, with the shape L of the largest activation:

    runtime      the process with its framework and device context, without the model. On the host:
                 the anonymous pages before the load, and the pages of programs and libraries
                 whenever they were touched (a kernel's code belongs to the framework, not to the
                 model that called it first). Pages that a forkserver shares with its children count
                 in full for each: the line says what one process holds, ``copies`` what one more
                 costs.
    weights      parameters and buffers as the framework counts them, each storage once. Where the
                 loader cannot know, what the process grew by over the load, and a note of the
                 record says so; buffers of the framework and modules that the load imported are
                 then here and not in ``unaccounted``. None where that growth is not known either.
    activation   L's peak above the use before its batches, the allocator returning what is freed,
                 so that the process's peak is the tensors' peak.
    cache        the copy's highest use with the allocator set as in production, above L's peak in
                 the memory phase: what that allocator keeps or wastes beyond live tensors.
    unaccounted  the rest. As the lines above are measured apart from each other, this is no
                 remainder by definition: it is what the process holds before L's batches beyond
                 runtime and weights (buffers of the framework, modules imported by the load, pages
                 of the interpreter), and it is negative where two lines count the same page.
                 What processes hold that the model started itself is here too: it is part of the
                 use and of the peak, and whether it is weights or anything else nobody can tell.

    runtime + weights + activation + cache + unaccounted = peak

    peak - L's memory peak = cache;  L's memory peak - activation = the use before L's batches
    resident - runtime = what the model itself holds, to compare with weights

Several processes are combined line by line by their medians, and ``unaccounted`` closes the sum on
the stored peak. A line that no process could tell is None and counts as nothing in the sum.
This module is arithmetic only: no clock, no process, no file.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from modelmgr.measuring.samples import RepeatSample
from modelmgr.records.costs import Ledger


def close_ledger(
    *,
    peak_bytes: int,
    runtime_bytes: int | None,
    weights_bytes: int | None,
    activation_bytes: int | None,
    cache_bytes: int | None,
) -> Ledger:
    """Return the ledger whose ``unaccounted_bytes`` makes the known lines add up to the peak."""
    lines = (runtime_bytes, weights_bytes, activation_bytes, cache_bytes)
    return Ledger(
        runtime_bytes=runtime_bytes,
        weights_bytes=weights_bytes,
        activation_bytes=activation_bytes,
        cache_bytes=cache_bytes,
        unaccounted_bytes=peak_bytes - sum(line for line in lines if line is not None),
    )


def ledger_total_bytes(ledger: Ledger) -> int:
    """Return the sum of the known lines, bytes: the peak it was closed on."""
    lines = (
        ledger.runtime_bytes,
        ledger.weights_bytes,
        ledger.activation_bytes,
        ledger.cache_bytes,
        ledger.unaccounted_bytes,
    )
    return sum(line for line in lines if line is not None)


def model_growth_bytes(ledger: Ledger, resident_bytes: int) -> int | None:
    """Return what the model itself holds at rest, bytes: resident less runtime; None if unknown.

    This is the figure to hold against the true bytes of parameters and buffers.
    """
    return None if ledger.runtime_bytes is None else resident_bytes - ledger.runtime_bytes


def repeat_ledger(sample: RepeatSample) -> Ledger | None:
    """Return one process's ledger, None where its peak is unknown."""
    peak = sample.peak_bytes
    if peak is None:
        return None
    largest = sample.largest
    memory_peak = None if largest is None else largest.memory_peak_bytes
    return close_ledger(
        peak_bytes=peak,
        runtime_bytes=sample.runtime_bytes,
        weights_bytes=sample.weights_bytes,
        activation_bytes=None if largest is None else largest.activation_bytes,
        cache_bytes=None if memory_peak is None else peak - memory_peak,
    )


def combine_ledgers(ledgers: Sequence[Ledger], *, peak_bytes: int) -> Ledger:
    """Return the ledger of a model from those of its processes, closed on the stored peak.

    Args:
        ledgers: one for each process, at least one.
        peak_bytes: the model's stored peak.
    """
    return close_ledger(
        peak_bytes=peak_bytes,
        runtime_bytes=_median(ledger.runtime_bytes for ledger in ledgers),
        weights_bytes=_median(ledger.weights_bytes for ledger in ledgers),
        activation_bytes=_median(ledger.activation_bytes for ledger in ledgers),
        cache_bytes=_median(ledger.cache_bytes for ledger in ledgers),
    )


def _median(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known)) if known else None
