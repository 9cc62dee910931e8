"""The public manager: leases of models on shared devices, never more than fits.

It translates between people's units and the scheduler's, and keeps what is public: the monitor, the
estimator, the snapshot, the evictions. Threads and the lock are ``runtime.driver``'s, decisions are
``scheduling``'s.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

from modelmgr.arguments import (
    as_seconds,
    as_whole,
    check_has,
    check_not_negative,
    check_positive,
    check_share,
    check_tag,
)
from modelmgr.devices.reading import MemoryReader
from modelmgr.errors import (
    ManagerClosedError,
    ShutdownTimeoutError,
    UsageError,
)
from modelmgr.estimation.estimator import ResourceEstimator
from modelmgr.records.costs import CostDatabase, Eviction, EvictionCandidate, MachineInfo
from modelmgr.records.devices import DeviceDescription
from modelmgr.runtime.callers_lease import Lease
from modelmgr.runtime.cost_keeping import CostKeeper
from modelmgr.runtime.costs import CostsInput, preloaded_costs
from modelmgr.runtime.counters import ManagerCounters
from modelmgr.runtime.driver import Driver, Loader
from modelmgr.runtime.learned_costs import learned_costs
from modelmgr.runtime.learning import UseLearner
from modelmgr.runtime.lease import Lease as Record
from modelmgr.runtime.monitor_reader import Monitor, MonitorReader
from modelmgr.runtime.open_scheduler import OpenScheduler
from modelmgr.runtime.opening import open_readers
from modelmgr.runtime.shared_estimator import SharedEstimator
from modelmgr.runtime.snapshot import ManagerSnapshot, take_snapshot
from modelmgr.scheduling.actions import Action, StartUnload
from modelmgr.scheduling.policies import EvictionPolicy
from modelmgr.scheduling.settings import IsolationMode, SchedulerSettings
from modelmgr.scheduling.states import CopyState
from modelmgr.units import MIB, NS_PER_S
from modelmgr.workload.policy_plugins import find_policy

Result = TypeVar("Result")
_LOG = logging.getLogger("modelmgr")
_EVICTIONS_KEPT = 100_000
_DEFAULT_TIMEOUT = object()


class ModelManager:
    """Shares devices between models: loads, leases and evicts, from any number of threads.

    It is of the process that made it: a forked child gets UsageError, and harms nothing.

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
        learn_in_use: read the devices every ``poll_interval`` as long as a model is in use, to
            learn from it; without it they are read only while somebody waits.

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
        lock_timeout_seconds: float | None = 60.0,
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
        learn_in_use: bool = True,
    ) -> None:
        check_positive("poll_interval", poll_interval)
        check_not_negative("eviction_cooldown_seconds", eviction_cooldown_seconds)
        as_seconds("lock_timeout_seconds", lock_timeout_seconds)
        check_positive("peak_window_seconds", peak_window_seconds)
        if max_model_copies is not None:
            max_model_copies = as_whole("max_model_copies", max_model_copies, least=1)
        check_share("slack_percentage", slack_percentage)
        if monitor is not None:
            check_has("monitor", monitor, "get_stats")
        if estimator is not None:
            check_has("estimator", estimator, "get_estimate", "set_initial_estimate")
        if unload is not None and not callable(unload):
            raise UsageError(f"unload must be a function of an instance, not {unload!r}")
        if monitor is not None and (devices is not None or readers is not None):
            raise UsageError("give either monitor= (one device) or devices=, not both")
        settings = SchedulerSettings(
            policy=find_policy(policy),
            explain=True,
            isolation=isolation,
            max_bypass=as_whole("max_bypass", max_bypass, least=0),
            min_copies=as_whole("min_model_copies", min_model_copies, least=0),
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
        self._wait_timeout_s = as_seconds("wait_timeout_seconds", wait_timeout_seconds)
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
            self._own_readers = open_readers(devices, slack_percentage)
            used = self._own_readers
        descriptions = [reader.description for reader in used]
        if devices is not None and readers is not None and len(devices) != len(descriptions):
            raise UsageError(f"{len(devices)} devices and {len(descriptions)} readers")
        scheduler = OpenScheduler(
            [(d.name, d.total_bytes, d.limit_bytes) for d in descriptions], settings
        )
        self._learner = UseLearner(self.estimator, len(used))
        self._counters = ManagerCounters()
        self._driver = Driver(
            scheduler,
            used,
            unload=unload,
            poll_interval_s=poll_interval,
            keeper=CostKeeper(scheduler, self.estimator),
            observed=self._observe,
            tells_hits=verbose_logging,
            learner=self._learner,
            learn_in_use=learn_in_use,
            counters=self._counters,
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

        Keep it for as long as the instance is used: one that is forgotten is given back.

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
        if timeout is _DEFAULT_TIMEOUT and worst_case_mb is None:
            check_tag(tag)
            if type(priority) is not int:
                priority = as_whole("priority", priority)
            # Nothing else is asked for, mostly, and a copy is there: the shortest way.
            record = self._driver.hit(tag)
            if record is not None:
                return Lease(record, self._driver.gate)
        record = self._acquire(
            tag, loader, timeout=timeout, priority=priority, worst_case_mb=worst_case_mb
        )
        return Lease(record, self._driver.gate)

    def _acquire(
        self,
        tag: str,
        loader: Loader,
        *,
        timeout: float | object | None = _DEFAULT_TIMEOUT,
        priority: int = 0,
        worst_case_mb: float | None = None,
        alone: bool = False,
    ) -> Record:
        timeout_s = self._wait_timeout_s
        if timeout is not _DEFAULT_TIMEOUT:
            timeout_s = as_seconds("timeout", timeout)
        check_tag(tag)
        worst_case_bytes = None
        if worst_case_mb is not None:
            check_positive("worst_case_mb", worst_case_mb)
            worst_case_bytes = round(float(worst_case_mb) * MIB)
        return self._driver.acquire(
            tag,
            loader,
            timeout_s=timeout_s,
            priority=as_whole("priority", priority),
            worst_case_bytes=worst_case_bytes,
            alone=alone,
        )

    def acquire_model(self, tag: str, loader_func: Loader) -> Any:  # noqa: ANN401 - the loader's
        """Return an instance of a model; give it back with ``release_model``. See ``lease``.

        Nothing else ends that it is held, not even the end of the thread that acquired it.
        """
        if type(tag) is str:
            record = self._driver.hit(tag)
            if record is not None:
                return record.instance
        return self._acquire(tag, loader_func).instance

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
        with Lease(again, self._driver.gate) as instance:
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
        with self._driver.gate.settled, self._driver.gate.lock:
            return [loaded.instance for loaded in self._driver.loaded.values() if loaded.tag == tag]

    def try_enter_isolation_mode(self, tag: str, ticket_num: int | None) -> bool:
        """Say whether a model could be measured alone now; changes nothing.

        ``ticket_num`` comes from ``snapshot().queue``; None asks for a newcomer.
        """
        ticket_num = _checked_question(tag, ticket_num)
        with self._driver.gate.settled, self._driver.gate.lock:
            plan = self._driver.scheduler.plan_for(tag, ticket_num, time.monotonic_ns())
            return plan is not None and plan.isolated

    def should_spawn_model(self, tag: str, ticket_num: int | None) -> bool:
        """Say whether one more copy of a model could be loaded now; changes nothing."""
        ticket_num = _checked_question(tag, ticket_num)
        with self._driver.gate.settled, self._driver.gate.lock:
            return self._driver.scheduler.plan_for(tag, ticket_num, time.monotonic_ns()) is not None

    def evictions(self, last: int | None = None) -> tuple[Eviction, ...]:
        """Return the evictions so far, explained, oldest first (the last 100,000).

        Args:
            last: only so many, the newest; None for all.
        """
        last = None if last is None else as_whole("last", last, least=0)
        with self._driver.gate.settled, self._driver.gate.lock:
            if last is None:
                return tuple(self._evictions)
            newest = tuple(islice(reversed(self._evictions), last))
        return newest[::-1]

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
        self._driver.watch.learn()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return learned_costs(self._learner.learned(), database, created_at=now, machine=machine)

    def snapshot(self) -> ManagerSnapshot:
        """Return what is loaded, held, queued and reserved at this moment; immutable."""
        totals = self._counters.totals()
        with self._driver.gate.settled, self._driver.gate.lock:
            return take_snapshot(
                self._driver.scheduler, self._driver.loaded, time.monotonic_ns(), totals=totals
            )

    # Orders ----------------------------------------------------------------------------------

    def pin(self, tag: str) -> None:
        """Never evict copies of this model, loaded or yet to be."""
        check_tag(tag)
        self._driver.tell(lambda now_ns: self._driver.scheduler.pin(tag, now_ns))

    def unpin(self, tag: str) -> None:
        """Allow evicting copies of this model again."""
        check_tag(tag)
        self._driver.tell(lambda now_ns: self._driver.scheduler.pin(tag, now_ns, pinned=False))

    def force_reset(self) -> None:
        """Unload idle copies now and held ones when they are released; waiters go on."""
        self._driver.tell(self._driver.scheduler.reset)

    def shutdown(self, timeout: float | None = None) -> None:
        """Refuse requests, unload what is idle, wait for holders; a second call waits again.

        Args:
            timeout: seconds to wait for holders and unloads, ``wait_timeout_seconds`` where None;
                0 does not wait, and leaves unloads to themselves. Copies that the calling thread
                itself holds, loads or unloads (its loader, or a signal handler that interrupted it,
                called this) are not waited for.

        Raises:
            ShutdownTimeoutError: holders were left, whose copies go when they are released, or
                unloads, which go on.
        """
        timeout_s = self._wait_timeout_s if timeout is None else as_seconds("timeout", timeout)
        self._shut_down = True
        if self._driver.gate.foreign or self._driver.gate.abandoned():
            return  # it is a parent's; or a finaliser calls, and the rest goes with the process
        self._driver.tell(self._driver.scheduler.close)
        waits = timeout_s != 0 and self._driver.may_wait
        self.wait_until_free(timeout_s)
        with self._driver.gate.settled, self._driver.gate.lock:
            late = self._awaited()
            holders = tuple(self._holder(number) for number in late if self._held(number))
            unloading = tuple(
                f"{self._driver.loaded[number].tag!r} (copy {number})"
                for number in late
                if waits and self._unloads(number)
            )
        if holders or unloading:
            raise _still_there(holders, unloading, timeout_s)
        for reader in self._own_readers:
            reader.close()

    def wait_until_free(self, timeout: float | None) -> bool:
        """Wait until no copy is left but the calling thread's own; changes nothing.

        Args:
            timeout: seconds to wait at most, None for ever.

        Returns:
            Whether it came to that.
        """
        timeout_s = as_seconds("timeout", timeout)
        return self._driver.wait_until(lambda: not self._awaited(), timeout_s)

    def _held(self, number: int) -> bool:
        """Say whether a copy is in somebody's hands, or being loaded by somebody."""
        copy = self._driver.scheduler.copies[number]
        return copy.held or copy.state is CopyState.LOADING

    def _unloads(self, number: int) -> bool:
        """Say whether a copy's unload runs; not whether its memory was seen to be back."""
        copy = self._driver.scheduler.copies[number]
        return copy.state is CopyState.UNLOADING and number in self._driver.loaded

    def _holder(self, number: int) -> str:
        loaded = self._driver.loaded.get(number)
        tag = self._driver.scheduler.copies[number].tag
        if loaded is None or loaded.lease is None:
            return f"{tag!r} (copy {number}) is being loaded"
        return f"{tag!r} (copy {number}) held by {loaded.lease.holder}"

    def _awaited(self) -> list[int]:
        """Return the copies that a shutdown waits for: all but the calling thread's own."""
        own = self._driver.copies_of_thread(threading.get_ident())
        return [number for number in self._driver.scheduler.copies if number not in own]

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


def _checked_question(tag: str, ticket_num: int | None) -> int | None:
    """Refuse what is no tag or no ticket; return the ticket's number."""
    check_tag(tag)
    return None if ticket_num is None else as_whole("ticket_num", ticket_num)


def _still_there(
    holders: tuple[str, ...], unloading: tuple[str, ...], timeout_s: float | None
) -> ShutdownTimeoutError:
    after = "" if timeout_s is None else f" after {timeout_s:g} s"
    told: list[str] = []
    if holders:
        told.append(
            f"still in use{after}: {'; '.join(holders)}; they are unloaded when they are released"
        )
    if unloading:
        told.append(
            f"still being unloaded{after}: {'; '.join(unloading)}; a further shutdown() waits on"
        )
    return ShutdownTimeoutError(". ".join(told), holders=holders, unloading=unloading)
