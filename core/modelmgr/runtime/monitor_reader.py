"""Any object with ``get_stats()`` as a reader of one device: Apache Beam's monitors, and fakes."""

from __future__ import annotations

import math
import time
from typing import Protocol, runtime_checkable

from modelmgr.devices.reading import MemoryReading
from modelmgr.errors import ReadingError
from modelmgr.records.devices import DeviceDescription
from modelmgr.units import MIB, NS_PER_S


@runtime_checkable
class Monitor(Protocol):
    """What a manager needs of a monitor; ``refresh``, ``start``, ``stop`` are used if present."""

    def get_stats(self) -> tuple[float, float, float]:
        """Return current, peak and total use in MB."""
        ...


class MonitorReader:
    """Reads one device through a monitor.

    A monitor without ``refresh`` polls in its own time, so its figure may be ``poll_interval_s``
    old and is dated back by that much. Making one asks the monitor nothing: only who reads in a
    bounded time does.
    """

    def __init__(self, monitor: Monitor, *, slack: float, poll_interval_s: float) -> None:
        self._monitor = monitor
        self._poll_interval_ns = round(poll_interval_s * NS_PER_S)
        self._total_bytes = 0
        self._slack = slack

    @property
    def description(self) -> DeviceDescription:
        """The device as far as the monitor tells; a total of 0 before the first good reading."""
        return DeviceDescription(
            name="device", kind="cuda", total_bytes=self._total_bytes, slack=self._slack
        )

    @property
    def polls_itself(self) -> bool:
        """Whether its figures are as old as it likes: it cannot be asked for a fresh one."""
        return not callable(getattr(self._monitor, "refresh", None))

    def start(self) -> None:
        """Start the monitor where it can be started."""
        self._call("start")

    def read(self) -> MemoryReading:
        """Ask the monitor; ReadingError where it raises or its figures cannot be true."""
        at_ns = time.monotonic_ns()
        if not self._call("refresh"):
            at_ns -= self._poll_interval_ns
        try:
            current_mb, _, total_mb = (float(figure) for figure in self._monitor.get_stats())
        except Exception as error:
            raise ReadingError(f"the monitor failed: {type(error).__name__}: {error}") from error
        if bool(getattr(self._monitor, "failing", False)):
            reason = getattr(self._monitor, "last_error", None)
            raise ReadingError(f"the monitor's last reading failed: {reason}")
        if not all(math.isfinite(figure) for figure in (current_mb, total_mb)):
            raise ReadingError(f"the monitor says {current_mb} of {total_mb} MB")
        if total_mb <= 0 or not 0 <= current_mb <= total_mb:
            raise ReadingError(f"the monitor says {current_mb} of {total_mb} MB")
        self._total_bytes = round(total_mb * MIB)
        return MemoryReading(
            at_ns=at_ns, used_bytes=round(current_mb * MIB), total_bytes=self._total_bytes
        )

    def track(self, pid: int) -> None:
        """Do nothing: a monitor knows no processes."""

    def untrack(self, pid: int) -> None:
        """Do nothing: a monitor knows no processes."""

    def close(self) -> None:
        """Stop the monitor where it can be stopped."""
        self._call("stop")

    def _call(self, name: str) -> bool:
        method = getattr(self._monitor, name, None)
        if not callable(method):
            return False
        try:
            method()
        except Exception as error:
            raise ReadingError(f"the monitor's {name} failed: {error}") from error
        return True
