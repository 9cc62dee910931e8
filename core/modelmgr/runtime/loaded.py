"""What the threaded driver keeps of one loaded copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelmgr.runtime.counters import ModelCounts
from modelmgr.runtime.lease import Lease
from modelmgr.runtime.measurement import JobMeasurement


@dataclass(slots=True)
class Loaded:
    """One loaded copy: the instance, and what has to be known to release and to unload it.

    Attributes:
        instance: what the loader returned; None once it was unloaded.
        tag: the model.
        device: the device's number.
        own_process: the instance lives in a process of its own.
        pid: that process, None where there is none.
        first_job: it was isolated, and its first job has not ended: there is something to learn.
        tells_itself: its process can say what the copy takes of this device.
        measurement: watches the device until the first job ends, where the copy cannot tell.
        resident_bytes: what it was seen to take at rest, from the device's readings.
        measure_again: how many of its later jobs are to be watched as well.
        activity: the device's activity count when the watched job began.
        oom_kills: the kernel's count of out-of-memory kills when it was loaded, where it lives in a
            process of its own.
        counts: of its model's, where hits are counted.
        peak_due_ns: when one of its jobs is to be measured by its process's own peak.
        peak_restarted: that peak is the running job's.
        lease: the lease in force, None while it is idle.
    """

    instance: Any
    tag: str
    device: int
    own_process: bool
    pid: int | None
    counts: ModelCounts
    first_job: bool = False
    tells_itself: bool = False
    measurement: JobMeasurement | None = None
    resident_bytes: int | None = None
    measure_again: int = 0
    activity: int = 0
    oom_kills: int | None = None
    peak_due_ns: int = 0
    peak_restarted: bool = False
    lease: Lease | None = None
