"""When faults come, and which of them lie in wait for the next load or unload.

Times and choices come from a stream of each fault's own, so that adding one moves no other. What a
fault does to the world is ``simulation.striking``'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeVar

from modelmgr.units import NS_PER_S
from modelmgr.workload.scenario import Fault, FaultKind
from modelmgr.workload.streams import open_stream

OUT_OF_MEMORY: Final = "OutOfMemoryError: the device has no room left"

# How long a fault lasts that does not say so; one that is not listed hits once, or for ever.
_USUAL_NS: dict[FaultKind, int] = {
    "load-hangs": 60 * NS_PER_S,
    "late-free": 3 * NS_PER_S,
    "reading-failed": 10 * NS_PER_S,
    "reading-wrong": 10 * NS_PER_S,
}
_ON_LOADS: frozenset[FaultKind] = frozenset({"load-failed", "load-hangs", "out-of-memory"})
# Faults whose duration is a property of what they hit, not a window in which they hit.
_HITS_ONCE: frozenset[FaultKind] = frozenset({"load-hangs", "late-free", "out-of-memory"})

T = TypeVar("T")


class ArmedFaults:
    """A scenario's faults, by their number in it.

    Attributes:
        faults: as the scenario has them.
    """

    def __init__(self, faults: Sequence[Fault], seed: int) -> None:
        self.faults = tuple(faults)
        self._draws = [open_stream(seed, "fault", number) for number in range(len(faults))]
        # Those in wait, and until when each hits everything; None for what hits once.
        self._waiting: list[tuple[Fault, int | None]] = []

    def first_ns(self, number: int) -> int | None:
        """Return when a fault comes first, None for never."""
        fault = self.faults[number]
        return fault.at_ns if fault.rate_per_s is None else self.next_ns(number, fault.at_ns or 0)

    def next_ns(self, number: int, now_ns: int) -> int | None:
        """Return when a fault that came now comes again, None for never."""
        fault = self.faults[number]
        if not fault.rate_per_s:
            return None
        interval_ns = -math.log(1.0 - self._draws[number]()) * NS_PER_S / fault.rate_per_s
        at_ns = now_ns + max(1, round(interval_ns))
        return None if fault.until_ns is not None and at_ns >= fault.until_ns else at_ns

    def pick(self, number: int, candidates: Sequence[T]) -> T | None:
        """Return one of the candidates, each equally likely; None of none."""
        if not candidates:
            return None
        return candidates[int(self._draws[number]() * len(candidates))]

    def lie_in_wait(self, fault: Fault, now_ns: int) -> None:
        """Let a fault hit the next load or unload, or all of them for as long as it lasts."""
        until_ns = None
        if fault.duration_ns is not None and fault.kind not in _HITS_ONCE:
            until_ns = now_ns + fault.duration_ns
        self._waiting.append((fault, until_ns))

    def on_load(self, tag: str, device: str, takes_ns: int, now_ns: int) -> tuple[int, str | None]:
        """Return how long a load takes after all, and why it fails (None where it does not)."""
        fault = self._take(_ON_LOADS, tag, device, now_ns) if self._waiting else None
        if fault is None:
            return takes_ns, None
        if fault.kind == "load-hangs":
            return takes_ns + lasting_ns(fault), None
        return takes_ns, message_of(fault)

    def on_unload(self, tag: str, device: str, now_ns: int) -> int:
        """Return how much later than its unload a copy's memory comes back, 0 for at once."""
        if not self._waiting:
            return 0
        fault = self._take(frozenset({"late-free"}), tag, device, now_ns)
        return 0 if fault is None else lasting_ns(fault)

    def _take(
        self, kinds: frozenset[FaultKind], tag: str, device: str, now_ns: int
    ) -> Fault | None:
        self._waiting = [
            (fault, until_ns)
            for fault, until_ns in self._waiting
            if until_ns is None or now_ns < until_ns
        ]
        for place, (fault, until_ns) in enumerate(self._waiting):
            if fault.kind in kinds and concerns(fault, tag, device):
                if until_ns is None:
                    del self._waiting[place]
                return fault
        return None


def concerns(fault: Fault, tag: str | None, device: str) -> bool:
    """Say whether a fault is meant for a model (None: whatever model) on a device."""
    return (fault.model is None or tag is None or fault.model == tag) and (
        fault.device is None or fault.device == device
    )


def lasting_ns(fault: Fault) -> int:
    """Return how long a fault lasts, 0 for one that needs no time or lasts for ever."""
    return _USUAL_NS.get(fault.kind, 0) if fault.duration_ns is None else fault.duration_ns


def message_of(fault: Fault) -> str:
    """Return what a load says that a fault made fail."""
    return OUT_OF_MEMORY if fault.kind == "out-of-memory" else "ModelLoadError: a fault of the run"
