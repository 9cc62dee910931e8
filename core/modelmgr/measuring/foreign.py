"""Whether something else moved the device's memory while a model was measured.

On an accelerator: the device's use less that of our processes. On the host, whose reader sees our
workers only: what the whole machine has in use (all less what is available) less what our workers
grew by. The host figures of a worker are its own and no neighbour changes them; what a busy
neighbour does change is latency and how much there is to have: only a large move is worth a word.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from modelmgr.devices.reading import MemoryReading
from modelmgr.records.devices import DeviceDescription
from modelmgr.units import MIB, format_bytes

_HOST_THRESHOLD_SHARE = 0.05  # of the machine; below it, an ordinary desktop's own breathing
_BUDGET_THRESHOLD_BYTES = 128 * MIB  # of the budget, once there is no more than it to have
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


def foreign_threshold_bytes(device: DeviceDescription, *, machine_bytes: int) -> int:
    """Return from which movement on foreign load is worth a word, bytes.

    Args:
        device: what is measured on.
        machine_bytes: the machine's memory, which is what moves where the device is the host.
    """
    if device.kind == "host":
        return round(machine_bytes * _HOST_THRESHOLD_SHARE)
    return _DEVICE_THRESHOLD_BYTES


def budget_threshold_bytes() -> int:
    """Return from which movement on others' part of a host's budget is worth a word, bytes."""
    return _BUDGET_THRESHOLD_BYTES


def foreign_device_bytes(reading: MemoryReading, ours: Collection[int]) -> int | None:
    """Return what others use of an accelerator, bytes.

    Args:
        reading: of the device.
        ours: the process ids of our workers.

    Returns:
        None where the device does not tell ours apart: then a foreign movement cannot be told from
        our own. That is so for a worker with no device context yet, too.
    """
    if not ours:
        return reading.used_bytes
    if reading.processes is None or any(pid not in reading.processes for pid in ours):
        return None
    return reading.used_bytes - sum(reading.processes[pid] for pid in ours)


class ForeignLoad:
    """The movement of foreign memory since a baseline. Plain arithmetic; not thread-safe.

    A device's use and its processes are two queries, and a batch of ours may begin between them:
    one figure out of line is ours, not others'. So the middle one of three counts.
    """

    def __init__(self, threshold_bytes: int) -> None:
        """Take from which movement on it counts, bytes."""
        self.threshold_bytes = threshold_bytes
        self._baseline: int | None = None
        self._low = 0
        self._high = 0
        self._recent: deque[int] = deque(maxlen=3)

    def start(self, foreign_bytes: int | None) -> None:
        """Begin a measurement from what others use now; None: it cannot be told."""
        self._baseline = foreign_bytes
        self._low = self._high = foreign_bytes or 0
        self._recent.clear()

    def observe(self, foreign_bytes: int | None, *, settled: bool = False) -> None:
        """Take what others use now into account.

        Args:
            foreign_bytes: None where it cannot be told.
            settled: nothing of ours is running, so that the figure counts by itself.
        """
        if foreign_bytes is None:
            return
        if self._baseline is None:
            self.start(foreign_bytes)
        self._recent.append(foreign_bytes)
        if settled:
            self._take(foreign_bytes)
        elif len(self._recent) == self._recent.maxlen:
            self._take(sorted(self._recent)[1])

    def _take(self, foreign_bytes: int) -> None:
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
