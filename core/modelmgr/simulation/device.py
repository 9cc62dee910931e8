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
        running_bytes: of it, what jobs added that run now.
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
        "running_bytes",
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
        self.running_bytes = 0
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
        self._let_pass(now_ns)
        self.used_bytes = after
        self.peak_bytes = max(self.peak_bytes, after)
        return True

    def give_back(self, size_bytes: int, now_ns: int) -> None:
        """Free what was taken."""
        self._let_pass(now_ns)
        self.used_bytes -= size_bytes

    def run(self, size_bytes: int) -> bool:
        """Allocate for a job; False where it does not fit. How long it runs, ``ran`` is told."""
        after = self.used_bytes + size_bytes
        if after > self.total_bytes:
            self.oom_events += 1
            return False
        self.used_bytes = after
        self.running_bytes += size_bytes
        if after > self.peak_bytes:  # noqa: PLR1730 - on the way of every request
            self.peak_bytes = after
        return True

    def stop(self, size_bytes: int) -> None:
        """Free what a job took."""
        self.used_bytes -= size_bytes
        self.running_bytes -= size_bytes

    def ran(self, size_bytes: int, busy_ns: int) -> None:
        """Take into the mean what jobs took, and for how long all of them together."""
        self._byte_ns += size_bytes * busy_ns

    def mean_bytes(self, now_ns: int) -> int:
        """Return the mean use over the time from 0 until now, when no job runs any more."""
        if now_ns <= 0:
            return self.used_bytes
        self._let_pass(now_ns)
        return self._byte_ns // now_ns

    def _let_pass(self, now_ns: int) -> None:
        lasting_bytes = self.used_bytes - self.running_bytes
        self._byte_ns += lasting_bytes * (now_ns - self._since_ns)
        self._since_ns = now_ns

    @property
    def shown_bytes(self) -> int:
        """What a reading shows: the use, off by what a fault makes of it."""
        return max(0, self.used_bytes + self.wrong_bytes)
