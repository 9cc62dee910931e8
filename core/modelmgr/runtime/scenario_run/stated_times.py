"""Whether stand-ins took the times that their scenario states, and which of them took too long.

A stand-in holds real memory. Where a machine needs longer to give it, or to take it back, than the
scenario states for the whole load, service or unload, the run is slower than the scenario, and
nothing else in its result says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from modelmgr.records.result import ModelUse, StatedTime

Act = Literal["load", "service", "unload"]
ACTS: Final[tuple[Act, ...]] = ("load", "service", "unload")

# What a simulation may be off by is a few per cent; the least that a thread is late is below 1 ms.
_OVER_SHARE = 0.02
_OVER_NS = 1_000_000


class StatedTimes:
    """The times of one model's stand-ins; not thread-safe."""

    def __init__(self) -> None:
        self._sums: dict[Act, _Sums] = {}

    def took(self, act: Act, stated_ns: int, over_ns: int) -> None:
        """Count one that took so much longer than stated."""
        sums = self._sums.setdefault(act, _Sums())
        sums.count += 1
        sums.stated_ns += stated_ns
        sums.over_ns += over_ns
        sums.most_over_ns = max(sums.most_over_ns, over_ns)

    def record(self) -> dict[str, StatedTime]:
        """Return what was counted, by act; nothing for one that never came."""
        return {
            act: StatedTime(
                count=sums.count,
                stated_ns=sums.stated_ns // sums.count,
                taken_ns=(sums.stated_ns + sums.over_ns) // sums.count,
                most_over_ns=sums.most_over_ns,
            )
            for act in ACTS
            if (sums := self._sums.get(act)) is not None
        }


class _Sums:
    def __init__(self) -> None:
        self.count = 0
        self.stated_ns = 0
        self.over_ns = 0
        self.most_over_ns = 0


@dataclass(frozen=True, slots=True)
class Overrun:
    """What a model's stand-ins took too long for, on average."""

    tag: str
    act: Act
    time: StatedTime


def overruns(models: Mapping[str, ModelUse]) -> Iterator[Overrun]:
    """Find what took longer than stated, by more than a simulation may be off by.

    An unload is measured by the load that it makes room for, which waits for it: most scenarios
    state none, and a share of nothing is nothing.
    """
    for tag, use in models.items():
        for act in ACTS:
            time = use.stated_times.get(act)
            if time is None:
                continue
            whole_ns = time.stated_ns
            if act == "unload" and (load := use.stated_times.get("load")) is not None:
                whole_ns += load.stated_ns
            if time.taken_ns - time.stated_ns > max(_OVER_NS, whole_ns * _OVER_SHARE):
                yield Overrun(tag, act, time)
