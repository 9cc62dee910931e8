"""A measured figure and how good it is: FORMATS' M and D.

A database has tens of thousands of them, and nothing in one leads back to it: the garbage collector
need not know them (``gc=False``).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Evidence = Literal["exact", "sampled", "estimated"]
Amount = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""Of bytes, nanoseconds or things. A number of 400 digits is none, and no float can hold it."""


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

    value: Amount
    evidence: Evidence
    interval_95: tuple[Amount, Amount] | None = None
    samples: tuple[Amount, ...] = ()


class MeasuredDuration(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False
):
    """A duration in nanoseconds (FORMATS: D); ``p95`` is None where the sample is too small."""

    median: Amount
    p95: Amount | None
    min: Amount
    max: Amount
    samples: tuple[Amount, ...] = ()
