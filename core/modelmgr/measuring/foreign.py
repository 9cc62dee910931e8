"""Whether something else moved the device's memory while a model was measured.

On an accelerator: the device's use less that of our processes. On the host, whose reader sees our
workers only: what the whole machine has in use (all less what is available) less what our workers
grew by. The host figures of a worker are its own and no neighbour changes them;
what a busy neighbour does change is latency and how much there is to have.
"""

from __future__ import annotations

from collections.abc import Mapping

from modelmgr.devices.reading import MemoryReading
from modelmgr.records.devices import DeviceDescription
from modelmgr.units import MIB, format_bytes

_HOST_THRESHOLD_BYTES = 128 * MIB  # below it, an ordinary desktop's own breathing
_HOST_THRESHOLD_SHARE = 0.01
_DEVICE_THRESHOLD_BYTES = 32 * MIB  # a bare CUDA context takes more than that


def foreign_machine_bytes(*, total_bytes: int, available_bytes: int, our_growth_bytes: int) -> int:
    """Return what everybody but our workers has in use on this machine, bytes.

    Args:
        total_bytes: the machine's memory.
        available_bytes: what could be allocated now.
        our_growth_bytes: what our workers' anonymous memory grew by since each was started (what
            they began with is shared with the process that they were forked from).
    """
    return total_bytes - available_bytes - our_growth_bytes


def foreign_threshold_bytes(device: DeviceDescription) -> int:
    """Return from which movement on foreign load is worth a word, bytes."""
    if device.kind == "host":
        return max(_HOST_THRESHOLD_BYTES, round(device.total_bytes * _HOST_THRESHOLD_SHARE))
    return _DEVICE_THRESHOLD_BYTES


def foreign_device_bytes(reading: MemoryReading, ours: Mapping[int, int]) -> int | None:
    """Return what others use of an accelerator, bytes.

    Args:
        reading: of the device.
        ours: what each of our processes uses; empty where none is there.

    Returns:
        None where the device does not tell processes apart and ours are on it: then a foreign
        movement cannot be told from our own.
    """
    if reading.processes is None:
        return None if ours else reading.used_bytes
    return reading.used_bytes - sum(reading.processes.get(pid, 0) for pid in ours)


class ForeignLoad:
    """The movement of foreign memory since a baseline. Plain arithmetic; not thread-safe."""

    def __init__(self, threshold_bytes: int) -> None:
        """Take from which movement on it counts, bytes."""
        self.threshold_bytes = threshold_bytes
        self._baseline: int | None = None
        self._low = 0
        self._high = 0

    def start(self, foreign_bytes: int | None) -> None:
        """Begin a measurement from what others use now; None: it cannot be told."""
        self._baseline = foreign_bytes
        self._low = self._high = foreign_bytes or 0

    def observe(self, foreign_bytes: int | None) -> None:
        """Take what others use now into account."""
        if foreign_bytes is None:
            return
        if self._baseline is None:
            self.start(foreign_bytes)
        self._low = min(self._low, foreign_bytes)
        self._high = max(self._high, foreign_bytes)

    @property
    def moved_bytes(self) -> int:
        """The largest movement away from the baseline; its sign says whether it grew."""
        if self._baseline is None:
            return 0
        up, down = self._high - self._baseline, self._baseline - self._low
        return up if up >= down else -down

    def is_disturbed(self) -> bool:
        """Whether it moved beyond the threshold."""
        return abs(self.moved_bytes) > self.threshold_bytes


def describe_foreign(moved_bytes: int, device: str) -> str:
    """Say to a person what others did."""
    verb = "took" if moved_bytes > 0 else "gave back"
    return (
        f"something else {verb} {format_bytes(abs(moved_bytes))} of {device}'s memory "
        "during the measurement"
    )
