"""What each kind of fault does to a real run; ``simulation.striking`` says what they mean.

``worker-killed`` is SIGKILL. ``holder-lost`` takes a copy from its holder as a server does whose
client has died. ``load-failed``, ``load-hangs`` and ``out-of-memory`` spoil a load under way, else
the next one (``out-of-memory`` before that a job under way); ``load-failed`` with a duration all of
them. ``late-free`` leaves the process of
the next unload alive for a while. ``foreign-memory`` is a process that takes memory and is none of
the manager's. ``reading-failed`` and ``reading-wrong`` spoil the manager's readings, and
``device-lost`` does that, fails loads and kills every process on the device: the hardware itself
stays as it is.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

from modelmgr.errors import (
    DeviceLostError,
    ModelLoadError,
    ModelmgrError,
    OutOfMemoryError,
    ReadingError,
    UsageError,
    WorkerDiedError,
    WorkerError,
)
from modelmgr.runtime.driver import Driver
from modelmgr.runtime.scenario_run.copies import (
    Copies,
    Faults,
    RunningCopy,
    stand_in_spec,
)
from modelmgr.runtime.scenario_run.devices import RunDevice
from modelmgr.runtime.scenario_run.tally import Tally
from modelmgr.runtime.scenario_run.waiting import RunClock, RunStoppedError
from modelmgr.simulation.faults import concerns, lasting_ns, message_of
from modelmgr.units import NS_PER_S, format_bytes
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workers.placement import place
from modelmgr.workload.scenario import Fault, Scenario

_LOG = logging.getLogger("modelmgr")


class HolderLostError(ModelmgrError):
    """A fault of the run: the client that held the copy is gone."""


class Later:
    """Calls things at their times, in a thread of its own, one after the other."""

    def __init__(self, clock: RunClock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._serial = 0
        self._over = False
        self._thread = threading.Thread(target=self._run, name="modelmgr-faults", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def at(self, at_ns: int, action: Callable[[], None]) -> None:
        """Call something at a time of the run's clock."""
        with self._changed:
            self._serial += 1
            heapq.heappush(self._heap, (at_ns, self._serial, action))
            self._changed.notify_all()

    def after(self, delay_ns: int, action: Callable[[], None]) -> None:
        """Call something after a while."""
        self.at(self._clock.now_ns() + delay_ns, action)

    def stop(self) -> list[Callable[[], None]]:
        """End, and return what was still to come."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        return [action for _, _, action in self._heap]

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._over:
                    return
                due_ns = self._heap[0][0] - self._clock.now_ns() if self._heap else None
                if due_ns is None or due_ns > 0:
                    self._changed.wait(None if due_ns is None else due_ns / NS_PER_S)
                    continue
                _, _, action = heapq.heappop(self._heap)
            try:
                action()
            except Exception:  # noqa: BLE001 - one fault that goes wrong must not end the others
                _LOG.warning("a fault of the run could not be made to happen", exc_info=True)


class Striker:
    """Lets the faults of a scenario happen."""

    def __init__(
        self,
        faults: Faults,
        *,
        copies: Copies,
        devices: Sequence[RunDevice],
        driver: Driver,
        launcher: WorkerLauncher,
        tally: Tally,
        later: Later,
        clock: RunClock,
        process_bytes: dict[str, int],
    ) -> None:
        self._faults = faults
        self._copies = copies
        self._devices = devices
        self._driver = driver
        self._launcher = launcher
        self._tally = tally
        self._later = later
        self._clock = clock
        self._process_bytes = process_bytes
        self._failing: dict[str, list[Fault]] = {device.name: [] for device in devices}

    def schedule(self) -> None:
        """See to every fault's first time."""
        for number in range(len(self._faults.armed.faults)):
            with self._faults.lock:
                at_ns = self._faults.armed.first_ns(number)
            if at_ns is not None:
                self._later.at(at_ns, partial(self._strike, number))

    def _strike(self, number: int) -> None:
        if self._clock.stopping:
            return
        armed = self._faults.armed
        with self._faults.lock:
            next_ns = armed.next_ns(number, self._clock.now_ns())
        if next_ns is not None:
            self._later.at(next_ns, partial(self._strike, number))
        fault = armed.faults[number]
        match fault.kind:
            case "worker-killed":
                copy = self._pick(number, self._concerned(fault))
                if copy is not None:
                    self._kill(copy)
            case "holder-lost":
                copy = self._pick(number, [c for c in self._concerned(fault) if c.lease])
                if copy is not None:
                    error = HolderLostError(f"the holder of {copy.tag!r} is lost")
                    copy.lose_holder(self._driver.lose_holder, error)
            case "load-failed" | "load-hangs" | "out-of-memory":
                self._spoil_a_load(number, fault)
            case "late-free":
                self._lie_in_wait(fault)
            case "reading-failed" | "reading-wrong" | "foreign-memory" | "device-lost":
                for device in self._devices:
                    if concerns(fault, None, device.name):
                        self._disturb(device, fault)
                        break

    def _pick(self, number: int, copies: Sequence[RunningCopy]) -> RunningCopy | None:
        with self._faults.lock:
            return self._faults.armed.pick(number, copies)

    def _lie_in_wait(self, fault: Fault) -> None:
        with self._faults.lock:
            self._faults.armed.lie_in_wait(fault, self._clock.now_ns())

    def _concerned(self, fault: Fault) -> list[RunningCopy]:
        return [
            copy
            for copy in self._copies()
            if concerns(fault, copy.tag, copy.device.name)
            and not copy.leaving
            and (copy.alive or not copy.loaded)
        ]

    def _kill(self, copy: RunningCopy) -> None:
        waiting = copy.waiting
        copy.kill()
        waiting.interrupt(
            WorkerDiedError(
                f"the worker of {copy.tag!r} was killed, a fault of the run", pid=copy.pid
            )
        )

    def _spoil_a_load(self, number: int, fault: Fault) -> None:
        concerned = self._concerned(fault)
        if fault.kind == "load-failed" and fault.duration_ns is not None:
            self._lie_in_wait(fault)  # first: a load that begins meanwhile is hit as well
            for copy in concerned:
                if not copy.loaded:
                    _fail_load(copy, fault)
            return
        loading = self._pick(number, [copy for copy in concerned if not copy.loaded])
        if loading is not None:
            if fault.kind == "load-hangs":
                loading.waiting.prolong(lasting_ns(fault))
            elif fault.kind == "out-of-memory":
                loading.waiting.interrupt(_out_of_memory(loading))
            else:
                _fail_load(loading, fault)
            return
        if fault.kind == "out-of-memory":
            running = self._pick(number, [copy for copy in concerned if copy.lease])
            if running is not None:
                running.waiting.interrupt(_out_of_memory(running))
                return
        self._lie_in_wait(fault)

    def _disturb(self, device: RunDevice, fault: Fault) -> None:
        lasts_ns = lasting_ns(fault)
        match fault.kind:
            case "reading-wrong":
                size_bytes = fault.size_bytes or 0
                device.reader.wrong_bytes += size_bytes

                def right_again() -> None:
                    device.reader.wrong_bytes -= size_bytes

                self._later.after(lasts_ns, right_again)
            case "foreign-memory":
                self._take_foreign_memory(device, fault)
            case _:
                self._failing[device.name].append(fault)
                self._update(device)
                if fault.kind != "device-lost" or fault.duration_ns is not None:
                    self._later.after(lasts_ns, lambda: self._works_again(device, fault))
        if fault.kind == "device-lost":
            for copy in self._copies():
                if copy.device is device and not copy.leaving:
                    self._kill(copy)

    def _works_again(self, device: RunDevice, fault: Fault) -> None:
        self._failing[device.name].remove(fault)
        self._update(device)

    def _update(self, device: RunDevice) -> None:
        faults = self._failing[device.name]
        device.lost = any(fault.kind == "device-lost" for fault in faults)
        if device.lost:
            device.reader.failing = DeviceLostError("a fault of the run: device-lost")
        elif faults:
            device.reader.failing = ReadingError(f"a fault of the run: {faults[0].kind}")
        else:
            device.reader.failing = None

    def _take_foreign_memory(self, device: RunDevice, fault: Fault) -> None:
        """Start a process that takes memory of a device and is none of the manager's."""
        wanted_bytes = fault.size_bytes or 0
        budget = device.budget
        taken_bytes = wanted_bytes if budget is None else budget.take_at_most(wanted_bytes)
        placement = place(device.description)
        spec = stand_in_spec(
            "foreign-memory",
            placement,
            resident_bytes=max(0, taken_bytes - self._process_bytes[device.name]),
            extra_bytes=0,
        )

        def give_back() -> None:
            if budget is not None:
                budget.give_back(taken_bytes)
            device.meter.look()

        try:
            worker = self._launcher.start(spec, device=placement.device, env=placement.env)
            # Nobody tells a budget of the host what others take: here its reader is told.
            device.reader.track(worker.pid)
            device.meter.track(worker.pid)
            worker.load(timeout_s=None)
            device.meter.look()
        except WorkerError as error:
            give_back()
            _LOG.warning("foreign memory could not be taken: %s", error)
            return

        def end() -> None:
            worker.kill()
            worker.close()
            give_back()

        if fault.duration_ns is not None:
            self._later.after(fault.duration_ns, end)

    def stop_all(self) -> None:
        """End every load and job: the run was stopped."""
        for copy in self._copies():
            copy.waiting.interrupt(RunStoppedError("the run was stopped"))
            if not copy.loaded or copy.lease is not None:
                copy.kill()


def _fail_load(copy: RunningCopy, fault: Fault) -> None:
    copy.waiting.interrupt(ModelLoadError(f"loading {copy.tag!r}: {message_of(fault)}"))


def _out_of_memory(copy: RunningCopy) -> OutOfMemoryError:
    return OutOfMemoryError(f"{copy.tag!r}: out of memory, a fault of the run", pid=copy.pid)


def check_faults(scenario: Scenario) -> None:
    """Refuse, before anything starts, faults that cannot be made to happen for real.

    Raises:
        UsageError: names the fault.
    """
    devices = {device.name: device for device in scenario.devices}
    for fault in scenario.faults:
        if fault.kind != "foreign-memory":
            continue
        device = devices[fault.device] if fault.device else scenario.devices[0]
        if device.kind != "cuda":
            continue
        if find_spec("torch") is None:
            raise UsageError(
                f"the fault foreign-memory on {device.name} needs torch, which is not installed\n"
                "install it, leave the fault out, or simulate the scenario"
            )
        if (fault.size_bytes or 0) > device.total_bytes:
            raise UsageError(
                f"the fault foreign-memory is to take {format_bytes(fault.size_bytes)}, and "
                f"{device.name} has {format_bytes(device.total_bytes)}"
            )
