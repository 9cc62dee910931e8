"""What the estimator says about one model: figures, how sure they are, and where they come from.

Owns the record alone. How it is computed is ``estimation.fit``'s work, how it is published
``estimation.estimator``'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["preload", "isolation", "aggregate", "prior"]


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """The cost of one copy of one model, bytes.

    Attributes:
        resident_bytes: what a loaded copy that does nothing takes; None where no observation told
            it apart from the peak.
        peak_bytes: what a copy takes at its peak while it works, the central figure.
        upper_bytes: what admission counts with: the 99 % quantile of a copy's next peak.
        interval_95: the 95 % interval of ``peak_bytes``; None where it is not known (``reason``).
        source: ``preload`` (told), ``isolation`` (measured alone), ``aggregate`` (told apart in
            readings of the whole device), ``prior`` (a share of what could not be told apart).
        observations: how many readings and isolation runs held this model.
        identified: whether observations and isolation runs determine ``peak_bytes``.
        reason: why it is not identified or has no interval; None where both are there.
        resident_upper_bytes: the most that a resting copy in a process of its own was seen to hold;
            None where none was.
        seen_bytes: the most that a copy in a process of its own was seen to hold, exact; None where
            none was.
    """

    resident_bytes: int | None
    peak_bytes: int
    upper_bytes: int
    interval_95: tuple[int, int] | None
    source: Source
    observations: int
    identified: bool
    reason: str | None
    resident_upper_bytes: int | None = None
    seen_bytes: int | None = None
