"""How much a stand-in has to allocate so that its process takes what the scenario states.

A process takes memory itself: an interpreter on the host, a context on a GPU. One stand-in of
nothing is started on each device and looked at; what it takes is part of every stated size.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelmgr.devices.reading import MemoryReader
from modelmgr.errors import UsageError
from modelmgr.runtime.scenario_run import stand_in
from modelmgr.runtime.scenario_run.copies import stand_in_spec
from modelmgr.runtime.scenario_run.devices import RunDevice
from modelmgr.runtime.scenario_run.models import StandInSizes
from modelmgr.units import MIB, format_bytes
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workers.placement import place
from modelmgr.workers.worker import Worker
from modelmgr.workload.scenario import ScenarioModel

# Buffers of the worker's pipe and of Python move by less from job to job. A stand-in that is this
# much smaller than stated is never seen to be larger.
_MARGIN_BYTES = MIB


def measure_process_bytes(launcher: WorkerLauncher, device: RunDevice) -> int:
    """Return what the process of a stand-in of nothing takes of a device.

    Raises:
        WorkerError: it cannot be started there.
        DeviceError: the device cannot be read.
    """
    reader = device.reader
    before_bytes = reader.read().used_bytes
    placement = place(device.description)
    spec = stand_in_spec("stand-in", placement, resident_bytes=0, extra_bytes=0)
    with launcher.start(spec, device=placement.device, env=placement.env) as worker:
        worker.load(timeout_s=None)
        worker.infer({stand_in.EXTRA: 1})
        worker.infer({stand_in.EXTRA: 0})
        process_bytes = _own_bytes(reader, worker, before_bytes)
        reader.untrack(worker.pid)
    return process_bytes + _MARGIN_BYTES


def _own_bytes(reader: MemoryReader, worker: Worker, before_bytes: int) -> int:
    if reader.description.kind != "cuda":
        return worker.memory().resident_bytes
    reader.track(worker.pid)
    reading = reader.read()
    own_bytes = (reading.processes or {}).get(worker.pid)
    return max(0, reading.used_bytes - before_bytes) if own_bytes is None else own_bytes


def stand_in_sizes(model: ScenarioModel, process_bytes: int) -> StandInSizes:
    """Return what the stand-in of a model allocates.

    Raises:
        UsageError: the model is stated to take less than the process alone.
    """
    cost = model.cost
    if cost is None:
        raise UsageError(f"model {model.tag!r} has neither a loader nor a cost")
    resident_bytes = cost.resident_bytes - process_bytes
    if resident_bytes < 0:
        raise UsageError(
            f"model {model.tag!r} is stated to take {format_bytes(cost.resident_bytes)}, and the "
            f"process of its stand-in alone takes {format_bytes(process_bytes)}\n"
            "state larger sizes (or a larger --memory-scale), or simulate the scenario"
        )
    return StandInSizes(
        process_bytes=process_bytes,
        resident_bytes=resident_bytes,
        loading_bytes=max(cost.resident_bytes, cost.load_peak_bytes or 0) - process_bytes,
        running_bytes=max(0, cost.peak_bytes - cost.resident_bytes),
    )


def check_stand_ins(models: Sequence[ScenarioModel], least_bytes: int = 16 * MIB) -> None:
    """Refuse, before anything starts, stand-ins that are smaller than any process.

    Raises:
        UsageError: names the first one.
    """
    for model in models:
        if (
            model.spec is None
            and model.cost is not None
            and model.cost.resident_bytes < least_bytes
        ):
            stand_in_sizes(model, least_bytes)
