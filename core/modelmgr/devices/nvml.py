"""NVML: the devices that the NVIDIA driver knows and their memory. The sole importer of pynvml.

Every query goes through ``_Session.call``, which turns an NVML error into an ``NvmlFailure`` that
``nvml_errors`` gives a meaning. Owns the library's start and end: it is initialised at the first
query, again after the driver went away and after a fork, and shut down when the last reader is
closed. It decides nothing about memory.

Reference: NVML API Reference Guide.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import Any

from modelmgr.devices.device_processes import ListedProcess, merge_processes
from modelmgr.devices.host_available import AvailableMemory, total_host_bytes
from modelmgr.devices.nvml_errors import (
    DEVICE_GONE,
    DRIVER_GONE,
    FUNCTION_NOT_FOUND,
    NO_DRIVER,
    NO_PERMISSION,
    NOT_FOUND,
    NOT_TOLD,
    NvmlFailure,
)
from modelmgr.devices.reading import MemoryReading
from modelmgr.devices.visible import FoundGpu, FoundInstance, VisibleDevice, select_visible
from modelmgr.errors import ReadingError, UsageError
from modelmgr.records.devices import DeviceDescription


@dataclass(frozen=True, slots=True)
class NvmlStatus:
    """Whether NVML can be used here.

    Attributes:
        available: the library is there and the driver answers.
        reason: why it is not, None where it is.
        driver_version: None where it is not told.
        problems: one line for each GPU that is there and cannot be used.
    """

    available: bool
    reason: str | None = None
    driver_version: str | None = None
    problems: tuple[str, ...] = ()


class _Session:
    """NVML in this process: initialised on demand, counted by its users. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._users = 0
        self._initialised = False
        self._generation = 0

    def acquire(self) -> None:
        """Count one more user; initialises nothing yet."""
        self._renew_after_fork()
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """Count one user less; shut NVML down after the last."""
        self._renew_after_fork()
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._shut_down()

    def generation(self) -> int:
        """Return the number of the initialisation in force; handles of earlier ones are stale."""
        return self._ready()[1]

    def call(self, query: str, *arguments: object) -> Any:  # noqa: ANN401 - pynvml is untyped
        """Run one query of pynvml, by name; raise NvmlFailure where NVML says no.

        A driver that went away is let go, so that the next call finds one that came back.
        """
        pynvml, generation = self._ready()
        try:
            return getattr(pynvml, query)(*arguments)
        except pynvml.NVMLError as error:
            if error.value in DRIVER_GONE:
                self._drop(generation)
            raise NvmlFailure(query, error.value, str(error)) from error

    def _ready(self) -> tuple[Any, int]:
        pynvml = _import_pynvml()
        self._renew_after_fork()
        with self._lock:
            if not self._initialised:
                try:
                    pynvml.nvmlInit()
                except pynvml.NVMLError as error:
                    raise NvmlFailure("nvmlInit", error.value, str(error)) from error
                self._initialised = True
                self._generation += 1
            return pynvml, self._generation

    def _drop(self, generation: int) -> None:
        """Forget an initialisation, unless another thread made a new one already."""
        with self._lock:
            if self._initialised and self._generation == generation:
                self._shut_down()

    def _shut_down(self) -> None:
        if not self._initialised:
            return
        self._initialised = False
        pynvml = _import_pynvml()
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            return  # the driver is gone: there is nothing left to shut down

    def _renew_after_fork(self) -> None:
        """Start anew in a forked child: NVML's state is the parent's, and a lock may be held."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.Lock()
            self._initialised = False


def _import_pynvml() -> Any:  # noqa: ANN401 - nvidia-ml-py ships no types
    # Imported late: it takes 60 ms, and a machine without a GPU never needs it.
    import pynvml  # type: ignore[import-untyped] # noqa: PLC0415 - see above

    return pynvml


_session = _Session()


def nvml_status() -> NvmlStatus:
    """Return whether NVML works here, and why where it does not. Never raises."""
    _session.acquire()
    try:
        version = str(_session.call("nvmlSystemGetDriverVersion"))
        problems = tuple(f"GPU {gpu.index}: {gpu.problem}" for gpu in _scan() if gpu.problem)
    except NvmlFailure as failure:
        return NvmlStatus(False, reason=failure.explanation)
    finally:
        _session.release()
    return NvmlStatus(True, driver_version=version, problems=problems)


def list_devices(*, slack: float = 0.1) -> tuple[DeviceDescription, ...]:
    """Return the GPUs and MIG instances that this process may use; none where there is no driver.

    ``CUDA_VISIBLE_DEVICES`` is honoured (``devices.visible`` has the rules) and its order gives the
    numbers in ``cuda:N``. A GPU in MIG mode is not a device, its instances are:
    ``cuda:0/mig:1``. A GPU that is lost is left out; ``nvml_status`` names it. Where the driver
    gives no memory of its own (integrated GPUs), the device is ``unified`` and its total is the
    host's memory.

    Raises:
        ReadingError: the driver is there and a query failed: unknown is not the same as none.
        DeviceLostError: a device went away while it was described.
    """
    _session.acquire()
    try:
        driver = str(_session.call("nvmlSystemGetDriverVersion"))
        visible = select_visible(os.environ.get("CUDA_VISIBLE_DEVICES"), _scan())
        return tuple(
            _describe(device, driver=driver, slack=slack)
            for device in visible
            if device.gpu.problem is None
        )
    except NvmlFailure as failure:
        if failure.code in NO_DRIVER:
            return ()
        raise failure.as_error("the list of devices") from failure
    finally:
        _session.release()


def _scan() -> list[FoundGpu]:
    """Return every GPU that the driver lists, the unusable ones with their problem."""
    found: list[FoundGpu] = []
    for index in range(int(_session.call("nvmlDeviceGetCount"))):
        try:
            handle = _session.call("nvmlDeviceGetHandleByIndex", index)
            uuid = str(_session.call("nvmlDeviceGetUUID", handle))
            instances = _instances(handle)
        except NvmlFailure as failure:
            if failure.code not in DEVICE_GONE | {NO_PERMISSION}:
                raise
            found.append(FoundGpu(index, None, problem=str(failure)))
            continue
        problem = None if instances != () else "MIG mode is on and no instance was created"
        found.append(FoundGpu(index, uuid, instances, problem))
    return found


def _instances(gpu: object) -> tuple[FoundInstance, ...] | None:
    """Return a GPU's MIG instances, None where MIG is off or unknown to it."""
    try:
        current, _pending = _session.call("nvmlDeviceGetMigMode", gpu)
    except NvmlFailure as failure:
        if failure.code in NOT_TOLD:
            return None
        raise
    if not current:
        return None
    instances: list[FoundInstance] = []
    for index in range(int(_session.call("nvmlDeviceGetMaxMigDeviceCount", gpu))):
        try:
            handle = _session.call("nvmlDeviceGetMigDeviceHandleByIndex", gpu, index)
        except NvmlFailure as failure:
            if failure.code == NOT_FOUND:  # a place where no instance was created
                continue
            raise
        instances.append(FoundInstance(index, str(_session.call("nvmlDeviceGetUUID", handle))))
    return tuple(instances)


