"""The edge of a real run: a scenario in, what it came to out.

It owns the order in which things start and end. Everything is checked before anything starts, and
whatever happens, nothing is left behind: requests end, then the manager and its copies, then the
processes, then the devices.
"""

from __future__ import annotations

import contextlib
import datetime
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import msgspec

from modelmgr.errors import (
    AcquireTimeoutError,
    DoesNotFitError,
    ManagerClosedError,
    OutOfMemoryError,
    ShutdownTimeoutError,
    UsageError,
)
from modelmgr.records.costs import CostDatabase, Eviction, MachineInfo
from modelmgr.records.decision_log import DecisionLog
from modelmgr.records.result import DurationFigures, Result
from modelmgr.runtime.lease import Lease
from modelmgr.runtime.manager import ModelManager
from modelmgr.runtime.scenario_run.beliefs import beliefs
from modelmgr.runtime.scenario_run.copies import (
    Copies,
    Faults,
    RunningCopy,
    ScenarioLoader,
    Surroundings,
)
from modelmgr.runtime.scenario_run.devices import Lookout, check_room, open_devices
from modelmgr.runtime.scenario_run.models import RunModel
from modelmgr.runtime.scenario_run.sizing import (
    check_stand_ins,
    measure_process_bytes,
    stand_in_sizes,
)
from modelmgr.runtime.scenario_run.striking import Later, Striker, check_faults
from modelmgr.runtime.scenario_run.tally import EVICTED_FOR, Tally
from modelmgr.runtime.scenario_run.tap import SchedulerTap, note_actions
from modelmgr.runtime.scenario_run.traffic import Dispatcher, Sent, Traffic
from modelmgr.runtime.scenario_run.waiting import RunClock
from modelmgr.scheduling.actions import Action
from modelmgr.simulation.metrics import figures
from modelmgr.units import NS_PER_S
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workers.loaders.registry import get_loader
from modelmgr.workload.raw_requests import NO_SHAPE
from modelmgr.workload.requests import RequestSource
from modelmgr.workload.scenario import Scenario

POLL_INTERVAL_S = 0.5
"""As ``ModelManager(poll_interval=0.5)``, and as the simulation has it."""
# Threads that wake wait for the interpreter's lock up to so long; 5 ms, its default, would be seen
# in every wait.
_SWITCH_INTERVAL_S = 0.0005
_BETWEEN_LOOKS_NS = NS_PER_S // 20
_BETWEEN_FLUSHES_NS = NS_PER_S  # of the log: so much of it a killed run may lose
_STOPPING_S = 30.0
_AGAIN_S = 0.05

