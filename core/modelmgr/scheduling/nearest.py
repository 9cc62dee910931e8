"""The copies that are cheapest to lose, found without looking at all of them.

Of a thousand idle copies a handful can be in the set that a policy takes. Where the policy can tell
for each a *floor*, which its value does not fall below while it stays loaded, they are found by it:
copies are kept in heaps by their floors and looked at from the lowest on, until what is left is
worth more than any of those that are needed.

Floors are not kept up: a copy that was used since is worth more than its floor says. It is looked
at when its turn comes, and goes back to where it then belongs. So a hit costs nothing here, and a
busy copy is looked at once in a long while.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from math import inf
from typing import Final, Protocol

from modelmgr.scheduling.copies import Copy, Device, Model
from modelmgr.scheduling.states import LOADED

# What a floor may be off by, for it is rounded.
_ROUNDING: Final = 1 - 1e-6


class Floors(Protocol):
    """What a policy tells of copies so that it need not be shown all of them."""

    def floor(self, copy: Copy) -> tuple[int, float]:
        """Return a class, and a floor within it, of a copy that is its model's only one.

        In a class, the higher the floor, the higher the least value, whatever the time. A copy's
        floor never falls while what its model costs stays the same.
        """
        ...

    def least_value(self, kind: int, floor: float, now_ns: int) -> float:
        """Return what a copy with such a floor is worth at least; 0 or more."""
        ...

    def dearest(self, sizes: Sequence[int], values: Sequence[float], need: int) -> float:
        """Return the value above which nothing is taken while these are there; else infinity."""
        ...


class Nearest:
    """One device's copies by their floors.

    Args:
        device: whose copies.
        floors: the policy's answers.
        several: the models with more than one copy. What one of these is worth can fall as others
            are used, so floors say nothing about them.
    """

    __slots__ = (
        "_device",
        "_floors",
        "_heaps",
        "_kept",
        "_known",
        "_now_ns",
        "_several",
        "_taken",
        "_tops",
        "_young",
    )

    def __init__(self, device: Device, floors: Floors, several: Mapping[str, Model]) -> None:
        self._device = device
        self._floors = floors
        self._several = several
        self._heaps: dict[int, list[tuple[float, int]]] = {}
        # How many entries there are, those of copies that are gone among them.
        self._kept = 0
        # Copies up to this number have an entry, or are among the young: those not yet loaded.
        self._known = 0
        self._young: list[Copy] = []
        # While looking: what was taken out, and the least value in each heap.
        self._taken: list[Copy] = []
        self._tops: list[tuple[float, int]] = []
        self._now_ns = 0

    def forget(self) -> None:
        """Begin anew: what models cost has changed, and floors may have fallen."""
        self._heaps.clear()
        self._young.clear()
        self._kept = self._known = 0

    def begin(self, now_ns: int) -> list[Copy]:
        """Begin to look; return the copies that have no floor."""
        copies = self._device.copies
        if self._kept > 2 * len(copies):
            self.forget()
        for number in reversed(copies):  # the latest first
            if number <= self._known:
                break
            self._young.append(copies[number])
        if copies:
            self._known = max(self._known, next(reversed(copies)))
        young, self._young = self._young, []
        for copy in young:
            if copy.state in LOADED:
                self._put(copy)
            elif copy.number in copies:
                self._young.append(copy)
        self._now_ns = now_ns
        least_value = self._floors.least_value
        self._tops = [
            (least_value(kind, heap[0][0], now_ns), kind)
            for kind, heap in self._heaps.items()
            if heap
        ]
        heapq.heapify(self._tops)
        index = self._device.index
        return [
            copy
            for model in self._several.values()
            for copy in model.copies.values()
            if copy.device == index
        ]

    def take(self, count: int) -> list[Copy]:
        """Return so many more copies, those with the lowest floors; fewer only at the end."""
        copies, tops, several = self._device.copies, self._tops, self._several
        found: list[Copy] = []
        while tops and len(found) < count:
            kind = tops[0][1]
            heap = self._heaps[kind]
            number = heapq.heappop(heap)[1]
            self._kept -= 1
            if heap:
                least = self._floors.least_value(kind, heap[0][0], self._now_ns)
                heapq.heapreplace(tops, (least, kind))
            else:
                heapq.heappop(tops)
            copy = copies.get(number)
            if copy is None:
                continue  # it is gone
            self._taken.append(copy)
            if copy.model.tag not in several:
                found.append(copy)
        return found

    def least_left(self) -> float:
        """Return what those not taken are worth at least, infinity where there are none."""
        return self._tops[0][0] * _ROUNDING if self._tops else inf

    def end(self) -> None:
        """Put back what was taken, where it now belongs."""
        for copy in self._taken:
            self._put(copy)
        self._taken.clear()

    def _put(self, copy: Copy) -> None:
        kind, floor = self._floors.floor(copy)
        heapq.heappush(self._heaps.setdefault(kind, []), (floor, copy.number))
        self._kept += 1
