"""A measured figure and how good it is: FORMATS' M and D.

A database has tens of thousands of them, and nothing in one leads back to it: the garbage collector
need not know them (``gc=False``).
"""

from __future__ import annotations

from typing import Literal

import msgspec

Evidence = Literal["exact", "sampled", "estimated"]


class MeasuredBytes(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False
):
    """A number of bytes with its evidence (FORMATS: M).

    Attributes:
        value: the figure, bytes; the median of ``samples`` unless its owner says otherwise.
        evidence: ``exact`` (allocator's or kernel's own peak, process gone), ``sampled`` (polled),
            ``estimated`` (a model's answer).
        interval_95: 95 % interval of the value, bytes; None where too few samples.
        samples: every raw sample, bytes, one a repeat, in order.
    """

    value: int
    evidence: Evidence
    interval_95: tuple[int, int] | None = None
    samples: tuple[int, ...] = ()


class MeasuredDuration(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False
):
    """A duration in nanoseconds (FORMATS: D); ``p95`` is None where the sample is too small."""

    median: int
    p95: int | None
    min: int
    max: int
    samples: tuple[int, ...] = ()