Progress = Callable[[int, int, int], object]
"""Is told the scenario's time (ns), the requests that came, and those that have not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """What a real run came to.

    Attributes:
        result: the record of it.
        learned: a cost database with what was learned; None where neither a database nor a machine
            was given.
        evictions: every eviction explained, times since the scenario's start.
        lag_ns: how late requests were sent; None where none was.
        troubles: why loads and requests failed, and how often.
    """

    result: Result
    learned: CostDatabase | None
    evictions: tuple[Eviction, ...]
    lag_ns: DurationFigures | None
    troubles: dict[str, int]


def run_scenario(
    scenario: Scenario,
    *,
    log: Callable[[bytes], object] | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    max_requests: int | None = None,
    duration_ns: int | None = None,
    machine: MachineInfo | None = None,
    costs: CostDatabase | Callable[[], CostDatabase | None] | None = None,
) -> RunOutcome:
    """Run a scenario for real, through the manager that runs in production.

    Models without a loader are stand-ins: processes of the stated sizes, whose loads, jobs and
    unloads take as long as the simulation draws. Call it from the main thread.

    Args:
        scenario: what to run.
        log: is given the decision log, whole JSON lines at a time.
        progress: is told how far it is, now and then.
        stop: is asked now and then; True ends the run, and the result is partial.
        max_requests: ends the traffic after so many; those that came are served to their end.
        duration_ns: ends the traffic at that time of the scenario.
        machine: where it runs, for the result and for a new cost database.
        costs: a cost database to add what is learned to; it is left as it is. Or what returns one,
            called once all is served: others may have added to it meanwhile.

    Raises:
        UsageError: a device, a fault or a model cannot be had for real, or a setting makes no
            sense.
        DoesNotFitError: this machine's memory cannot hold the scenario; nothing was started.
        InputError: a trace has a bad row.
        DeviceError: a device cannot be read.
        WorkerError: no process can be started.
    """
    for name, value in (("max_requests", max_requests), ("duration_ns", duration_ns)):
        if value is not None and value <= 0:
            raise UsageError(f"{name} must be above 0, not {value}")
    _check(scenario)
    with contextlib.ExitStack() as stack:
        source = RequestSource(scenario)
        run = _Run(scenario, stack, shapes=source.shapes, log=log)
        traffic = Traffic(source, run.clock, max_requests=max_requests, duration_ns=duration_ns)
        partial = not run.drive(traffic, progress, stop)
        latest = costs() if callable(costs) else costs
        return run.outcome(partial=partial, machine=machine, costs=latest)


def _check(scenario: Scenario) -> None:
    """Refuse what can be seen to be impossible before anything is started."""
    for model in scenario.models:
        if model.spec is not None:
            get_loader(model.spec.loader).check(model.spec)
        elif model.cost is None:
            raise UsageError(f"model {model.tag!r} has neither a loader nor a cost")
    stand_ins = [model for model in scenario.models if model.spec is None]
    on_gpu = any(device.kind == "cuda" for device in scenario.devices)
    if stand_ins and on_gpu and find_spec("torch") is None:
        raise UsageError(
            f"the stand-in of {stand_ins[0].tag!r} needs torch to take a GPU's memory, and it is "
            "not installed\ninstall it, give the model a loader, or simulate the scenario"
        )
    if not on_gpu:
        check_stand_ins(stand_ins)
    check_faults(scenario)
    check_room(scenario)


class _Run:
    """Everything that one run has; made whole, then driven once."""

    def __init__(
        self,
        scenario: Scenario,
        stack: contextlib.ExitStack,
        *,
        shapes: Sequence[tuple[tuple[str, int], ...]],
        log: Callable[[bytes], object] | None,
    ) -> None:
        self._scenario = scenario
        self.clock = RunClock()
        self.tally = Tally(scenario)
        self._devices = open_devices(scenario.devices, self.clock)
        stack.callback(self._close_devices)
        self._launcher = stack.enter_context(WorkerLauncher())
        stack.enter_context(_quick_switches())
        process_bytes = self._measure_processes()
        self._models = {
            model.tag: RunModel(
                model,
                scenario.seed,
                None
                if model.spec is not None
                else {name: stand_in_sizes(model, size) for name, size in process_bytes.items()},
            )
            for model in scenario.models
        }
        for model in scenario.models:
            if model.spec is not None:
                self._launcher.prepare(model.spec)
        self._copies = Copies()
        faults = Faults(scenario, self.clock)
        self._later = Later(self.clock)
        around = Surroundings(
            launcher=self._launcher,
            clock=self.clock,
            tally=self.tally,
            faults=faults,
            devices={device.name: device for device in self._devices},
            copies=self._copies,
            later=self._later.after,
            seed=scenario.seed,
        )
        self._loaders = {tag: ScenarioLoader(m, around) for tag, m in self._models.items()}
        self._log = DecisionLog([device.name for device in self._devices], log)
        self._manager_started_ns = time.monotonic_ns()
        self._manager = self._make_manager()
        stack.callback(self._shut_down)
        self._driver = self._manager.driver
        self._striker = Striker(
            faults,
            copies=self._copies,
            devices=self._devices,
            driver=self._driver,
            launcher=self._launcher,
            tally=self.tally,
            later=self._later,
            clock=self.clock,
            process_bytes=process_bytes,
        )
        self._lookout = Lookout(self._devices)
        self._evictions: tuple[Eviction, ...] = ()
        self._shapes = shapes
        self._started_at = ""

    # Starting --------------------------------------------------------------------------------

    def _measure_processes(self) -> dict[str, int]:
        stand_ins = any(model.spec is None for model in self._scenario.models)
        foreign = any(fault.kind == "foreign-memory" for fault in self._scenario.faults)
        if not stand_ins and not foreign:
            return {device.name: 0 for device in self._devices}
        found: dict[str, int] = {}
        on_host: int | None = None
        for device in self._devices:
            if device.description.kind == "cuda":
                found[device.name] = measure_process_bytes(self._launcher, device)
            else:
                on_host = on_host or measure_process_bytes(self._launcher, device)
                found[device.name] = on_host
        return found

    def _make_manager(self) -> ModelManager:
        options = self._scenario.manager
        manager = ModelManager(
            readers=[device.reader for device in self._devices],
            costs=beliefs(self._scenario),
            policy=options.policy,
            isolation=options.isolation,
            max_bypass=options.max_bypass,
            min_model_copies=options.min_copies,
            max_model_copies=options.max_copies,
            eviction_cooldown_seconds=options.cooldown_ns / NS_PER_S,
            wait_timeout_seconds=(
                None if options.wait_timeout_ns is None else options.wait_timeout_ns / NS_PER_S
            ),
            poll_interval=POLL_INTERVAL_S,
        )
        for model in self._scenario.models:
            if model.pinned:
                manager.pin(model.tag)
        return manager

    # Going on --------------------------------------------------------------------------------

    def drive(
        self, traffic: Traffic, progress: Progress | None, stop: Callable[[], bool] | None
    ) -> bool:
        """Run the scenario; False where ``stop`` ended it before its end."""
        self._started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        tap = SchedulerTap(self._driver.scheduler, self._decided)
        self._striker.schedule()
        self.clock.start()
        self._later.start()
        for device in self._devices:
            device.meter.start()
        self._lookout.start()
        next_look_ns = next_flush_ns = 0

        def look() -> bool:
            nonlocal next_look_ns, next_flush_ns
            now_ns = self.clock.now_ns()
            if now_ns < next_look_ns:
                return False
            next_look_ns = now_ns + _BETWEEN_LOOKS_NS
            if now_ns >= next_flush_ns:
                next_flush_ns = now_ns + _BETWEEN_FLUSHES_NS
                with self._driver.gate.settled, self._driver.gate.lock:
                    self._log.flush()
            if progress is not None:
                progress(now_ns, self.tally.total, len(traffic.outstanding))
            return stop is not None and stop()

        finished = False
        try:
            finished = Dispatcher(traffic, self._serve).run(look)
        finally:
            self.clock.stopping = True
            self._end_requests(traffic)
            with self._driver.gate.settled, self._driver.gate.lock:
                tap.close()
            self._evictions = self._rebased(self._manager.evictions())
            self._lookout.stop()
        return finished

    def _serve(self, sent: Sent) -> None:
        """See one request through, however it ends; counts it once."""
        at_ns, index, service_ns, shape, _ = sent.raw
        model = self._scenario.models[index]
        tag = model.tag
        came_ns = self.clock.now_ns()
        self.tally.came(tag, came_ns - at_ns, came_ns)
        shape_of = None if shape == NO_SHAPE else self._shapes[shape]
        try:
            self._serve_until_done(
                sent,
                model.priority,
                lambda lease, copy: copy.serve(lease, service_ns, shape_of, seed=sent.number),
            )
        except BaseException as error:  # noqa: BLE001 - each one is an ending that is counted
            now_ns = self.clock.now_ns()
            if self.clock.stopping:
                self.tally.ended("cancelled", now_ns)
            elif isinstance(error, AcquireTimeoutError):
                self.tally.ended("timed_out", now_ns)
            elif isinstance(error, DoesNotFitError | ManagerClosedError):
                self.tally.ended("refused", now_ns)
            else:
                self.tally.ended("failed", now_ns)
                self.tally.trouble(error)
        else:
            now_ns = self.clock.now_ns()
            self.tally.ended("completed", now_ns, latency_ns=now_ns - at_ns)

    def _serve_until_done(
        self, sent: Sent, priority: int, job: Callable[[Lease, RunningCopy], None]
    ) -> None:
        """Acquire and do a job; once more, alone, where it ran out of memory in use.

        As ``ModelManager.run`` does, which tells nobody whether a grant was a hit.
        """
        at_ns, index = sent.raw[0], sent.raw[1]
        tag = self._scenario.models[index].tag
        timeout_ns = self._scenario.manager.wait_timeout_ns
        since_ns = at_ns
        alone = False
        while True:
            timeout_s: float | None = None
            if timeout_ns is not None:
                timeout_s = max(0, since_ns + timeout_ns - self.clock.now_ns()) / NS_PER_S
            lease = self._driver.acquire(
                tag,
                self._loaders[tag],
                timeout_s=timeout_s,
                priority=priority,
                alone=alone,
                ticketed=sent.ticketed,
            )
            sent.asked.set()
            self.tally.granted(tag, self.clock.now_ns() - at_ns, hit=lease.hit)
            try:
                with lease as copy:
                    job(lease, copy)
            except OutOfMemoryError:
                self.tally.ran_out()
                if not lease.exhausted or alone or self.clock.stopping:
                    raise
                alone = True
                since_ns = self.clock.now_ns()
                continue
            return

    def _decided(self, at_ns: int, actions: Sequence[Action]) -> None:
        """Take note of decisions; under the manager's lock."""
        self.tally.decided(actions)
        note_actions(self._log, at_ns - self.clock.origin_ns, actions)

    # Ending ----------------------------------------------------------------------------------

    def _end_requests(self, traffic: Traffic) -> None:
        """End what is waiting or at work, until nothing is."""
        until = time.monotonic() + _STOPPING_S
        for action in self._later.stop():
            action()
        while not traffic.wait_for_the_rest(0) and time.monotonic() < until:
            for sent in traffic.outstanding:
                if sent.ticket is not None:
                    self._driver.cancel(sent.ticket)
            self._striker.stop_all()
            traffic.wait_for_the_rest(_AGAIN_S)

    def _shut_down(self) -> None:
        self.clock.stopping = True
        with contextlib.suppress(ShutdownTimeoutError):
            self._manager.shutdown(timeout=_STOPPING_S)

    def _close_devices(self) -> None:
        for device in self._devices:
            device.close()

    def _rebased(self, evictions: Sequence[Eviction]) -> tuple[Eviction, ...]:
        """Return evictions that made room, their times since the scenario's start."""
        ahead_ns = self.clock.origin_ns - self._manager_started_ns
        return tuple(
            msgspec.structs.replace(eviction, at_ns=max(0, eviction.at_ns - ahead_ns))
            for eviction in evictions
            if eviction.reason in EVICTED_FOR
        )

    def outcome(
        self, *, partial: bool, machine: MachineInfo | None, costs: CostDatabase | None
    ) -> RunOutcome:
        """Return what it came to."""
        learned = None
        if costs is not None or machine is not None:
            learned = self._manager.learned(costs, machine=None if costs is not None else machine)
        sha256 = self._log.sha256()
        return RunOutcome(
            result=self.tally.result(
                devices=self._devices,
                started_at=self._started_at,
                machine=machine,
                decisions=self._log.count,
                decisions_sha256=sha256,
                learned=self._manager.estimator.learned(),
                evictions=self._evictions,
                partial=partial,
            ),
            learned=learned,
            evictions=self._evictions,
            lag_ns=figures([self.tally.lags]),
            troubles=dict(Counter(self.tally.troubles).most_common()),
        )


@contextlib.contextmanager
def _quick_switches() -> Generator[None]:
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(min(before_s, _SWITCH_INTERVAL_S))
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)
