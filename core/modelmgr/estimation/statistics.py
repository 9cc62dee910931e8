"""The bounded log of readings that the fit works on, and nothing older.

A reading is one row: how many copies of which model were at work, how many were loaded and idle,
and the bytes that the device showed. The latest rows are kept as they are (a robust fit needs to
look back at a reading once it knows better); when there are twice as many as ``capacity``, the
oldest go into the ``belief`` that ``estimation.belief`` keeps. So the memory is bounded by the
square of the number of models, and taking a reading costs its own length, after a million as after
ten.

Columns: 0 is the memory of others (foreign); model ``i`` has ``1 + 2 i`` for copies at work and ``2
+ 2 i`` for idle ones. A copy at work costs its peak, an idle one what it is resident with, which is
why a reading that only knows of copies at work says nothing about the second column.

Owns the rows and their counters. Imports no numpy, so that making an estimator costs nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import cast

Row = tuple[tuple[int, ...], tuple[int, ...], float]
"""Columns, counts, bytes."""

MIN_CAPACITY = 256
ROWS_A_COLUMN = 6  # a robust start needs several readings for each unknown
MAX_COUNT = 1_000_000
MAX_BYTES = float(2**63)
FOREIGN_COLUMN = 0


def active_column(index: int) -> int:
    """Return the column of model ``index``'s copies at work."""
    return 1 + 2 * index


def idle_column(index: int) -> int:
    """Return the column of model ``index``'s idle copies."""
    return 2 + 2 * index


class ObservationLog:
    """The latest readings, and how many held each model.

    Attributes:
        rows: the readings not yet folded, oldest first.
        tags: model to index, in the order in which they were first seen.
        names: index to model.
        observations: how often each model was observed, by index, isolation runs included.
        total: how many readings were taken.
        has_idle: whether model ``index`` was ever seen loaded and idle.
    """

    __slots__ = ("has_idle", "names", "observations", "rows", "tags", "total")

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.tags: dict[str, int] = {}
        self.names: list[str] = []
        self.observations: list[int] = []
        self.has_idle: list[bool] = []
        self.total = 0

    @property
    def capacity(self) -> int:
        """How many rows are kept for certain; twice as many are never exceeded."""
        return max(MIN_CAPACITY, ROWS_A_COLUMN * (1 + len(self.names)))

    @property
    def columns(self) -> int:
        """How many columns there are."""
        return 1 + 2 * len(self.names)

    def index(self, tag: str) -> int:
        """Return the model's index; a new one for a new model."""
        found = self.tags.get(tag)
        if found is None:
            found = self.tags[tag] = len(self.names)
            self.names.append(tag)
            self.observations.append(0)
            self.has_idle.append(False)
        return found

    def add_active(self, active: Mapping[str, int], used_bytes: float) -> None:
        """Take a reading while ``active`` copies were at work; both were checked."""
        columns: list[int] = []
        counts: list[int] = []
        observations = self.observations
        for tag, count in active.items():
            if count:
                index = self.tags.get(tag)
                if index is None:
                    index = self.index(tag)
                observations[index] += 1
                columns.append(1 + 2 * index)
                counts.append(count)
        self.rows.append((tuple(columns), tuple(counts), used_bytes))
        self.total += 1

    def add_loaded(
        self,
        loaded: Mapping[str, int],
        active: Mapping[str, int],
        peak_bytes: float,
        resident_bytes: float | None,
    ) -> None:
        """Take a reading of the peak, and one at rest where there is one; all were checked."""
        columns: list[int] = []
        counts: list[int] = []
        resting_columns: list[int] = []
        resting_counts: list[int] = []
        for tag, count in loaded.items():
            if not count:
                continue
            index = self.index(tag)
            self.observations[index] += 1
            at_work = active.get(tag, 0)
            if at_work:
                columns.append(active_column(index))
                counts.append(at_work)
            if count > at_work:
                columns.append(idle_column(index))
                counts.append(count - at_work)
                self.has_idle[index] = True
            resting_columns.append(idle_column(index))
            resting_counts.append(count)
            if resident_bytes is not None:
                self.has_idle[index] = True
        self.rows.append((tuple(columns), tuple(counts), peak_bytes))
        if resident_bytes is not None:
            self.rows.append((tuple(resting_columns), tuple(resting_counts), resident_bytes))
        self.total += 1

    def add_foreign(self, used_bytes: float) -> None:
        """Take a reading while nothing of ours was loaded; it was checked."""
        self.rows.append(((), (), used_bytes))
        self.total += 1


def check_tag(tag: object) -> None:
    """Raise ValueError for a tag that is no text."""
    if not isinstance(tag, str):
        raise ValueError(f"a tag is a text, not {tag!r}")  # noqa: TRY004 - as every bad observation


def checked_counts(what: str, snapshot: object) -> Mapping[str, int]:
    """Return a snapshot whose counts are Python's whole numbers: itself, where they are already.

    Raises:
        ValueError: it is empty, counts no copy, has a tag that is no text, or a count that is none.
    """
    if not isinstance(snapshot, Mapping):
        raise ValueError(f"the {what} snapshot is no mapping of counts: {snapshot!r}")  # noqa: TRY004 - as every bad observation
    counts = cast("Mapping[str, int]", snapshot)
    if not counts:
        raise ValueError(f"the {what} snapshot is empty: a reading without a model teaches nothing")
    some = False
    for tag, count in counts.items():
        if type(tag) is not str:
            check_tag(tag)
        if type(count) is not int:
            whole = {tag: _whole(what, tag, count) for tag, count in counts.items()}
            return checked_counts(what, whole)
        if count < 0 or count > MAX_COUNT:
            raise ValueError(f"{what} count {count} of {tag!r} is outside of 0 to {MAX_COUNT:,}")
        if count:
            some = True
    if not some:
        raise ValueError(f"the {what} snapshot counts no copy: {dict(counts)!r}")
    return counts


def _whole(what: str, tag: str, count: int) -> int:
    """Return a whole number of another kind (numpy's) as Python's; True and False are none."""
    try:
        if count is not True and count is not False:
            return operator.index(count)
    except TypeError:
        pass
    raise ValueError(f"{what} count {count!r} of {tag!r} is no whole number")


def check_bytes(what: str, value: float, unit: int = 1) -> float:
    """Return a positive finite amount of memory in bytes; raise ValueError otherwise.

    Zero is refused as well: a device that shows nothing while a model is loaded was not read. Text
    is no number here, nor is True.
    """
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError  # noqa: TRY301 - one place says it
        size = float(value) * unit
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{what} {value!r} is no number") from None
    if not 0.0 < size < MAX_BYTES:
        raise ValueError(f"{what} {value!r} is not a positive, finite amount of memory")
    return size
