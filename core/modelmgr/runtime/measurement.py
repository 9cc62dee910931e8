"""What a manager measures of an unknown model's first job, alone or beside the residents.

A copy in a process of its own is asked for its own memory. For one that was loaded into this
process only the device's aggregate readings exist: the reading before the load is the baseline, the
reading after it gives the resident bytes, the peak while the job ran gives the peak. Deltas stay
deltas: what was on the device before is never part of the figure. Where a reading fails, nothing is
concluded.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any

from modelmgr.devices.reading import MemoryReader
from modelmgr.devices.sampler import PeakSampler
from modelmgr.errors import DeviceError, ModelmgrError
from modelmgr.units import MIB, NS_PER_S

# A reading takes 0.1 ms (NVML with its processes) to 0.3 ms (/proc): a hundredth of a core.
_INTERVAL_NS = 20_000_000
# A model that showed nothing at all is below what readings resolve (nvidia-smi: 1 MiB): not zero.
_LEAST_BYTES = MIB


@dataclass(frozen=True, slots=True)
class MeasuredCosts:
    """What one copy was seen to take."""

    resident_bytes: int
    peak_bytes: int


class JobMeasurement:
    """Watches a device from before a load until the first job's end."""

    def __init__(self, reader: MemoryReader, *, patience_s: float) -> None:
        self._reader = reader
        self._patience_ns = round(patience_s * NS_PER_S)
        self._after: int | None = None
        self._peak = 0
        self._sampler: PeakSampler | None = None
        self._before = self._read_since(time.monotonic_ns())
        self._failed = self._before is None

    def loaded(self) -> None:
        """Note that the load ended; from now on the peak is the job's.

        Waits, within the patience, for a reading that was begun after the load: one of a monitor
        that polls in its own time may be older.
        """
        self._after = self._read_since(time.monotonic_ns())
        self._failed = self._failed or self._after is None
        if not self._failed:
            self._sampler = PeakSampler(self._reader, interval_ns=_INTERVAL_NS)
            self._sampler.start()

    def finish(self) -> MeasuredCosts | None:
        """Return what the copy took, None where a reading failed or nothing could be seen."""
        if self._sampler is not None:
            self._sampler.stop()
        last = self._read_since(time.monotonic_ns())
        if self._failed or last is None or self._before is None or self._after is None:
            return None
        resident = self._after - self._before
        if resident < 0:
            return None  # something else gave memory back meanwhile: the difference says nothing
        sampled = None if self._sampler is None else self._sampler.result.peak_bytes
        self._peak = max(self._after, last, sampled or 0)
        peak = self._peak - self._before
        if peak <= 0 and getattr(self._reader, "polls_itself", False):
            return None  # a monitor that has not polled since shows nothing either
        return MeasuredCosts(resident, max(peak, resident, _LEAST_BYTES))

    def finish_running(self) -> int | None:
        """Return what running took on top of what was there before, None where it is not known."""
        figures = self.finish()
        if figures is None or self._before is None:
            return None
        return max(0, self._peak - self._before)

    def cancel(self) -> None:
        """End without a result, waiting for nothing."""
        if self._sampler is not None:
            self._sampler.cancel()

    def _read_since(self, since_ns: int) -> int | None:
        while True:
            # One failed reading is no reason to know nothing: the next may be good.
            with contextlib.suppress(DeviceError):
                reading = self._reader.read()
                if reading.at_ns >= since_ns:
                    return reading.used_bytes
            if time.monotonic_ns() - since_ns > self._patience_ns:
                return None
            time.sleep(_INTERVAL_NS / NS_PER_S)


def own_costs(instance: Any) -> MeasuredCosts | None:  # noqa: ANN401 - any object
    """Return what a copy in a process of its own says it takes of host memory, None if it cannot.

    ``instance.memory()`` gives ``resident_bytes`` and ``peak_bytes`` (the kernel's own peak).
    """
    memory = getattr(instance, "memory", None)
    if not callable(memory):
        return None
    try:
        figures: Any = memory()
        resident, peak = int(figures.resident_bytes), int(figures.peak_bytes)
    except (ModelmgrError, AttributeError, TypeError, ValueError, OSError):
        return None
    if peak <= 0:
        return None
    return MeasuredCosts(min(resident, peak), peak)
