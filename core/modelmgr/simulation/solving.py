"""The choice of gaps as a linear and a mixed-integer programme, whole or cut into windows.

Owns scaling and the solver's answers. A solver computes in floating point: what it says is a float
with a margin here, and exact arithmetic (``simulation.prices``) has the last word elsewhere.

Programmes can be cut into windows of states. A gap's value is divided between the windows that it
spans; since a kept gap is kept in all of them, the sum of the windows' best values is at least the
best value of the whole, whatever the division is (Lagrangian decomposition). It is divided in
proportion to what the gap's room is worth by the linear programme's prices, and by states for the
rest: with that the windows' own linear programmes add up to no more than the whole's, and their
exact solutions to less.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import gcd

import numpy as np
import numpy.typing as npt

from modelmgr.simulation.highs import Columns, Floats, Ints, best_integers, row_duals
from modelmgr.simulation.reduction import Choice

_WHOLE_SIZES_UP_TO = 1_000  # rooms that HiGHS gets as whole numbers, over their divisor
_ROOM = 100.0  # the largest room otherwise: an absolute tolerance of 1e-6 is then 1e-8 of it
_VALUES_UP_TO = 2**20  # costs likewise
_RELATIVE_MARGIN = 1e-9
_MARGIN_PER_GAP = 1e-7  # HiGHS's dual feasibility tolerance, in units of which a gap has up to 2^20


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer of the mixed-integer programme.

    Attributes:
        at_most_ns: no set of gaps that fits is worth more; None where the solver did not get to it.
        chosen: which gaps the best set found keeps, None where none was found.
    """

    at_most_ns: float | None
    chosen: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class Window:
    """A run of states, and every gap that spans some of them.

    Attributes:
        members: the gaps, indices into the choice.
        firsts: of each gap, the first state within the window, counted from its first.
        pasts: the state after the last.
        sizes_bytes: what each gap holds.
        values_ns: each gap's value in this window; not whole where it was divided.
        rooms_bytes: the states' rooms.
        begin: the window's first state.
    """

    members: Ints
    firsts: Ints
    pasts: Ints
    sizes_bytes: Ints
    values_ns: Floats
    rooms_bytes: Ints
    begin: int


def whole(choice: Choice) -> Window:
    """Return everything as one window."""
    return Window(
        np.arange(len(choice.gaps), dtype=np.int64),
        choice.firsts,
        choice.pasts,
        choice.sizes_bytes,
        choice.values_ns.astype(np.float64),
        choice.rooms_bytes,
        0,
    )


def windows(choice: Choice, states: int, prices: Floats, *, offset: int = 0) -> Iterator[Window]:
    """Yield the windows of so many states, values divided by the prices (ns a byte a state)."""
    count = len(choice.rooms_bytes)
    paid = np.concatenate([[0.0], np.cumsum(prices)])
    spans = (choice.pasts - choice.firsts).astype(np.float64)
    rest = choice.values_ns - choice.sizes_bytes * (paid[choice.pasts] - paid[choice.firsts])
    cuts = [0, *range(offset or states, count, states), count]
    for begin, end in pairwise(cuts):
        members = np.flatnonzero((choice.firsts < end) & (choice.pasts > begin))
        firsts = np.maximum(choice.firsts[members], begin)
        pasts = np.minimum(choice.pasts[members], end)
        sizes = choice.sizes_bytes[members]
        values = sizes * (paid[pasts] - paid[firsts])
        values += rest[members] * ((pasts - firsts) / spans[members])
        useful = values > 0.0  # the others are best left out, and cost the sum nothing
        yield Window(
            members[useful],
            firsts[useful] - begin,
            pasts[useful] - begin,
            sizes[useful],
            values[useful],
            choice.rooms_bytes[begin:end],
            begin,
        )


def relaxed_prices(window: Window, time_limit_s: float | None = None) -> Floats | None:
    """Return the prices of a window's states (ns a byte) by the linear programme's duals.

    None where the time limit ended it first.
    """
    if not len(window.members):
        return np.zeros(len(window.rooms_bytes))
    sizes, rooms, size_unit = _scaled_sizes(window)
    values, value_unit = _scaled_values(window.values_ns)
    duals = row_duals(values, _matrix(window, sizes), rooms, time_limit_s=time_limit_s)
    return None if duals is None else duals * (value_unit / size_unit)


def best_kept(
    window: Window, *, time_limit_s: float | None = None, relative_gap: float = 0.0
) -> Kept:
    """Return the most that keeping gaps can be worth in a window, and the set that is."""
    if not len(window.members):
        return Kept(0.0, np.zeros(0, dtype=np.bool_))
    sizes, rooms, _ = _scaled_sizes(window)
    values, value_unit = _scaled_values(window.values_ns)
    answer = best_integers(
        values,
        _matrix(window, sizes),
        rooms,
        time_limit_s=time_limit_s,
        relative_gap=relative_gap,
    )
    chosen = None if answer.solution is None else answer.solution > 0.5
    if answer.at_most is None:
        return Kept(None, chosen)
    margin = _RELATIVE_MARGIN * abs(answer.at_most) + _MARGIN_PER_GAP * len(values)
    return Kept((answer.at_most + margin) * value_unit, chosen)


def _matrix(window: Window, sizes: Floats) -> Columns:
    spans = window.pasts - window.firsts
    ends = np.cumsum(spans)
    rows = np.arange(int(ends[-1]), dtype=np.int64) - np.repeat(ends - spans, spans)
    rows += np.repeat(window.firsts, spans)
    return Columns(
        np.repeat(sizes, spans),
        rows,
        np.concatenate([np.zeros(1, dtype=np.int64), ends]),
        len(window.rooms_bytes),
    )


def _scaled_sizes(window: Window) -> tuple[Floats, Floats, float]:
    """Return sizes and rooms in a unit: whole numbers where they are small enough."""
    largest = int(window.rooms_bytes.max())
    unit = gcd(*np.unique(window.sizes_bytes).tolist())
    if largest // unit <= _WHOLE_SIZES_UP_TO:
        return (
            (window.sizes_bytes // unit).astype(np.float64),
            (window.rooms_bytes // unit).astype(np.float64),
            float(unit),
        )
    scale = largest / _ROOM
    return window.sizes_bytes / scale, window.rooms_bytes / scale, scale


def _scaled_values(values: Floats) -> tuple[Floats, float]:
    """Return values in a unit: whole numbers where they are whole and small enough."""
    largest = float(values.max())
    if (values == np.floor(values)).all() and largest < 2**53:
        unit = gcd(*np.unique(values.astype(np.int64)).tolist())
        if largest / unit <= _VALUES_UP_TO:
            return values / unit, float(unit)
    scale = largest / _VALUES_UP_TO
    return values / scale, scale
