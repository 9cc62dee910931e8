"""The truth about a virtual device's memory: what is in use, at most, and on average.

It knows what the scheduler can only believe. Copies take bytes from it and give them back; what
does not fit into the device's whole memory is refused, as an allocator refuses it, and that is an
out-of-memory event, whatever limit the scheduler keeps to. Faults put foreign memory on it and
spoil its readings. It decides nothing and draws nothing.
"""

from __future__ import annotations


class VirtualDevice:
    """One device's true memory.

    Args:
        index: the scheduler's number of it.
        name: unique.
        total_bytes: all of its memory.
        limit_bytes: what the scheduler may use.

    Attributes:
        used_bytes: in use now, by anybody; never more than ``total_bytes``.
        peak_bytes: the most that ever was.
        wrong_bytes: what readings are off by.
        failing: why readings fail, None where they do not.
        failing_until_ns: until when that lasts.
        lost: it is gone: readings and loads fail.
        oom_events: how often something did not fit.
        untrusted: copies on it that may take more than the scheduler believes.
    """

    __slots__ = (
        "_byte_ns",
        "_since_ns",
        "failing",
        "failing_until_ns",
        "index",
        "limit_bytes",
        "lost",
        "name",
        "oom_events",
        "peak_bytes",
        "total_bytes",
        "untrusted",
        "used_bytes",
        "wrong_bytes",
    )

    def __init__(self, index: int, name: str, total_bytes: int, limit_bytes: int) -> None:
        self.index = index
        self.name = name
        self.total_bytes = total_bytes
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.peak_bytes = 0
        self.oom_events = 0
        self.untrusted = 0
        self.wrong_bytes = 0
        self.failing: str | None = None
        self.failing_until_ns = 0
        self.lost = False
        self._byte_ns = 0
        self._since_ns = 0

    def take(self, size_bytes: int, now_ns: int) -> bool:
        """Allocate; False, and nothing is taken, where it does not fit into the device."""
        used = self.used_bytes
        after = used + size_bytes
        if after > self.total_bytes:
            self.oom_events += 1
            return False
        self._byte_ns += used * (now_ns - self._since_ns)
        self._since_ns = now_ns
        self.used_bytes = after
        if after > self.peak_bytes:  # noqa: PLR1730 - on the way of every request
            self.peak_bytes = after
        return True

    def give_back(self, size_bytes: int, now_ns: int) -> None:
        """Free what was taken."""
        used = self.used_bytes
        self._byte_ns += used * (now_ns - self._since_ns)
        self._since_ns = now_ns
        self.used_bytes = used - size_bytes

    def mean_bytes(self, now_ns: int) -> int:
        """Return the mean use over the time from 0 until now."""
        if now_ns <= 0:
            return self.used_bytes
        return (self._byte_ns + self.used_bytes * (now_ns - self._since_ns)) // now_ns

    @property
    def shown_bytes(self) -> int:
        """What a reading shows: the use, off by what a fault makes of it."""
        return max(0, self.used_bytes + self.wrong_bytes)
