"""What a memory reading is, and what every reader of a device can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from modelmgr.records.devices import DeviceDescription


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """One good reading of a device's memory. A failed one is an exception, never a number.

    Attributes:
        at_ns: ``time.monotonic_ns()`` when the query *began*: what finished before it is in it.
        used_bytes: all memory in use on the device, whoever uses it.
        total_bytes: the device's size, the host's budget.
        processes: bytes by process id where the platform tells, None where it does not.
    """

    at_ns: int
    used_bytes: int
    total_bytes: int
    processes: Mapping[int, int] | None = None


class MemoryReader(Protocol):
    """Reads one device's memory. Thread-safe; never caches; keeps no thread of its own."""

    @property
    def description(self) -> DeviceDescription:
        """The device that is read."""
        ...

    def read(self) -> MemoryReading:
        """Query the device now; raise ReadingError or DeviceLostError when that fails."""
        ...

    def track(self, pid: int) -> None:
        """Count a worker process of ours in (host); tell its share apart (NVML)."""
        ...

    def untrack(self, pid: int) -> None:
        """Forget a worker process that is gone; unknown ids are ignored."""
        ...

    def close(self) -> None:
        """Give back what the reader holds; a second call does nothing."""
        ...
