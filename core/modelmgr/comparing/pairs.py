"""The two readings of each figure, and whether one is worse than its limit allows. Exact, no noise.

A pair knows its limit and its good direction; what noise makes of a difference is ``judging``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import msgspec

from modelmgr.comparing.catalogue import Good, Known
from modelmgr.comparing.limits import Limit
from modelmgr.comparing.thresholds import Rule

Number = int | float


class Pair(msgspec.Struct):
    """One figure of both sides, known on both.

    Attributes:
        known: its entry in the catalogue.
        rule: how it is judged.
        figure: its full name, with the shape.
        old: the baseline's value.
        new: the other one's.
        old_samples: what the old value comes from, in the order of measurement; may be empty.
        new_samples: the same of the new value.
        exact: both are what they are, with no noise to ask about.
        measured: on a machine, not simulated.
        model: whose, None where no model's.
        device: whose, None where no device's.
        statistic: what the value is of its samples: ``median``, ``mean``, ``p95``, ...
        old_interval: what the file itself says the old value lies between, where it has no samples.
        new_interval: the same of the new value.
        settled: all values of both sides lie well within the limit of each other.
    """

    known: Known
    rule: Rule
    figure: str
    old: Number
    new: Number
    old_samples: Sequence[int]
    new_samples: Sequence[int]
    exact: bool
    measured: bool
    model: str | None = None
    device: str | None = None
    statistic: str = "median"
    old_interval: tuple[int, int] | None = None
    new_interval: tuple[int, int] | None = None
    settled: bool = False

    @property
    def change(self) -> float | None:
        """The change as a share of the old value; None where that is 0."""
        if not self.old:
            return 0.0 if not self.new else None
        return (self.new - self.old) / abs(self.old)

    @property
    def is_identical(self) -> bool:
        """Whether both sides come from the very same samples."""
        return self.old == self.new and self.old_samples == self.new_samples

    def is_worse(self) -> bool:
        """Return whether the new value is worse by more than the limit, taken as it is."""
        return _is_worse(self.old, self.new, self.rule.limit, self.known.good)

    def is_better(self) -> bool:
        """Return whether, seen from the new value, the old one is worse."""
        return _is_worse(self.new, self.old, self.rule.limit, self.known.good)


def _is_worse(old: Number, new: Number, limit: Limit, good: Good) -> bool:
    if old == new:
        return False
    worse_by: int | Fraction
    if isinstance(old, int) and isinstance(new, int):
        worse_by = new - old
    else:
        worse_by = Fraction(new) - Fraction(old)
    if good == "higher" or (good == "neither" and worse_by < 0):
        worse_by *= -1
    rough = limit.roughly_allowed(old)
    if not rough * 0.999 <= worse_by <= rough * 1.001:
        return worse_by > rough  # far from the edge floats do
    return worse_by > limit.allowed(old)
