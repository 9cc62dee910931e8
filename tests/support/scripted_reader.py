"""A reader that answers what a test wrote down, one answer a read; the last one stays."""

from __future__ import annotations

import threading
import time

from modelmgr.devices.reading import MemoryReading
from modelmgr.records.devices import DeviceDescription
from modelmgr.units import GIB

DEVICE = DeviceDescription(name="scripted", kind="fixed", total_bytes=8 * GIB)


class ScriptedReader:
    """Answers with the bytes used, or raises, in the order given.

    ``read_times`` counts the reads; ``wait_for`` waits until so many have begun.
    """

    def __init__(self, *answers: int | Exception) -> None:
        self._answers = list(answers)
        self._counted = threading.Condition()
        self.read_times = 0
        self.closed = False
        self.tracked: list[int] = []

    @property
    def description(self) -> DeviceDescription:
        return DEVICE

    def script(self, *answers: int | Exception) -> None:
        """Replace the answers that are left."""
        self._answers = list(answers)

    def wait_for(self, read_times: int) -> None:
        with self._counted:
            assert self._counted.wait_for(lambda: self.read_times >= read_times, timeout=60)

    def read(self) -> MemoryReading:
        with self._counted:
            answer = self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)
            self.read_times += 1
            self._counted.notify_all()
        if isinstance(answer, Exception):
            raise answer
        return MemoryReading(
            at_ns=time.monotonic_ns(), used_bytes=answer, total_bytes=DEVICE.total_bytes
        )

    def track(self, pid: int) -> None:
        self.tracked.append(pid)

    def untrack(self, pid: int) -> None:
        self.tracked.remove(pid)

    def close(self) -> None:
        self.closed = True
