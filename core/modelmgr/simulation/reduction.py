"""Make the choice of gaps smaller before a solver sees it, without changing its answer.

Gaps that can always be kept and gaps that never can are decided, and states that cannot bind are
dropped: those with room for everything that could be open, and those whose neighbour holds at least
the same gaps in no more room. Integers throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelmgr.simulation.gaps import Gaps
from modelmgr.simulation.highs import Ints
from modelmgr.simulation.schedule import ServedSchedule


@dataclass(frozen=True, slots=True)
class Choice:
    """What is left to decide: which of these gaps are kept, so that every state has room.

    Attributes:
        gaps: the gaps' numbers in the schedule.
        firsts: the first of these states that each gap spans.
        pasts: the state after the last, above the first.
        sizes_bytes: what each gap holds, above 0.
        values_ns: what keeping each gap saves.
        states: the states' numbers in the schedule.
        rooms_bytes: each state's room.
        impossible: the gaps that can never be kept.
    """

    gaps: Ints
    firsts: Ints
    pasts: Ints
    sizes_bytes: Ints
    values_ns: Ints
    states: Ints
    rooms_bytes: Ints
    impossible: Ints

    def slots(self) -> int:
        """Return how many (gap, state) pairs there are: the size of the solver's matrix."""
        return int((self.pasts - self.firsts).sum())


def reduce_choice(schedule: ServedSchedule, gaps: Gaps) -> Choice:
    """Return what a solver has to decide."""
    models = np.asarray(gaps.models, dtype=np.int64)
    sizes = np.asarray([f.resident_bytes for f in schedule.figures], dtype=np.int64)[models]
    values = np.asarray([f.reload_cost_ns for f in schedule.figures], dtype=np.int64)[models]
    firsts = np.asarray(gaps.firsts, dtype=np.int64)
    pasts = np.asarray(gaps.pasts, dtype=np.int64)
    rooms = np.asarray(gaps.rooms_bytes, dtype=np.int64)
    states = np.arange(len(rooms), dtype=np.int64)
    numbers = np.arange(len(models), dtype=np.int64)
    possible = sizes <= np.asarray(gaps.narrowest_bytes, dtype=np.int64)
    spanning = pasts > firsts
    impossible = numbers[~possible]
    undecided = possible & spanning & (sizes > 0) & (values > 0)
    # A gap that saves nothing is not worth room: it counts as reloaded, at no cost.
    worthless = numbers[possible & spanning & (sizes > 0) & (values == 0)]
    impossible = np.sort(np.concatenate([impossible, worthless]))
    numbers, firsts, pasts = numbers[undecided], firsts[undecided], pasts[undecided]
    while True:
        needed = _needed_states(firsts, pasts, sizes[numbers], rooms)
        if needed.all():
            break
        before = np.concatenate([[0], np.cumsum(needed)])
        rooms, states = rooms[needed], states[needed]
        firsts, pasts = before[firsts], before[pasts]
        left = pasts > firsts
        numbers, firsts, pasts = numbers[left], firsts[left], pasts[left]
    return Choice(
        numbers, firsts, pasts, sizes[numbers], values[numbers], states, rooms, impossible
    )


def _needed_states(firsts: Ints, pasts: Ints, sizes: Ints, rooms: Ints) -> npt.NDArray[np.bool_]:
    count = len(rooms)
    change = np.zeros(count + 1, dtype=np.int64)
    np.add.at(change, firsts, sizes)
    np.add.at(change, pasts, -sizes)
    needed = np.cumsum(change)[:count] > rooms
    if not needed.all() or count < 2:
        return np.asarray(needed, dtype=np.bool_)
    begins = np.zeros(count + 1, dtype=np.bool_)
    ends = np.zeros(count + 1, dtype=np.bool_)
    begins[firsts] = True
    ends[pasts] = True
    # No gap ends between two states: the earlier one's gaps are all in the later one; and back.
    # Strict on one side, so that of two equal states one stays.
    needed[:-1] &= ends[1:count] | (rooms[:-1] < rooms[1:])
    needed[1:] &= begins[1:count] | (rooms[1:] <= rooms[:-1])
    return np.asarray(needed, dtype=np.bool_)
