"""A device of a stated size that is never read: what it says is used is what it was told.

For machines with no readable device, and for trying things out. It measures nothing, so nothing
that it says may be taken as evidence of a real device's memory.
"""

from __future__ import annotations

import time

from modelmgr.devices.reading import MemoryReading
from modelmgr.errors import UsageError
from modelmgr.records.devices import DeviceDescription


class FixedReader:
    """Answers with a stated figure.

    Attributes:
        used_bytes: what the next readings say is used; may be set at any time, by any thread.
    """

    def __init__(self, description: DeviceDescription, used_bytes: int = 0) -> None:
        """Raise UsageError where ``used_bytes`` is negative."""
        self._description = description
        self.used_bytes = used_bytes

    @property
    def description(self) -> DeviceDescription:
        """The device as it was stated."""
        return self._description

    @property
    def used_bytes(self) -> int:
        """What the device is said to use, bytes."""
        return self._used_bytes

    @used_bytes.setter
    def used_bytes(self, value: int) -> None:
        if value < 0:
            raise UsageError(f"device {self._description.name!r}: used_bytes is negative: {value}")
        self._used_bytes = value

    def read(self) -> MemoryReading:
        """Return the stated figures; never fails."""
        return MemoryReading(
            at_ns=time.monotonic_ns(),
            used_bytes=self._used_bytes,
            total_bytes=self._description.total_bytes,
        )

    def track(self, pid: int) -> None:
        """Do nothing: a stated figure has no processes."""

    def untrack(self, pid: int) -> None:
        """Do nothing: a stated figure has no processes."""

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""
