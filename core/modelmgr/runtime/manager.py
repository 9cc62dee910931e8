"""The public manager: leases of models on shared devices, never more than fits.

It translates between people's units and the scheduler's, and keeps what is public: the monitor, the
estimator, the snapshot, the evictions. Threads and the lock are ``runtime.driver``'s, decisions are
``scheduling``'s.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from modelmgr.devices.fixed import FixedReader
from modelmgr.devices.reading import MemoryReader
from modelmgr.errors import (
    DeviceError,
    ManagerClosedError,
    ShutdownTimeoutError,
    UsageError,
)
from modelmgr.estimation.estimator import ResourceEstimator
from modelmgr.records.costs import CostDatabase, Eviction, EvictionCandidate, MachineInfo
from modelmgr.records.devices import DeviceDescription
from modelmgr.runtime.costs import CostsInput, preloaded_costs
from modelmgr.runtime.driver import Driver, Loader, Told
from modelmgr.runtime.learned_costs import learned_costs
from modelmgr.runtime.learning import UseLearner
from modelmgr.runtime.lease import Lease
from modelmgr.runtime.loaded import Loaded
from modelmgr.runtime.measurement import JobMeasurement, MeasuredCosts, own_costs
from modelmgr.runtime.monitor_reader import Monitor, MonitorReader
from modelmgr.runtime.shared_estimator import SharedEstimator
from modelmgr.runtime.snapshot import ManagerSnapshot, take_snapshot
from modelmgr.scheduling.actions import Action, StartUnload
from modelmgr.scheduling.admission import IsolationMode
from modelmgr.scheduling.beliefs import from_estimate
from modelmgr.scheduling.policies import EvictionPolicy
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.scheduling.settings import SchedulerSettings
from modelmgr.scheduling.states import CopyState
from modelmgr.units import MIB, NS_PER_S
from modelmgr.workload.policy_plugins import find_policy

Result = TypeVar("Result")
_LOG = logging.getLogger("modelmgr")
_EVICTIONS_KEPT = 100_000
_DEFAULT_TIMEOUT = object()
# Jobs after the first that are watched where only the device's readings tell what a model takes.
_MEASURED_AGAIN = 2
# What a second load may take more than the first: allocators and drivers round.
_NOISE = 1.02


class ModelManager:
    """Shares devices between models: loads, leases and evicts, from any number of threads.

    Args:
        monitor: watches the one device to manage: anything with ``get_stats()`` in MB.
        slack_percentage: share of a device that stays free, 0 to 1 (``monitor`` and detected
            devices; a device description brings its own).
        poll_interval: seconds between readings while somebody waits.
        peak_window_seconds: the window of the monitor that is made where none is given.
        min_data_points: readings before the estimator trusts the aggregates of an unknown model.
        smoothing_factor: the estimator's, in (0, 1].
        eviction_cooldown_seconds: how long after its last use a copy is safe from a request for one
            more copy of another model.
        min_model_copies: copies of a model that are safe from such a request.
        wait_timeout_seconds: how long ``acquire_model`` waits; 0 does not wait, None never ends.
        lock_timeout_seconds: accepted for compatibility; nothing waits for a lock.
        verbose_logging: log every decision at INFO to the logger ``modelmgr``.
        estimator: where costs are learned; a new one, which threads may share, where none is
            given. One that is given is used by the manager alone while the manager lives.
        costs: preloaded costs: a ``CostDatabase``, its path, or ``{tag: MB}``.
        devices: what to manage: descriptions, each gets a reader of its own. Neither ``monitor``
            nor ``devices`` means every CUDA device, and where there is none the host's memory.
        readers: readers to use for ``devices``, in order; they stay the caller's to close.
        policy: ``lru``, ``gdsf``, ``demand-tiers``, ``queue-value``, a name that a package
                registered (entry point ``modelmgr.policies``), or an ``EvictionPolicy``.
        isolation: ``beside`` or ``exclusive``: how an unknown model is measured.
        max_bypass: how often a waiting request may be passed over.
        max_model_copies: most copies of one model; None for no ceiling.
        unload: what to do with an instance that goes; by default its ``close()`` where it has one.

    Raises:
        UsageError: arguments that contradict each other or are out of range.
    """

    def __init__(  # noqa: PLR0917 - the original's signature, position by position
        self,
        monitor: Monitor | None = None,
        slack_percentage: float = 0.1,
        poll_interval: float = 0.5,
        peak_window_seconds: float = 30.0,
        min_data_points: int = 5,
        smoothing_factor: float = 0.2,
        eviction_cooldown_seconds: float = 10.0,
        min_model_copies: int = 1,
        wait_timeout_seconds: float | None = 300.0,
        lock_timeout_seconds: float = 60.0,
        verbose_logging: bool = False,
        *,
        estimator: ResourceEstimator | None = None,
        costs: CostsInput = None,
        devices: Sequence[DeviceDescription] | None = None,
        readers: Sequence[MemoryReader] | None = None,
        policy: str | EvictionPolicy = "queue-value",
        isolation: IsolationMode = "beside",
        max_bypass: int = 8,
        max_model_copies: int | None = None,
        unload: Callable[[Any], None] | None = None,
    ) -> None:
        _check_positive("poll_interval", poll_interval)
        _check_not_negative("eviction_cooldown_seconds", eviction_cooldown_seconds)
        _check_not_negative("lock_timeout_seconds", lock_timeout_seconds)
        _check_positive("peak_window_seconds", peak_window_seconds)
        for name, count in (
            ("min_model_copies", min_model_copies),
            ("max_model_copies", max_model_copies),
            ("max_bypass", max_bypass),
        ):
            if count is not None and type(count) is not int:
                raise UsageError(f"{name} must be a whole number, not {count!r}")
        if not 0 <= slack_percentage < 1:
            raise UsageError(f"slack_percentage must be in [0, 1), not {slack_percentage}")
        if monitor is not None and (devices is not None or readers is not None):
            raise UsageError("give either monitor= (one device) or devices=, not both")
        settings = SchedulerSettings(
            policy=find_policy(policy),
            explain=True,
            isolation=isolation,
            max_bypass=max_bypass,
            min_copies=min_model_copies,
            max_copies=max_model_copies,
            cooldown_ns=round(eviction_cooldown_seconds * NS_PER_S),
        )
        preloaded = preloaded_costs(costs)
        self.estimator = estimator or SharedEstimator(
            smoothing_factor=smoothing_factor,
            min_data_points=min_data_points,
            verbose_logging=verbose_logging,
        )
        self._verbose = verbose_logging
        self._wait_timeout_s = _seconds("wait_timeout_seconds", wait_timeout_seconds)
        self._started_ns = time.monotonic_ns()
        self._evictions: deque[Eviction] = deque(maxlen=_EVICTIONS_KEPT)
        self._shut_down = False
        self._own_readers: list[MemoryReader] = []
        self._monitor = monitor
        self._peak_window_s = peak_window_seconds
        self._poll_interval_s = poll_interval
        if monitor is not None:
            adapter = MonitorReader(monitor, slack=slack_percentage, poll_interval_s=poll_interval)
            adapter.start()
            self._own_readers.append(adapter)
            used: Sequence[MemoryReader] = [adapter]
        elif readers is not None:
            used = list(readers)
        else:
            self._own_readers = _open_readers(devices, slack_percentage)
            used = self._own_readers
        descriptions = [reader.description for reader in used]
        if devices is not None and readers is not None and len(devices) != len(descriptions):
            raise UsageError(f"{len(devices)} devices and {len(descriptions)} readers")
        scheduler = Scheduler(
            [(d.name, d.total_bytes, d.limit_bytes) for d in descriptions], settings
        )
        self._learner = UseLearner(self.estimator, len(used))
        self._driver = Driver(
            scheduler,
            used,
            unload=unload,
            poll_interval_s=poll_interval,
            known=self._known,
            measured=self._learn,
            measured_again=self._learn_again,
            exhausted=self._raise_estimate,
            grown=self._see_growth,
            observed=self._observe,
            learner=self._learner,
        )
        for tag, cost in preloaded.items():
            self.estimator.set_initial_estimate(tag, cost.peak_bytes / MIB)
            scheduler.set_costs(tag, cost, self._started_ns)
        self._driver.watch.read_all()

    # Acquiring and releasing -----------------------------------------------------------------

    def lease(
        self,
        tag: str,
        loader: Loader,
        *,
        timeout: float | object | None = _DEFAULT_TIMEOUT,
        priority: int = 0,
        worst_case_mb: float | None = None,
    ) -> Lease:
        """Return a lease of a copy of a model, loading one if that is what it takes.

        Args:
            tag: the model; everything with one tag is interchangeable.
            loader: makes an instance; runs in the calling thread. One with ``own_process = True``
                returns an instance in a process of its own (``pid``, ``alive``, ``memory()``).
            timeout: seconds to wait, instead of ``wait_timeout_seconds``.
            priority: lower is served first.
            worst_case_mb: what the model takes at most, should it be unknown, MB.

        Raises:
            AcquireTimeoutError: the wait ended first.
            DoesNotFitError: it can never fit; said at once, and nothing was evicted.
            ManagerClosedError: the manager was shut down.
            UsageError: called from within a loader of this manager.
            BaseException: whatever the loader raised, unchanged.
        """
        return self._acquire(
            tag, loader, timeout=timeout, priority=priority, worst_case_mb=worst_case_mb
        )

    def _acquire(
        self,
        tag: str,
        loader: Loader,
        *,
        timeout: float | object | None,
        priority: int,
        worst_case_mb: float | None,
        alone: bool = False,
    ) -> Lease:
        timeout_s = self._wait_timeout_s
        if timeout is not _DEFAULT_TIMEOUT:
            timeout_s = _seconds("timeout", timeout)
        _check_types(tag, priority)
        worst_case_bytes = None
        if worst_case_mb is not None:
            _check_positive("worst_case_mb", worst_case_mb)
            worst_case_bytes = round(worst_case_mb * MIB)
        return self._driver.acquire(
            tag,
            loader,
            timeout_s=timeout_s,
            priority=priority,
            worst_case_bytes=worst_case_bytes,
            alone=alone,
        )

    def acquire_model(self, tag: str, loader_func: Loader) -> Any:  # noqa: ANN401 - the loader's
        """Return an instance of a model; give it back with ``release_model``. See ``lease``."""
        return self.lease(tag, loader_func).instance

    def release_model(self, tag: str, instance: object) -> None:
        """Give an instance back.

        Raises:
            LeaseError: nobody holds it, or it is held under another tag; nothing changed.
        """
        self._driver.release_instance(tag, instance)

    def run(
        self,
        tag: str,
        loader: Loader,
        function: Callable[[Any], Result],
        *,
        timeout: float | object | None = _DEFAULT_TIMEOUT,
        priority: int = 0,
        worst_case_mb: float | None = None,
    ) -> Result:
        """Return ``function(instance)``, called with a lease; out-of-memory is retried once.

        When the model runs out of memory in use (the framework's own error, or the kernel's kill
        of its process), its copy is unloaded, its estimate rises, a device is drained, and the
        function is called once more with a copy that was loaded there.

        Args:
            tag: the model.
            loader: makes an instance; see ``lease``.
            function: what to do with it; called a second time after out-of-memory.
            timeout: seconds to wait for each of the two leases, instead of
                ``wait_timeout_seconds``.
            priority: lower is served first.
            worst_case_mb: what the model takes at most, should it be unknown, MB.

        Raises:
            BaseException: as ``lease`` does; whatever the function raised, out-of-memory only
                when it ran out the second time as well.
        """
        lease = self.lease(
            tag, loader, timeout=timeout, priority=priority, worst_case_mb=worst_case_mb
        )
        try:
            with lease as instance:
                return function(instance)
        except BaseException as error:
            if not lease.exhausted or not isinstance(error, Exception):
                raise
            _LOG.warning("%r ran out of memory in use and is tried once more alone", tag)
        again = self._acquire(
            tag,
            loader,
            timeout=timeout,
            priority=priority,
            worst_case_mb=worst_case_mb,
            alone=True,
        )
        with again as instance:
            return function(instance)

    # Questions -------------------------------------------------------------------------------

    @property
    def driver(self) -> Driver:
        """The threads' driver under this manager, for servers that lease on behalf of others."""
        return self._driver

    @property
    def monitor(self) -> Any:  # noqa: ANN401 - the caller's own, or ours
        """The monitor that was given; else a ``GPUMonitor`` over the first device."""
        if self._monitor is None:
            from modelmgr.devices.monitor import GPUMonitor  # noqa: PLC0415 - rarely asked for

            self._monitor = GPUMonitor(
                poll_interval=self._poll_interval_s,
                peak_window_seconds=self._peak_window_s,
                reader=self._driver.readers[0],
            )
        return self._monitor

    def all_models(self, tag: str) -> list[Any]:
        """Return the loaded instances of a model, in the order in which they were loaded."""
        with self._driver.gate:
            return [loaded.instance for loaded in self._driver.loaded.values() if loaded.tag == tag]

    def try_enter_isolation_mode(self, tag: str, ticket_num: int | None) -> bool:
        """Say whether a model could be measured alone now; changes nothing.

        ``ticket_num`` comes from ``snapshot().queue``; None asks for a newcomer.
        """
        with self._driver.gate:
            plan = self._driver.scheduler.plan_for(tag, ticket_num, time.monotonic_ns())
            return plan is not None and plan.isolated

    def should_spawn_model(self, tag: str, ticket_num: int | None) -> bool:
        """Say whether one more copy of a model could be loaded now; changes nothing."""
        with self._driver.gate:
            return self._driver.scheduler.plan_for(tag, ticket_num, time.monotonic_ns()) is not None

    def evictions(self) -> tuple[Eviction, ...]:
        """Return the evictions so far, explained, oldest first (the last 100,000)."""
        with self._driver.gate:
            return tuple(self._evictions)

    def learned(
        self, database: CostDatabase | None = None, *, machine: MachineInfo | None = None
    ) -> CostDatabase:
        """Return a cost database with what was learned in use; ``database`` is left as it is.

        What was measured in isolation stays, unless use has shown that it is too small.

        Args:
            database: what to add to, None for a new one.
            machine: what it was learned on; needed for a new database.

        Raises:
            UsageError: neither a database nor a machine.
        """
        self._learner.take()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return learned_costs(self._learner.learned(), database, created_at=now, machine=machine)

    def snapshot(self) -> ManagerSnapshot:
        """Return what is loaded, held, queued and reserved at this moment; immutable."""
        with self._driver.gate:
            return take_snapshot(self._driver.scheduler, self._driver.loaded, time.monotonic_ns())

    # Orders ----------------------------------------------------------------------------------

    def pin(self, tag: str) -> None:
        """Never evict copies of this model, loaded or yet to be."""
        self._driver.tell(lambda now_ns: self._driver.scheduler.pin(tag, now_ns))

    def unpin(self, tag: str) -> None:
        """Allow evicting copies of this model again."""
        self._driver.tell(lambda now_ns: self._driver.scheduler.pin(tag, now_ns, pinned=False))

    def force_reset(self) -> None:
        """Unload idle copies now and held ones when they are released; waiters go on."""
        self._driver.tell(self._driver.scheduler.reset)

    def shutdown(self, timeout: float | None = None) -> None:
        """Refuse requests, unload what is idle, wait for holders; a second call waits again.

        Args:
            timeout: seconds to wait for holders, ``wait_timeout_seconds`` where None; 0 does not
                wait. Copies that the calling thread itself holds are not waited for.

        Raises:
            ShutdownTimeoutError: holders were left; their copies go when they are released.
        """
        timeout_s = self._wait_timeout_s if timeout is None else _seconds("timeout", timeout)
        self._shut_down = True
        self._driver.tell(self._driver.scheduler.close)
        self._driver.wait_until(lambda: not self._awaited(), timeout_s)
        with self._driver.gate:
            holders = tuple(
                self._holder(number) for number in self._awaited() if self._held(number)
            )
        if holders:
            raise ShutdownTimeoutError(
                f"still in use after {timeout_s:g} s: {'; '.join(holders)}; "
                "they are unloaded when they are released",
                holders=holders,
            )
        for reader in self._own_readers:
            reader.close()

    def _held(self, number: int) -> bool:
        """Say whether a copy is in somebody's hands, or being loaded by somebody."""
        copy = self._driver.scheduler.copies[number]
        return copy.held or copy.state is CopyState.LOADING

    def _holder(self, number: int) -> str:
        loaded = self._driver.loaded.get(number)
        tag = self._driver.scheduler.copies[number].tag
        if loaded is None or loaded.lease is None:
            return f"{tag!r} (copy {number}) is being loaded"
        return f"{tag!r} (copy {number}) held by {loaded.lease.holder}"

    def _awaited(self) -> list[int]:
        """Return the copies that a shutdown waits for: all but the calling thread's own."""
        me = threading.get_ident()
        return [
            number
            for number in self._driver.scheduler.copies
            if not (
                (loaded := self._driver.loaded.get(number)) is not None
                and loaded.lease is not None
                and loaded.lease.holder_ident == me
            )
        ]

    def __enter__(self) -> Self:
        """Return the manager, or refuse where it was shut down."""
        if self._shut_down:
            raise ManagerClosedError("the manager was shut down; make a new one")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Shut down."""
        self.shutdown()

    # What the driver asks back ---------------------------------------------------------------

    def _known(self, tag: str, *, again: bool = False) -> Told:
        """Give the scheduler what the estimator knows, where it knows nothing or is told again."""
        scheduler = self._driver.scheduler
        model = scheduler.models.get(tag)
        if model is not None and model.costs is not None and not again:
            return _nothing
        try:
            if self.estimator.is_unknown(tag):
                return _nothing
            most_bytes = max(device.ledger.limit_bytes for device in scheduler.devices)
            load_ns = None if model is None else model.load_ns_seen
            costs = from_estimate(self.estimator.estimate(tag), load_ns, most_bytes=most_bytes)
        except Exception:  # noqa: BLE001 - an estimator of the caller's must not harm a request
            _LOG.warning("the estimator failed for %r", tag, exc_info=True)
            return _nothing

        def tell(now_ns: int) -> list[Action]:
            if costs is None or (scheduler.model(tag).costs is not None and not again):
                return []
            return scheduler.set_costs(tag, costs, now_ns)

        return tell

    def _learn(self, tag: str, loaded: Loaded) -> Told:
        """End an unknown model's measurement; the answer tells its figures."""
        figures: MeasuredCosts | None = None
        if loaded.tells_itself:
            figures = own_costs(loaded.instance)
        elif loaded.measurement is not None:
            figures = loaded.measurement.finish()
            loaded.measurement = None
        limit_bytes = self._driver.scheduler.devices[loaded.device].ledger.limit_bytes
        if figures is not None and not loaded.tells_itself:
            if figures.peak_bytes > limit_bytes:
                # It ran on this device, so this is not what it took: others moved the figure.
                figures = None
            else:
                loaded.resident_bytes = figures.resident_bytes
                loaded.measure_again = _MEASURED_AGAIN
        if figures is not None and self.estimator.is_unknown(tag):
            self.estimator.record_isolation(tag, figures.resident_bytes or None, figures.peak_bytes)
        return self._known(tag)

    def _learn_again(self, tag: str, loaded: Loaded, measurement: JobMeasurement) -> Told:
        """Take in what a later job added while it ran alone."""
        running_bytes = measurement.finish_running()
        if running_bytes is None:
            return _nothing
        resident_bytes = loaded.resident_bytes or 0
        peak_bytes = max(resident_bytes + running_bytes, MIB)
        self.estimator.record_isolation(tag, resident_bytes or None, peak_bytes)
        return self._known(tag, again=True)

    def _raise_estimate(self, tag: str, had_bytes: int) -> Told:
        """Take note that a model ran out of memory with so much charged to it."""
        scheduler = self._driver.scheduler
        model = scheduler.models.get(tag)
        known = None if model is None else model.costs
        ledgers = [device.ledger for device in scheduler.devices]
        most_bytes = max(ledger.limit_bytes - ledger.foreign_bytes for ledger in ledgers)
        raised = None
        if known is not None:
            raised = known.after_out_of_memory(max(had_bytes, known.needed_bytes), most_bytes)
        at_least = had_bytes if raised is None else raised.peak_bytes
        try:
            if at_least > 0:
                self.estimator.record_out_of_memory(tag, at_least)
        except Exception:  # noqa: BLE001 - an estimator of the caller's must not harm a request
            _LOG.warning("the estimator failed for %r", tag, exc_info=True)
        if raised is None:
            return _nothing
        costs = raised
        return lambda now_ns: scheduler.set_costs(tag, costs, now_ns)

    def _see_growth(self, tag: str, grown_bytes: int) -> Told:
        """Raise what a model costs where loading it again took more than it is taken to cost.

        Its isolation run may have been spoiled by others who gave memory back meanwhile. Less says
        nothing: an allocator may have kept room from the last time.
        """
        scheduler = self._driver.scheduler
        known = scheduler.model(tag).costs
        if known is None:
            return _nothing
        running_bytes = known.peak_bytes - known.resident_bytes
        estimate = self.estimator.estimate(tag)
        believed_bytes = None if estimate is None else estimate.resident_bytes
        if believed_bytes is not None and grown_bytes > believed_bytes * _NOISE:
            self.estimator.record_isolation(tag, grown_bytes, grown_bytes + running_bytes)
        if grown_bytes <= known.resident_bytes * _NOISE:
            return _nothing
        peak_bytes = max(known.peak_bytes, grown_bytes + running_bytes)
        costs = replace(known, resident_bytes=grown_bytes, peak_bytes=peak_bytes)
        return lambda now_ns: scheduler.set_costs(tag, costs, now_ns)

    def _observe(self, action: Action) -> None:
        """Log a decision and keep evictions. Under the lock."""
        if self._verbose:
            _LOG.info("%s", action)
        if isinstance(action, StartUnload):
            self._evictions.append(
                Eviction(
                    at_ns=time.monotonic_ns() - self._started_ns,
                    device=self._driver.scheduler.devices[action.device].name,
                    tag=action.tag,
                    copy=action.copy,
                    reason=action.reason,
                    requested_by=action.requested_by,
                    freed_bytes=action.freed_bytes,
                    candidates=tuple(
                        EvictionCandidate(
                            tag=c.tag, copy=c.copy, value=c.value, size_bytes=c.size_bytes
                        )
                        for c in action.candidates
                    ),
                    chosen=action.chosen,
                    instead=dict(action.instead),
                )
            )


