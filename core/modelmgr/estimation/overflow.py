"""Readings that nobody asked about, summed: a Gram matrix and moments that grow with no reading.

A log that is full gives its oldest reading away for each new one. Adding that one to the sums costs
the square of its own length, a dozen or two of entries, and solves nothing; the sums become part of
``estimation.belief`` when somebody asks. Imports no numpy, as observing must not.
"""

from __future__ import annotations

from modelmgr.estimation.statistics import FOREIGN_COLUMN, Row


class Overflow:
    """Weighted sums of outer products over the columns that occur.

    Attributes:
        count: how many readings are in the sums, those of weight 0 included.
        gram: ``sum w n_i n_j`` by pair of columns; of two different ones, one order only.
        moment: ``sum w n_i y`` by column, bytes.
    """

    __slots__ = ("count", "gram", "moment")

    def __init__(self) -> None:
        self.count = 0
        self.gram: dict[tuple[int, int], float] = {}
        self.moment: dict[int, float] = {}

    def add(self, row: Row, weight: float) -> None:
        """Take a reading in."""
        self.count += 1
        if weight <= 0.0:
            return
        gram, moment = self.gram, self.moment
        entries = [(FOREIGN_COLUMN, 1), *sorted(zip(row[0], row[1], strict=True))]
        value = row[2] * weight
        for position, (column, count) in enumerate(entries):
            moment[column] = moment.get(column, 0.0) + count * value
            for other, times in entries[position:]:
                pair = (column, other)
                gram[pair] = gram.get(pair, 0.0) + weight * count * times
