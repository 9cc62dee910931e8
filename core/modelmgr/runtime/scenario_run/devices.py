"""The devices of a real run: what reads them, what keeps them to their size, how full they were.

A ``cuda`` device is a GPU of this machine. A ``host`` device is a budget of the host's memory, and
so is a ``virtual`` one: its size is taken from the scenario and held by real processes. Nobody but
us keeps a process to a budget, so stand-ins ask ``Budget`` first, which refuses what a device of
that size would refuse. Faults spoil readings in ``DisturbedReader``.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Sequence

import msgspec

from modelmgr.devices.host import HostReader, default_host_budget_bytes
from modelmgr.devices.host_available import AvailableMemory
from modelmgr.devices.nvml import NvmlReader, list_devices
from modelmgr.devices.reading import MemoryReader, MemoryReading
from modelmgr.errors import DeviceError, DoesNotFitError, UsageError
from modelmgr.records.devices import DeviceDescription
from modelmgr.runtime.scenario_run.waiting import RunClock
from modelmgr.units import format_bytes
from modelmgr.workload.scenario import Scenario, ScenarioDevice, ScenarioModel

_BETWEEN_LOOKS_S = 0.1


class Budget:
    """Keeps stand-ins to a device's size, as an allocator does; thread-safe.

    Attributes:
        total_bytes: the device's size.
        used_bytes: what was taken.
    """

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.used_bytes = 0
        self._lock = threading.Lock()

    def take(self, size_bytes: int) -> bool:
        """Take so much; False, and nothing is taken, where it does not fit."""
        with self._lock:
            if self.used_bytes + size_bytes > self.total_bytes:
                return False
            self.used_bytes += size_bytes
            return True

    def take_at_most(self, size_bytes: int) -> int:
        """Take so much or what is left, and return it."""
        with self._lock:
            taken = max(0, min(size_bytes, self.total_bytes - self.used_bytes))
            self.used_bytes += taken
            return taken

    def give_back(self, size_bytes: int) -> None:
        """Free what was taken."""
        with self._lock:
            self.used_bytes -= size_bytes


class DisturbedReader:
    """Another reader whose readings faults can make fail, or go wrong.

    Attributes:
        failing: what readings raise, None where they do not.
        wrong_bytes: what they are off by.
    """

    def __init__(self, reader: MemoryReader) -> None:
        self._reader = reader
        self.failing: DeviceError | None = None
        self.wrong_bytes = 0

    @property
    def description(self) -> DeviceDescription:
        """The device that is read."""
        return self._reader.description

    def read(self) -> MemoryReading:
        """Read the device, unless a fault forbids; what comes may be off."""
        if self.failing is not None:
            raise self.failing
        reading = self._reader.read()
        if not self.wrong_bytes:
            return reading
        return MemoryReading(
            at_ns=reading.at_ns,
            used_bytes=max(0, reading.used_bytes + self.wrong_bytes),
            total_bytes=reading.total_bytes,
            processes=reading.processes,
        )

    def track(self, pid: int) -> None:
        """Count a process in."""
        self._reader.track(pid)

    def untrack(self, pid: int) -> None:
        """Forget a process."""
        self._reader.untrack(pid)

    def close(self) -> None:
        """Close the reader itself."""
        self._reader.close()


class UseMeter:
    """The true use of a device over the run: at most, and on average; thread-safe.

    It looks whenever it is told to (right after something was taken or given back), and now and
    then by itself.
    """

    def __init__(self, reader: MemoryReader, clock: RunClock) -> None:
        self._reader = reader
        self._clock = clock
        self._lock = threading.Lock()
        self._used_bytes = 0
        self._byte_ns = 0
        self._since_ns = 0
        self.peak_bytes = 0

    def track(self, pid: int) -> None:
        """Count a process in from its first byte."""
        with contextlib.suppress(DeviceError):  # it is gone already
            self._reader.track(pid)

    def look(self) -> None:
        """Take note of the use now; a reading that fails changes nothing."""
        with self._lock:
            try:
                used_bytes = self._reader.read().used_bytes
            except DeviceError:
                return
            now_ns = max(self._since_ns, self._clock.now_ns())
            self._byte_ns += self._used_bytes * (now_ns - self._since_ns)
            self._since_ns = now_ns
            self._used_bytes = used_bytes
            self.peak_bytes = max(self.peak_bytes, used_bytes)

    def mean_bytes(self, until_ns: int) -> int:
        """Return the mean use from the start until a time of the clock."""
        with self._lock:
            if until_ns <= 0:
                return self._used_bytes
            rest_ns = max(0, until_ns - self._since_ns)
            return (self._byte_ns + self._used_bytes * rest_ns) // max(until_ns, self._since_ns)

    def start(self) -> None:
        """Forget what was before the scenario began."""
        with self._lock:
            self._byte_ns = self._since_ns = self.peak_bytes = self._used_bytes = 0


class RunDevice:
    """One device of a run.

    Attributes:
        name: the scenario's.
        description: what the manager is told of it.
        reader: the manager's.
        meter: what the result says of it.
        budget: keeps stand-ins to its size; None where the device itself does.
        lost: a fault took it away: loads fail.
    """

    def __init__(
        self,
        description: DeviceDescription,
        reader: MemoryReader,
        meter_reader: MemoryReader,
        clock: RunClock,
    ) -> None:
        self.name = description.name
        self.description = description
        self.reader = DisturbedReader(reader)
        self.meter = UseMeter(meter_reader, clock)
        self.budget = None if description.kind == "cuda" else Budget(description.total_bytes)
        self.lost = False
        self._meter_reader = meter_reader

    def close(self) -> None:
        """Close both readers."""
        self.reader.close()
        self._meter_reader.close()


def open_devices(devices: Sequence[ScenarioDevice], clock: RunClock) -> tuple[RunDevice, ...]:
    """Open a scenario's devices.

    Raises:
        UsageError: there is no such GPU, or it is smaller than the scenario says.
        DeviceError: a device cannot be read.
    """
    opened: list[RunDevice] = []
    gpus = list(list_devices()) if any(d.kind == "cuda" for d in devices) else []
    try:
        for device in devices:
            if device.kind == "cuda":
                gpu = _take_gpu(device, gpus)
                opened.append(RunDevice(gpu, NvmlReader(gpu), NvmlReader(gpu), clock))
                continue
            description = DeviceDescription(
                name=device.name, kind="host", total_bytes=device.total_bytes, slack=device.slack
            )
            readers = HostReader(description), HostReader(description)
            opened.append(RunDevice(description, *readers, clock))
    except BaseException:
        for each in opened:
            each.close()
        raise
    return tuple(opened)


def _take_gpu(device: ScenarioDevice, left: list[DeviceDescription]) -> DeviceDescription:
    """Return the GPU of that name, else the next one, with the scenario's name and limit."""
    named = [gpu for gpu in left if gpu.name == device.name]
    if not named and re.fullmatch(r"cuda:\d+(/.*)?", device.name):
        known = ", ".join(gpu.name for gpu in left) or "none"
        raise UsageError(f"there is no device {device.name!r} here; GPUs that are left: {known}")
    if not left:
        raise UsageError(
            f"device {device.name!r} is a GPU (kind: cuda), and this machine has no further one\n"
            "write 'kind: host' to run the scenario on the host's memory, or simulate it"
        )
    gpu = named[0] if named else left[0]
    left.remove(gpu)
    if device.limit_bytes > gpu.total_bytes:
        raise UsageError(
            f"device {device.name!r} may use {format_bytes(device.limit_bytes)}, and {gpu.name} "
            f"has {format_bytes(gpu.total_bytes)}\ngive it no 'memory' to use what it has"
        )
    slack = 1 - device.limit_bytes / gpu.total_bytes
    return msgspec.structs.replace(gpu, name=device.name, slack=max(0.0, slack))