def _nothing(_: int) -> list[Action]:
    """Tell nothing."""
    return []


def _open_readers(devices: Sequence[DeviceDescription] | None, slack: float) -> list[MemoryReader]:
    """Open a reader for each device; those of the machine where none are named."""
    from modelmgr.devices.discovery import discover  # noqa: PLC0415 - opens NVML

    if devices is None:
        return list(discover(slack=slack))
    if not devices:
        raise UsageError("devices= is empty; leave it out to manage what the machine has")
    opened: list[MemoryReader] = []
    try:
        opened.extend(_open(description) for description in devices)
    except DeviceError:
        for reader in opened:
            reader.close()
        raise
    return opened


def _open(description: DeviceDescription) -> MemoryReader:
    """Open the reader of one device's kind."""
    match description.kind:
        case "cuda":
            from modelmgr.devices.nvml import NvmlReader  # noqa: PLC0415 - opens NVML

            return NvmlReader(description)
        case "host":
            from modelmgr.devices.host import HostReader  # noqa: PLC0415 - reads /proc

            return HostReader(description)
        case "fixed" | "virtual":
            return FixedReader(description)


def _check_types(tag: object, priority: object) -> None:
    if type(priority) is not int:
        raise UsageError(f"priority must be a whole number, not {priority!r}")
    if not isinstance(tag, str):
        raise UsageError(f"a tag is a text, not {tag!r}")


def _seconds(name: str, value: object) -> float | None:
    """Return a time-out in seconds; None and infinity never end."""
    if value is None:
        return None
    if not isinstance(value, int | float) or math.isnan(value) or value < 0:
        raise UsageError(f"{name} must be seconds, 0 or more, or None; not {value!r}")
    return None if math.isinf(value) else float(value)


def _check_positive(name: str, value: float) -> None:
    if not math.isfinite(value) or value <= 0:
        raise UsageError(f"{name} must be a positive number, not {value!r}")


def _check_not_negative(name: str, value: float) -> None:
    if not math.isfinite(value) or value < 0:
        raise UsageError(f"{name} must be a number, 0 or more; not {value!r}")