def _describe(device: VisibleDevice, *, driver: str, slack: float) -> DeviceDescription:
    uuid = device.gpu.uuid if device.instance is None else device.instance.uuid
    handle = _session.call("nvmlDeviceGetHandleByUUID", uuid)
    memory = _memory(handle)
    return DeviceDescription(
        name=device.name,
        kind="cuda",
        total_bytes=total_host_bytes() if memory is None else memory[1],
        slack=slack,
        index=device.gpu.index,
        uuid=uuid,
        product=str(_session.call("nvmlDeviceGetName", handle)),
        driver=driver,
        unified=memory is None,
    )


def _memory(handle: object) -> tuple[int, int] | None:
    """Return used and total bytes; None where the device has no memory of its own.

    Version 2 of the query tells ``reserved`` (what driver and firmware keep) apart from ``used``,
    version 1 counts it as used. It can hold no model either way, so both are used here: the figure
    is the same with either version, and nothing jumps when a driver is updated.
    """
    try:
        info = _session.call("nvmlDeviceGetMemoryInfo", handle, _import_pynvml().nvmlMemory_v2)
        used_bytes, total_bytes = int(info.used) + int(info.reserved), int(info.total)
    except NvmlFailure as failure:
        if failure.code not in NOT_TOLD:
            raise
        try:
            info = _session.call("nvmlDeviceGetMemoryInfo", handle)
        except NvmlFailure as unversioned:
            if unversioned.code in NOT_TOLD:
                return None
            raise
        used_bytes, total_bytes = int(info.used), int(info.total)
    return (used_bytes, total_bytes) if total_bytes else None