def check_room(scenario: Scenario) -> None:
    """Refuse, before anything starts, what this machine's memory cannot hold.

    Raises:
        DoesNotFitError: the host's devices could be filled beyond what it can give now.
        ReadingError: the kernel does not tell what is available.
    """
    budgets = [device for device in scenario.devices if device.kind != "cuda"]
    if not budgets:
        return
    needed_bytes = sum(_most_bytes(device, scenario) for device in budgets)
    available_bytes = AvailableMemory().read_bytes()
    if needed_bytes > available_bytes:
        names = ", ".join(device.name for device in budgets)
        raise DoesNotFitError(
            f"{names}: models may fill {format_bytes(needed_bytes)}, and this machine can give "
            f"{format_bytes(available_bytes)} now: nothing was started\n"
            "run it smaller (--memory-scale 1/8), give its devices less memory, or simulate it",
            needed_bytes=needed_bytes,
            limit_bytes=available_bytes,
        )


def _most_bytes(device: ScenarioDevice, scenario: Scenario) -> int:
    """Return the most that the scenario could make a device hold."""
    trusted = all(_is_believed(model) for model in scenario.models)
    foreign = any(fault.kind == "foreign-memory" for fault in scenario.faults)
    most_bytes = device.limit_bytes if trusted and not foreign else device.total_bytes
    copies = scenario.manager.max_copies
    if copies is None or foreign or any(model.cost is None for model in scenario.models):
        return most_bytes
    return min(most_bytes, sum(copies * _largest_bytes(model) for model in scenario.models))


def _largest_bytes(model: ScenarioModel) -> int:
    cost = model.cost
    return 0 if cost is None else max(cost.peak_bytes, cost.load_peak_bytes or 0)


def _is_believed(model: ScenarioModel) -> bool:
    belief = model.believed
    if belief is None:
        return False
    return _largest_bytes(model) <= max(belief.peak_bytes, belief.load_peak_bytes or 0)


class Lookout:
    """Looks at every device's use now and then, in a thread of its own."""

    def __init__(self, devices: Sequence[RunDevice]) -> None:
        self._devices = devices
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="modelmgr-use", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            for device in self._devices:
                device.meter.look()
            if self._over.wait(_BETWEEN_LOOKS_S):
                return


def machine_memory(kind: str, name: str) -> int:
    """Return the bytes of a device whose scenario does not say them; for ``read_scenario``.

    Raises:
        UsageError: there is no GPU.
        ReadingError: the kernel does not tell what is available.
    """
    if kind != "cuda":
        return default_host_budget_bytes()
    gpus = list_devices()
    for gpu in gpus:
        if gpu.name == name:
            return gpu.total_bytes
    if not gpus:
        raise UsageError(f"device {name!r} is a GPU (kind: cuda), and this machine has none")
    return gpus[0].total_bytes


def describe_first(scenario: Scenario) -> DeviceDescription:
    """Return the first device of a scenario as this machine has it, for what is learned there.

    Raises:
        UsageError: there is no such GPU.
    """
    device = scenario.devices[0]
    if device.kind == "cuda":
        return _take_gpu(device, list(list_devices()))
    return DeviceDescription(
        name=device.name, kind="host", total_bytes=device.total_bytes, slack=device.slack
    )
