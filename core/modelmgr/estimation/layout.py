"""Which cost of which model each unknown of the regression is, and which of them meet.

The log counts copies by *column*: a model's copies at work, and its idle ones. The *unknowns* are
the memory of others (0), and for each model that occurs its peak, or where idle copies were seen,
what it is resident with and what it takes on top at its peak: both not negative, so that a peak is
never below its resident size. A copy at work then counts for both.

Owns that translation. Pure; knows no bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from modelmgr.estimation.arrow import BoolArray, IndexArray, Pattern
from modelmgr.estimation.sparse import SparseRows
from modelmgr.estimation.spd import FloatArray
from modelmgr.estimation.statistics import ObservationLog, active_column, idle_column

_NOWHERE = -1


class Layout:
    """Columns to unknowns.

    Args:
        log: whose columns.
        seen: the columns that occur anywhere.

    Attributes:
        models: the models that occur, ascending.
        owners: the model that each unknown is of; -1 for the memory of others.
    """

    __slots__ = ("_active", "_column", "_first", "_resident", "_second", "models", "owners")

    def __init__(self, log: ObservationLog, seen: BoolArray) -> None:
        self.models = [
            index
            for index in range(len(log.names))
            if seen[active_column(index)] or seen[idle_column(index)]
        ]
        owners = [-1]
        column = [0]
        resident: list[int] = []
        for index in self.models:
            if log.has_idle[index]:
                resident.append(len(owners))
                owners.append(index)
                column.append(idle_column(index))
            owners.append(index)
            column.append(active_column(index))
        self.owners: IndexArray = np.array(owners)
        self._column: IndexArray = np.array(column)
        self._resident: IndexArray = np.array(resident, dtype=np.intp)
        self._active: IndexArray = self._column[self._resident + 1]
        self._first: IndexArray = np.full(log.columns, _NOWHERE)
        self._first[self._column] = np.arange(len(column))
        self._second: IndexArray = np.full(log.columns, _NOWHERE)
        self._second[self._active] = self._resident

    def rows(self, counted: SparseRows) -> SparseRows:
        """Return rows of counts by column as rows of unknowns."""
        return counted.moved((self._first, self._second), len(self.owners))

    def single(self, columns: list[int]) -> SparseRows:
        """Return one row for each column: what one copy of it takes."""
        ones = np.ones(len(columns))
        shape = (len(columns), len(self._first))
        return self.rows(SparseRows(np.arange(len(columns)), np.array(columns, int), ones, shape))

    def contrast(self, column: int) -> FloatArray:
        """Return in full what one copy of a column takes, shape (unknowns,)."""
        contrast = np.zeros(len(self.owners))
        for unknown in (self._first[column], self._second[column]):
            if unknown != _NOWHERE:
                contrast[unknown] = 1.0
        return contrast

    def costs(self, theta: FloatArray) -> FloatArray:
        """Return the cost of each column, 0 where it does not occur."""
        costs = np.zeros(len(self._first))
        costs[self._column] = theta
        costs[self._active] += theta[self._resident]
        return costs

    def unknowns(self, costs: FloatArray) -> FloatArray:
        """Return the unknowns that give these costs by column."""
        values: FloatArray = costs[self._column]
        values[self._resident + 1] -= values[self._resident]
        return values

    def merged(self, precision: FloatArray) -> FloatArray:
        """Return a precision matrix by column as one of the unknowns."""
        half = precision[:, self._column]
        half[:, self._resident] += precision[:, self._active]
        whole: FloatArray = half[self._column]
        whole[self._resident] += half[self._active]
        return whole

    def pattern(self, together: Iterable[tuple[int, ...]]) -> Pattern:
        """Return which unknowns meet: those of models that are linked by common readings.

        Args:
            together: columns that occur in one reading, in any order and any number of times.
        """
        leader = {index: index for index in self.models}
        sets = len(leader)
        for columns in together:
            if sets <= 1:
                break
            first = None
            for column in columns:
                index = _led_by(leader, (column - 1) // 2)
                if first is None:
                    first = index
                elif index != first:
                    leader[index] = first
                    sets -= 1
        unknowns: dict[int, list[int]] = {}
        for unknown, owner in enumerate(self.owners[1:].tolist(), start=1):
            unknowns.setdefault(_led_by(leader, owner), []).append(unknown)
        return Pattern(len(self.owners), list(unknowns.values()))


def _led_by(leader: dict[int, int], index: int) -> int:
    """Return the first of a model's set, and shorten the way there."""
    while leader[index] != index:
        leader[index] = leader[leader[index]]
        index = leader[index]
    return index
