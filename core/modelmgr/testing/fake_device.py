"""A device without hardware, for tests: models that say what they take, and faults on demand."""

from __future__ import annotations

import threading
from typing import Self

from modelmgr.errors import OutOfMemoryError
from modelmgr.units import MIB, format_bytes


class FakeDevice:
    """A device whose memory is a number; give it to ``ModelManager(monitor=...)``.

    Args:
        total_mb: its size, MB.
        foreign_mb: what others use, MB; set it at any time.
    """

    def __init__(self, total_mb: float = 10_000.0, foreign_mb: float = 0.0) -> None:
        self.total_mb = total_mb
        self.foreign_mb = foreign_mb
        self.highest_mb = 0.0
        self.loads = 0
        self._failures: list[BaseException | tuple[float, float, float]] = []
        self._used_mb = 0.0
        self._peak_mb = 0.0
        self._lock = threading.Lock()

    def take(self, size_mb: float) -> None:
        """Allocate; raise OutOfMemoryError, and take nothing, beyond the total."""
        with self._lock:
            used_mb = self._used_mb + size_mb
            if used_mb + self.foreign_mb > self.total_mb:
                raise OutOfMemoryError(
                    f"{format_bytes(round(size_mb * MIB))} more than the fake device has"
                )
            self._used_mb = used_mb
            self._peak_mb = max(self._peak_mb, used_mb + self.foreign_mb)
            self.highest_mb = max(self.highest_mb, self._peak_mb)

    def give_back(self, size_mb: float) -> None:
        """Free."""
        with self._lock:
            self._used_mb -= size_mb

    def fail_next(self, *answers: BaseException | tuple[float, float, float]) -> None:
        """Let the next readings raise these errors, or say these figures."""
        with self._lock:
            self._failures.extend(answers)

    def answer_truly(self) -> None:
        """Forget the failures that were asked for and not yet given."""
        with self._lock:
            self._failures.clear()

    def get_stats(self) -> tuple[float, float, float]:
        """Return current, peak and total use, MB; fail where that was asked for."""
        with self._lock:
            if self._failures:
                answer = self._failures.pop(0)
                if isinstance(answer, BaseException):
                    raise answer
                return answer
            return self._used_mb + self.foreign_mb, self._peak_mb, self.total_mb

    def refresh(self) -> None:
        """Do nothing: every figure is fresh."""

    def reset_peak(self) -> None:
        """Start the peak at the current use."""
        with self._lock:
            self._peak_mb = self._used_mb + self.foreign_mb


class FakeModel:
    """A model of a stated size on a ``FakeDevice``; taking room to run is ``infer``'s.

    Args:
        device: where its memory comes from.
        resident_mb: what it takes while it is loaded.
        running_mb: what ``infer`` takes on top while it runs.
    """

    def __init__(self, device: FakeDevice, resident_mb: float, running_mb: float = 0.0) -> None:
        self.device = device
        self.resident_mb = resident_mb
        self.running_mb = running_mb
        self.closed = False
        device.take(resident_mb)
        device.loads += 1

    def infer(self, batch: object) -> object:
        """Take the room to run, give it back, return the batch."""
        self.device.take(self.running_mb)
        self.device.give_back(self.running_mb)
        return batch

    def close(self) -> None:
        """Give the memory back, once."""
        if not self.closed:
            self.closed = True
            self.device.give_back(self.resident_mb)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