def _listed(handle: object, kind: str) -> list[ListedProcess] | None:
    """Return one list of processes, None where this driver, device or user is not told it."""
    for version in ("v3", "v2"):
        try:
            entries = _session.call(f"nvmlDeviceGet{kind}RunningProcesses_{version}", handle)
        except NvmlFailure as failure:
            if failure.code == FUNCTION_NOT_FOUND:
                continue
            if failure.code in NOT_TOLD | {NO_PERMISSION}:
                return None
            raise
        return [
            (int(entry.pid), None if entry.usedGpuMemory is None else int(entry.usedGpuMemory))
            for entry in entries
        ]
    return None


class NvmlReader:
    """Reads one GPU or MIG instance.

    ``used_bytes`` holds everything that a model cannot have: the memory of all processes and what
    the driver reserves. On a unified device it is what the whole host uses. A lost device or driver
    is looked for again at the next read, and found where it came back.
    """

    def __init__(self, description: DeviceDescription) -> None:
        """Hold NVML for a device that ``list_devices`` described; the first read queries it.

        Raises:
            UsageError: the description is of no CUDA device.
        """
        if description.kind != "cuda" or (description.uuid is None and description.index is None):
            raise UsageError(
                f"device {description.name!r} ({description.kind}) is none of NVML's; "
                "take a description from list_devices()"
            )
        self._description = description
        self._lock = threading.Lock()
        self._handle: tuple[int, object] | None = None
        self._tracked: frozenset[int] = frozenset()
        self._available = AvailableMemory() if description.unified else None
        self._closed = False
        _session.acquire()

    @property
    def description(self) -> DeviceDescription:
        """The device that is read."""
        return self._description

    def read(self) -> MemoryReading:
        """Query the device now.

        Raises:
            ReadingError: a query failed, or its figures make no sense; the next may be fine.
            DeviceLostError: the device or its driver is gone.
        """
        name = self._description.name
        if self._closed:
            raise ReadingError(f"device {name!r}: its reader was closed")
        at_ns = time.monotonic_ns()
        try:
            handle = self._find()
            used_bytes, total_bytes = self._used_and_total(handle)
            lists = [_listed(handle, kind) for kind in ("Compute", "Graphics")]
        except NvmlFailure as failure:
            self._handle = None  # the next read asks for it anew
            raise failure.as_error(f"device {name!r}") from failure
        if not 0 <= used_bytes <= total_bytes:
            raise ReadingError(
                f"device {name!r}: the driver says {used_bytes} of {total_bytes} bytes are used"
            )
        return MemoryReading(
            at_ns=at_ns,
            used_bytes=used_bytes,
            total_bytes=total_bytes,
            processes=merge_processes(lists, self._tracked),
        )

    def track(self, pid: int) -> None:
        """Know a process as ours, so that one which ended and is still listed causes no doubt."""
        with self._lock:
            self._tracked |= {pid}

    def untrack(self, pid: int) -> None:
        """Forget a process; unknown ids are ignored."""
        with self._lock:
            self._tracked -= {pid}

    def close(self) -> None:
        """Let NVML go; a second call does nothing."""
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            _session.release()

    def _find(self) -> object:
        generation = _session.generation()
        known = self._handle
        if known is not None and known[0] == generation:
            return known[1]
        device = self._description
        if device.uuid is not None:
            handle = _session.call("nvmlDeviceGetHandleByUUID", device.uuid)
        else:
            handle = _session.call("nvmlDeviceGetHandleByIndex", device.index)
        self._handle = (generation, handle)
        return handle

    def _used_and_total(self, handle: object) -> tuple[int, int]:
        if self._available is not None:
            total_bytes = self._description.total_bytes
            return max(0, total_bytes - self._available.read_bytes()), total_bytes
        memory = _memory(handle)
        if memory is None:
            raise ReadingError(
                f"device {self._description.name!r}: the driver gives no memory figures any more"
            )
        return memory
