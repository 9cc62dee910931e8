"""Copies of models for real: worker processes that load, serve, and go, as the manager orders.

A model with a loader is loaded and run as it is. One without is a stand-in: its process holds the
stated bytes, and loads, jobs and unloads take as long as was drawn for them, from the streams that
the simulation draws from. The times are kept here and not in the process, so that a fault or the
end of the run can end a wait at once.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modelmgr.devices.process_memory import reset_peak
from modelmgr.errors import (
    DeviceError,
    DeviceLostError,
    ModelLoadError,
    OutOfMemoryError,
    WorkerDiedError,
)
from modelmgr.records.devices import DeviceDescription
from modelmgr.records.host_memory import HostMemory
from modelmgr.runtime.lease import Lease
from modelmgr.runtime.scenario_run import stand_in
from modelmgr.runtime.scenario_run.devices import RunDevice
from modelmgr.runtime.scenario_run.models import RunModel, StandInSizes
from modelmgr.runtime.scenario_run.tally import Tally
from modelmgr.runtime.scenario_run.waiting import RunClock, RunStoppedError, Waiting
from modelmgr.simulation.faults import OUT_OF_MEMORY, ArmedFaults
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workers.placement import Placement, place
from modelmgr.workers.worker import Worker
from modelmgr.workload.model_spec import ModelSpec
from modelmgr.workload.scenario import Scenario

# A worker's end takes 4 to 20 ms and what its memory takes to free, and longer on a busy machine:
# begun so much before an unload is to be over.
_CLOSING_NS = 50_000_000
# To free memory takes a fifth of what it took to touch it.
_FREEING_SHARE = 4

Shape = tuple[tuple[str, int], ...]


class Faults:
    """The simulation's armed faults, for any number of threads."""

    def __init__(self, scenario: Scenario, clock: RunClock) -> None:
        self.armed = ArmedFaults(scenario.faults, scenario.seed)
        self.lock = threading.Lock()
        self._clock = clock

    def on_load(self, tag: str, device: str, takes_ns: int) -> tuple[int, str | None]:
        """As ``ArmedFaults.on_load``, now."""
        with self.lock:
            return self.armed.on_load(tag, device, takes_ns, self._clock.now_ns())

    def on_unload(self, tag: str, device: str) -> int:
        """As ``ArmedFaults.on_unload``, now."""
        with self.lock:
            return self.armed.on_unload(tag, device, self._clock.now_ns())


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every copy of a run needs.

    Attributes:
        launcher: starts the processes.
        clock: the run's.
        tally: counts loads.
        faults: may spoil a load or an unload.
        devices: by name.
        copies: those that there are.
        later: calls something after so many nanoseconds.
        seed: of random weights.
    """

    launcher: WorkerLauncher
    clock: RunClock
    tally: Tally
    faults: Faults
    devices: Mapping[str, RunDevice]
    copies: Copies
    later: Callable[[int, Callable[[], None]], None]
    seed: int


class Copies:
    """The copies that load or are loaded, in the order in which they came; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._copies: dict[int, RunningCopy] = {}
        self.next_number = itertools.count(1).__next__

    def add(self, copy: RunningCopy) -> None:
        """Keep a copy."""
        with self._lock:
            self._copies[copy.number] = copy

    def remove(self, copy: RunningCopy) -> None:
        """Forget a copy; unknown ones are ignored."""
        with self._lock:
            self._copies.pop(copy.number, None)

    def __call__(self) -> list[RunningCopy]:
        """Return them all."""
        with self._lock:
            return list(self._copies.values())


class RunningCopy:
    """One copy: what the manager holds (``pid``, ``alive``, ``memory``, ``close``).

    Attributes:
        number: in the order in which loads began.
        waiting: the wait of the load, or of the job that it serves.
        lease: under which somebody has it, None where nobody does.
        loaded: its load ended well.
        leaving: it is being unloaded.
        abandoned: its holder is lost: nobody waits for an answer of its process.
    """

    def __init__(self, model: RunModel, device: RunDevice, around: Surroundings) -> None:
        self.number = around.copies.next_number()
        self.model = model
        self.device = device
        self.waiting = Waiting()
        self.lease: Lease | None = None
        self.loaded = False
        self.leaving = False
        self.abandoned = False
        self._around = around
        self._worker: Worker | None = None
        self._taken_bytes = 0
        self._touching_ns = 0  # what its process took to load
        self._sizes = None if model.sizes is None else model.sizes[device.name]
        self._lock = threading.Lock()
        self._serving = threading.Lock()  # held while a job ends, or its holder is lost

    @property
    def tag(self) -> str:
        """The model's tag."""
        return self.model.tag

    @property
    def pid(self) -> int | None:
        """The process, None before there is one."""
        return None if self._worker is None else self._worker.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._worker is not None and self._worker.alive

    def memory(self) -> HostMemory:
        """Return what the process holds of host memory."""
        if self._worker is None:
            raise DeviceError(f"a copy of {self.tag!r} has no process yet")
        return self._worker.memory()

    # Loading ---------------------------------------------------------------------------------

    def load(self, placement: Placement) -> None:
        """Load, for as long as was drawn; leave nothing behind where that fails.

        Raises:
            WorkerError: as the worker says it, or as a fault has it.
            DeviceLostError, RunStoppedError: there is nothing to load on, or for, any more.
        """
        around = self._around
        began_ns = time.monotonic_ns()
        around.copies.add(self)
        try:
            self._load(placement, began_ns)
        except BaseException as error:
            around.copies.remove(self)
            self._drop()
            if not isinstance(error, RunStoppedError) and not around.clock.stopping:
                around.tally.load_failed()
                around.tally.trouble(error)
                if isinstance(error, OutOfMemoryError):
                    around.tally.ran_out()
            raise
        self.loaded = True
        self.waiting = Waiting()
        around.tally.loaded(self.tag, time.monotonic_ns() - began_ns)

    def _load(self, placement: Placement, began_ns: int) -> None:
        around, device = self._around, self.device
        load_ns = self.model.draw_load_ns()
        takes_ns, failure = around.faults.on_load(self.tag, device.name, load_ns)
        due_ns = began_ns + takes_ns
        if around.clock.stopping:
            raise RunStoppedError("the run was stopped")
        if device.lost:
            self.waiting.until(due_ns)
            raise DeviceLostError(f"{device.name}: the device is gone, a fault of the run")
        sizes = self._sizes
        loading_bytes = 0 if sizes is None else sizes.loading_bytes
        stated_bytes = 0 if sizes is None else sizes.process_bytes + loading_bytes
        if failure is None and not self._take(stated_bytes):
            # Weights come in evenly, so on average it is half-way that no more fit.
            self.waiting.until(began_ns + takes_ns // 2)
            raise self._no_room(stated_bytes)
        self._worker = worker = around.launcher.start(
            self._spec(placement), device=placement.device, seed=around.seed, env=placement.env
        )
        device.meter.track(worker.pid)
        self.waiting.check()
        started_ns = time.monotonic_ns()
        worker.load(timeout_s=None)
        self._touching_ns = time.monotonic_ns() - started_ns
        device.meter.look()
        if failure is None and sizes is not None and loading_bytes > sizes.resident_bytes:
            freeing_ns = _freeing_ns(self._touching_ns, takes_ns)
            self.waiting.until(due_ns - freeing_ns, self._is_running)
            worker.infer({stand_in.EXTRA: 0})
            self._give_back(loading_bytes - sizes.resident_bytes)
            device.meter.look()
        over_ns = self.waiting.until(due_ns, self._is_running)
        if not worker.alive:
            raise WorkerDiedError(f"the worker of {self.tag!r} died while loading", pid=worker.pid)
        if failure == OUT_OF_MEMORY:
            raise OutOfMemoryError(f"loading {self.tag!r}: {failure}, a fault of the run")
        if failure is not None:
            raise ModelLoadError(f"loading {self.tag!r}: {failure}")
        if sizes is not None:
            around.tally.took(self.tag, "load", takes_ns, over_ns)
        reset_peak(worker.pid)  # what it took while it loaded is not what it takes when it runs

    def _spec(self, placement: Placement) -> ModelSpec:
        spec, sizes = self.model.spec, self._sizes
        if spec is not None:
            return spec
        assert sizes is not None  # noqa: S101 - a model has either
        return stand_in_spec(
            self.tag,
            placement,
            resident_bytes=sizes.resident_bytes,
            extra_bytes=sizes.loading_bytes - sizes.resident_bytes,
        )

    # Serving ---------------------------------------------------------------------------------

    def serve(self, lease: Lease, service_ns: int, shape: Shape | None, seed: int) -> None:
        """Do one job.

        Args:
            lease: under which it is done.
            service_ns: how long a stand-in takes; a model that a loader loaded takes its own time.
            shape: of the batch; None for no particular one.
            seed: of the batch's content.

        Raises:
            WorkerError: as the worker says it, or as a fault has it.
            RunStoppedError: the run was stopped.
        """
        began_ns = time.monotonic_ns()
        waiting = self.waiting = Waiting()
        self.lease = lease
        if self._around.clock.stopping:
            waiting.interrupt(RunStoppedError("the run was stopped"))
        try:
            waiting.check()
            if self._sizes is None:
                self._run_batch(dict(shape) if shape else self.model.shape, seed)
                waiting.check()
            else:
                self._pass_time(waiting, began_ns, service_ns, self._sizes)
            with self._serving:  # from here on its holder cannot be lost any more
                self.lease = None
                waiting.check()
        finally:
            self.lease = None

    def lose_holder(self, take_away: Callable[[Lease], None], error: Exception) -> None:
        """Take the copy from its holder, and end the job with an error; not once it has ended.

        A holder that lost its copy when its job was done, and not yet said to be, would count as
        one that completed.
        """
        with self._serving:
            lease = self.lease
            if lease is None:
                return
            self.abandoned = True
            take_away(lease)
            self.waiting.interrupt(error)

    def _run_batch(self, shape: Mapping[str, int], seed: int) -> None:
        assert self._worker is not None  # noqa: S101 - it is loaded
        self._worker.run_shape(
            shape,
            phase="latency",
            warmups=0,
            repeats=1,
            seed=seed,
            timeout_s=None,
            count_tensors=False,
        )

    def _pass_time(
        self, waiting: Waiting, began_ns: int, service_ns: int, sizes: StandInSizes
    ) -> None:
        worker, meter = self._worker, self.device.meter
        assert worker is not None  # noqa: S101 - it is loaded
        running_bytes, due_ns = sizes.running_bytes, began_ns + service_ns
        if running_bytes:
            if not self._take(running_bytes):
                raise self._no_room(running_bytes)
            try:
                worker.infer({stand_in.EXTRA: running_bytes})
                meter.look()
                freeing_ns = _freeing_ns(time.monotonic_ns() - began_ns, service_ns)
                waiting.until(due_ns - freeing_ns, self._is_running)
                self._check_alive(worker)
                worker.infer({stand_in.EXTRA: 0})
            finally:
                self._give_back(running_bytes)
            meter.look()
        over_ns = waiting.until(due_ns, self._is_running)
        self._check_alive(worker)
        self._around.tally.took(self.tag, "service", service_ns, over_ns)

    def _check_alive(self, worker: Worker) -> None:
        if not worker.alive:
            raise WorkerDiedError(f"the worker of {self.tag!r} died in use", pid=worker.pid)

    # Going -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Unload, for as long as was drawn; a fault may leave the process for a while longer."""
        around, worker = self._around, self._worker
        began_ns = time.monotonic_ns()
        self.leaving = True
        if worker is None or not worker.alive or around.clock.stopping:
            self._go()
            return
        late_ns = around.faults.on_unload(self.tag, self.device.name)
        unload_ns = self.model.draw_unload_ns()
        due_ns = began_ns + unload_ns
        if late_ns:
            around.later(unload_ns + late_ns, self._go)
        else:
            closing_ns = max(_CLOSING_NS, _freeing_ns(self._touching_ns, unload_ns))
            Waiting().until(due_ns - closing_ns, self._still_going)
            self._go()
        over_ns = Waiting().until(due_ns, self._still_going)
        if self._sizes is not None and not late_ns and not around.clock.stopping:
            around.tally.took(self.tag, "unload", unload_ns, over_ns)

    def kill(self) -> None:
        """End the process as the kernel would, and wait until it has."""
        worker = self._worker
        if worker is None:
            return
        worker.kill()
        Waiting().until(time.monotonic_ns() + 1_000_000_000, self._is_running)

    def _go(self) -> None:
        """End the process and give everything back; a second call does nothing."""
        self._around.copies.remove(self)
        self._drop()

    def _drop(self) -> None:
        worker = self._worker
        if worker is not None:
            if self.abandoned or not self.loaded or self._around.clock.stopping:
                worker.kill()
            worker.close()
        with self._lock:
            taken_bytes, self._taken_bytes = self._taken_bytes, 0
        if self.device.budget is not None:
            self.device.budget.give_back(taken_bytes)
        self.device.meter.look()

    def _still_going(self) -> bool:
        return not self._around.clock.stopping

    # Its device ------------------------------------------------------------------------------

    def _is_running(self) -> bool:
        return self._worker is not None and self._worker.alive

    def _take(self, size_bytes: int) -> bool:
        budget = self.device.budget
        if budget is not None and not budget.take(size_bytes):
            return False
        with self._lock:
            self._taken_bytes += size_bytes
        return True

    def _give_back(self, size_bytes: int) -> None:
        with self._lock:
            returned = min(size_bytes, self._taken_bytes)  # it may have gone meanwhile
            self._taken_bytes -= returned
        if self.device.budget is not None:
            self.device.budget.give_back(returned)

    def _no_room(self, size_bytes: int) -> OutOfMemoryError:
        return OutOfMemoryError(
            f"{self.tag!r} asked for {size_bytes} bytes more than {self.device.name} has left",
            budget_bytes=self.device.description.total_bytes,
        )


def _freeing_ns(touching_ns: int, stated_ns: int) -> int:
    """Return how long before the end of its stated time memory is to be freed.

    A machine that takes longer over it than stated leaves no time to keep it: a quarter at most.
    """
    return min(touching_ns, stated_ns) // _FREEING_SHARE


class ScenarioLoader:
    """Makes copies of one model for the manager, on the device that it says."""

    own_process = True

    def __init__(self, model: RunModel, around: Surroundings) -> None:
        self._model = model
        self._around = around
        self._description: DeviceDescription | None = None

    def placed_on(self, device: DeviceDescription) -> ScenarioLoader:
        """Return the loader for a copy that was placed on a device."""
        placed = ScenarioLoader(self._model, self._around)
        placed._description = device
        return placed

    def __call__(self) -> RunningCopy:
        """Return a loaded copy; raise what the load ended with."""
        description = self._description
        assert description is not None  # noqa: S101 - the manager places before it loads
        copy = RunningCopy(self._model, self._around.devices[description.name], self._around)
        copy.load(place(description))
        return copy


def stand_in_spec(
    tag: str, placement: Placement, *, resident_bytes: int, extra_bytes: int
) -> ModelSpec:
    """Return how a stand-in is loaded."""
    options: dict[str, Any] = {
        "resident_bytes": resident_bytes,
        "extra_bytes": extra_bytes,
        "device": placement.device,
    }
    return ModelSpec(tag=tag, loader="python", target=stand_in.TARGET, options=options)
