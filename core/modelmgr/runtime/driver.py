"""The threaded driver of the scheduler: a lock, a clock, waiting threads, real loads and unloads.

The lock guards the scheduler and the tables beside it, and nothing else: it is never held while a
loader, an unload or a device reading runs. Loaders run in the thread that acquires. Unloads run in
threads of their own, so that neither a release nor a hit waits for one. ``runtime.watching`` reads
the devices and lets time pass while somebody waits.

It is one class, and longer than others, because it is one protocol: what a thread does between
asking and releasing, and what may interrupt it at every step. What models cost is
``runtime.cost_keeping``'s, readings and time are ``runtime.watching``'s.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from modelmgr.devices.oom_kills import kernel_oom_kills
from modelmgr.devices.reading import MemoryReader
from modelmgr.errors import (
    DeviceError,
    LeaseError,
    UsageError,
    WorkerDiedError,
)
from modelmgr.runtime.bounded_reader import PATIENCE_S, BoundedReader
from modelmgr.runtime.cost_keeping import CostKeeper, Told
from modelmgr.runtime.counters import ManagerCounters
from modelmgr.runtime.forked import leave_to_parent_at_fork
from modelmgr.runtime.gate import Bell, Gate
from modelmgr.runtime.learning import UseLearner
from modelmgr.runtime.lease import Lease
from modelmgr.runtime.loaded import Loaded
from modelmgr.runtime.measurement import JobMeasurement
from modelmgr.runtime.own_peaks import OwnPeaks
from modelmgr.runtime.refusals import refused
from modelmgr.runtime.watching import NEVER_READ, DeviceWatch
from modelmgr.scheduling.actions import Action, Grant, Refusal, Reject, StartLoad, StartUnload
from modelmgr.scheduling.copies import Copy
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.scheduling.states import CopyState
from modelmgr.units import NS_PER_S
from modelmgr.workers.loaders.exhaustion import is_out_of_memory
from modelmgr.workers.loaders.messages import told

_LOG = logging.getLogger("modelmgr")
Loader = Callable[[], Any]
# A request that does not wait still gets this much of a reading.
_LEAST_PATIENCE_S = 0.1
_BETWEEN_LOOKS_S = 0.5


class _Waiter:
    """Where a waiting thread gets its ticket's actions."""

    __slots__ = ("_ready", "actions", "error", "lease", "thread_ident")

    def __init__(self) -> None:
        self.thread_ident = threading.get_ident()
        self.actions: deque[Grant | StartLoad | Reject] = deque()
        self._ready = Bell()
        self.error: BaseException | None = None
        self.lease: Lease | None = None

    def put(self, action: Grant | StartLoad | Reject) -> None:
        self.actions.append(action)
        self._ready.ring()

    def wait(self, timeout_s: float | None) -> None:
        if not self.actions:
            self._ready.wait(timeout_s)


class Driver:
    """Runs a scheduler for real.

    Args:
        scheduler: the brain; this driver alone calls it.
        readers: one reader for each of the scheduler's devices, in order.
        unload: what to do with an instance that goes; None calls its ``close`` where it has one.
        poll_interval_s: how often devices are read while somebody waits.
        keeper: keeps the scheduler's costs in step with what is measured.
        observed: called with every action, in order, under the lock.
        tells_hits: whether that includes grants of idle copies to newcomers: they are most of what
            happens, and who only wants to know about loads and unloads need not pay for them.
        learner: learns from readings while models are in use.
        learn_in_use: read the devices as long as a model is in use, to learn from it.
        counters: counts what happens.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        readers: Sequence[MemoryReader],
        *,
        unload: Callable[[Any], None] | None,
        poll_interval_s: float,
        keeper: CostKeeper,
        observed: Callable[[Action], None],
        tells_hits: bool,
        learner: UseLearner,
        learn_in_use: bool,
        counters: ManagerCounters,
    ) -> None:
        self.scheduler = scheduler
        self.gate = Gate()
        self.loaded: dict[int, Loaded] = {}
        self.readers = tuple(BoundedReader(reader) for reader in readers)
        self._unload = unload
        self._poll_interval_s = poll_interval_s
        self._keeper = keeper
        self._learner = learner
        self._generations = learner.generations
        self._own_peaks = None
        if learn_in_use:
            self._own_peaks = OwnPeaks(learner, period_ns=round(poll_interval_s * NS_PER_S))
        self._observed = observed
        self._tells_hits = tells_hits
        self._counters = counters
        self._waiters: dict[int, _Waiter] = {}
        self._device_names = tuple(device.name for device in scheduler.devices)
        self.watch = DeviceWatch(
            scheduler,
            self.readers,
            self.loaded,
            gate=self.gate,
            tell=self._tell,
            lose=self._lose,
            learner=learner,
            learn_in_use=learn_in_use,
            poll_interval_s=poll_interval_s,
        )
        # By device: counts grants, releases, loads and unloads, so that a job can be seen to have
        # been alone.
        self._activity = [0] * len(self.readers)
        # The leases in force by the identity of what they hold: one object may be several copies.
        self._held: dict[int, tuple[Lease, ...]] = {}
        # The threads that are running a loader. A thread-local attribute that is missing costs more
        # to ask for than everything else that a hit does before it takes the lock.
        self._loading_threads: set[int] = set()
        # Which thread unloads a copy.
        self._unloading: dict[int, int] = {}
        leave_to_parent_at_fork(self)

    def leave_to_parent(self) -> None:
        """Forget, in a forked child, what is the parent's: the end of a lease changes nothing."""
        self.gate.leave_to_parent()
        self._parents = self.loaded  # not freed here: its finalisers are the parent's to run
        self.loaded = {}
        self._held = {}

    # Acquiring -------------------------------------------------------------------------------

    def acquire(
        self,
        tag: str,
        loader: Loader,
        *,
        timeout_s: float | None,
        priority: int = 0,
        worst_case_bytes: int | None = None,
        alone: bool = False,
        ticketed: Callable[[int], None] | None = None,
    ) -> Lease:
        """Return a lease of a copy of a model; see ``ModelManager.lease``.

        Args:
            tag: the model.
            loader: makes an instance.
            timeout_s: how long to wait, None for ever.
            priority: lower is served first.
            worst_case_bytes: what the model takes at most, should it be unknown.
            alone: load a new copy on a drained device: the last one ran out of memory in use.
            ticketed: told the number of each ticket that has to wait, for ``cancel``.
        """
        if not alone:
            lease = self.hit(tag)
            if lease is not None:
                return lease
        else:
            self._check_may_acquire()
        submitted_ns = time.monotonic_ns()
        deadline_ns = None if timeout_s is None else submitted_ns + round(timeout_s * NS_PER_S)
        if threading.get_ident() in tuple(self._unloading.values()):
            raise UsageError("an unload may not wait for a model of the manager that is running it")
        own_process = bool(getattr(loader, "own_process", False))
        with self.gate.settled, self.gate.lock:
            idle = not alone and self.scheduler.has_idle(tag)
        if not idle:
            # A load is dear and a reading is not: nothing is admitted on an old one.
            within_s = PATIENCE_S if timeout_s is None else min(PATIENCE_S, timeout_s)
            self.watch.read_all(max(_LEAST_PATIENCE_S, within_s))
        while True:
            waiter = _Waiter()
            known = self._keeper.known(tag)
            num = None
            try:
                with self.gate.settled, self.gate.lock:
                    now_ns = time.monotonic_ns()
                    self._route(known(now_ns))
                    num, actions = self.scheduler.request(
                        tag,
                        now_ns,
                        priority=priority,
                        deadline_ns=deadline_ns,
                        worst_case_bytes=worst_case_bytes,
                        own_process=own_process,
                        alone=alone,
                    )
                    self._waiters[num] = waiter
                    self._route(actions)
                if ticketed is not None:
                    ticketed(num)
                lease = self._wait(loader, waiter, deadline_ns)
                with self.gate.settled, self.gate.lock:
                    del self._waiters[num]
                self._counters.waited(tag, time.monotonic_ns() - submitted_ns)
                if not self._died_idle(lease):
                    self._measure_again(lease)
                    return lease
            except BaseException:
                self._give_up(num, waiter)
                raise
            finally:
                # The error's traceback knows _wait's frame: without this, a failed load would live
                # on.
                waiter.error = None

    def _check_may_acquire(self) -> None:
        if self._loading_threads and threading.get_ident() in self._loading_threads:
            raise UsageError("a loader may not acquire from the manager that is running it")
        if self.gate.inside():
            raise UsageError("a finaliser or signal handler may not acquire a model")

    def hit(self, tag: str) -> Lease | None:
        """Return a lease of an idle copy where nobody waits for anything, None where there is none.

        This is what production does all day, so it takes the lock once and nothing else.
        """
        gate = self.gate
        if self._loading_threads or gate.inside():
            self._check_may_acquire()
        # Looked up anew each time: somebody may have begun to listen.
        hand_out = self._hand_out_and_tell if self._tells_hits else self.scheduler.hand_out
        while True:
            copy = lease = None
            try:
                with gate.settled, gate.lock:
                    copy = hand_out(tag, time.monotonic_ns())
                    if copy is None:
                        return None
                    number = copy.number
                    loaded = self.loaded[number]
                    loaded.counts.immediate_hits += 1
                    device = copy.device
                    self._activity[device] += 1  # as _changed: this is on the way of every hit
                    self._generations[device] += 1
                    lease = self._lease(number, copy.lease or 0, loaded, True)
                if self.watch.asleep:
                    self.watch.wake()
                if loaded.own_process:
                    if self._died_idle(lease):
                        continue
                    if self._own_peaks is not None and loaded.tells_itself:
                        self._own_peaks.begin(loaded)
                if loaded.measure_again:
                    self._measure_again(lease)
                return lease  # noqa: TRY300 - an interrupt may come here as well
            except BaseException:  # interrupted: the caller never gets to know of it
                self._take_back(copy, lease)
                raise

    def _hand_out_and_tell(self, tag: str, now_ns: int) -> Copy | None:
        """As the scheduler's ``hand_out``, and let the grant be known."""
        grant = self.scheduler.hit(tag, now_ns)
        if grant is None:
            return None
        self._observed(grant)
        return self.scheduler.copies[grant.copy]

    def cancel(self, ticket_num: int) -> None:
        """End another thread's waiting request; one that was granted or ended is left alone."""
        self.tell(lambda now_ns: self.scheduler.cancel(ticket_num, now_ns))

    def _wait(self, loader: Loader, waiter: _Waiter, deadline_ns: int | None) -> Lease:
        """Do what the scheduler orders for a ticket until it is granted or refused."""
        while True:
            if not waiter.actions:
                self.watch.wake()
                timeout_s = None
                if deadline_ns is not None:
                    timeout_s = max(0.0, (deadline_ns - time.monotonic_ns()) / NS_PER_S)
                waiter.wait(timeout_s)
            if not waiter.actions:
                self._tell(self.scheduler.deadline)
                continue
            # It stays first in line until it is dealt with, should this thread be interrupted.
            action = waiter.actions[0]
            if isinstance(action, Grant):
                with self.gate.settled, self.gate.lock:
                    loaded = self.loaded[action.copy]
                    waiter.lease = self._lease(action.copy, action.lease, loaded, action.hit)
                waiter.actions.popleft()
                if self.watch.asleep:
                    self.watch.wake()
                return waiter.lease
            if isinstance(action, Reject):
                raise self._refusal(action, waiter)
            self._load(action, loader, waiter)
            waiter.actions.popleft()

    def _give_up(self, num: int | None, waiter: _Waiter) -> None:
        """End a ticket whose thread leaves; what was granted to it meanwhile goes back."""

        def end(now_ns: int) -> list[Action]:
            if num is None or self._waiters.pop(num, None) is None:
                return []
            actions = self.scheduler.cancel(num, now_ns)
            for action in waiter.actions if waiter.lease is None else ():
                if isinstance(action, Grant):
                    actions += self.scheduler.release(action.copy, action.lease, now_ns)
                elif isinstance(action, StartLoad):
                    actions += self.scheduler.load_failed(action.copy, now_ns, "its caller left")
            return actions

        self._tell(end)
        self._take_back(None, waiter.lease)

    def _changed(self, device: int) -> None:
        """Note that something was granted, released or ordered on a device. Under the lock."""
        self._activity[device] += 1
        self._generations[device] += 1

    def _lease(self, copy: int, serial: int, loaded: Loaded, hit: bool) -> Lease:
        """Make the lease of a grant. Under the lock.

        Whoever is interrupted in here has made none: nothing is called once it is entered.
        """
        instance = loaded.instance
        key = id(instance)
        lease = Lease(
            self,
            loaded.tag,
            self._device_names[loaded.device],
            copy,
            serial,
            hit,
            threading.current_thread(),
            instance,
        )
        loaded.lease = lease
        held = self._held
        held[key] = (*held[key], lease) if key in held else (lease,)
        return lease

    def _unlease(self, loaded: Loaded) -> None:
        """Note that nobody holds a copy any more. Under the lock."""
        lease, loaded.lease = loaded.lease, None
        if lease is None:
            return
        self._unhold(loaded.instance, lease)

    def _unhold(self, instance: object, lease: Lease) -> None:
        """Forget that an instance is held under a lease. Under the lock."""
        key = id(instance)
        held = self._held[key]
        if len(held) == 1:
            del self._held[key]
        else:
            self._held[key] = tuple(other for other in held if other is not lease)

    def _refusal(self, action: Reject, waiter: _Waiter) -> BaseException:
        """Return what to raise for a ticket that ended without a copy."""
        ended_early = action.refusal in {Refusal.LOAD_FAILED, Refusal.TIMED_OUT}
        if ended_early and waiter.error is not None:
            return waiter.error
        with self.gate.settled, self.gate.lock:
            return refused(
                action,
                self.scheduler,
                self.loaded,
                thread_ident=waiter.thread_ident,
                now_ns=time.monotonic_ns(),
            )

    # Loading ---------------------------------------------------------------------------------

    def _load(self, action: StartLoad, loader: Loader, waiter: _Waiter) -> None:
        """Run the loader for a copy and tell the scheduler how it ended."""
        reader = self.readers[action.device]
        own_process = bool(getattr(loader, "own_process", False))
        if not own_process and reader.description.kind == "host":
            with contextlib.suppress(DeviceError):
                reader.track(os.getpid())
        measurement = None
        kind = reader.description.kind
        tells_itself = own_process and kind == "host"
        if action.isolated and kind not in NEVER_READ and not tells_itself:
            measurement = JobMeasurement(reader, patience_s=2 * self._poll_interval_s)
        growth = None
        if not own_process and measurement is None and kind not in NEVER_READ:
            growth = self._watch_growth(action)
        oom_kills = kernel_oom_kills() if own_process else None
        thread_id = threading.get_ident()
        self._loading_threads.add(thread_id)
        began_ns = time.monotonic_ns()
        try:
            placed_on: Any = getattr(loader, "placed_on", None)
            here = loader if placed_on is None else placed_on(reader.description)
            instance: Any = here()
        except BaseException as error:
            waiter.error = error
            self._load_failed(action, error, oom_kills)
            if not isinstance(error, Exception):
                raise
            return
        finally:
            self._loading_threads.discard(thread_id)
        self._counters.loaded(action.tag, time.monotonic_ns() - began_ns)
        self._take_in(action, instance, own_process, tells_itself, measurement, oom_kills)
        if growth is not None:
            grown_bytes = growth()
            if grown_bytes is not None:
                self._tell(self._keeper.grown(action.tag, grown_bytes))

    def _take_in(  # noqa: PLR0917 - all that is known of a load that ended well
        self,
        action: StartLoad,
        instance: Any,  # noqa: ANN401 - whatever the loader returned
        own_process: bool,
        tells_itself: bool,
        measurement: JobMeasurement | None,
        oom_kills: int | None,
    ) -> None:
        """Keep what a loader returned, and tell the scheduler; close it where that fails."""
        reader = self.readers[action.device]
        pid = getattr(instance, "pid", None) if own_process else None
        if isinstance(pid, int):
            with contextlib.suppress(DeviceError):
                reader.track(pid)
        else:
            pid = None
        try:
            if measurement is not None:
                measurement.loaded()
            loaded = Loaded(
                instance,
                action.tag,
                action.device,
                own_process,
                pid,
                first_job=action.isolated,
                tells_itself=tells_itself,
                measurement=measurement,
                oom_kills=oom_kills,
                counts=self._counters.of(action.tag),
            )
            with self.gate.settled, self.gate.lock:
                self.loaded[action.copy] = loaded
                self._learner.changed(action.device)
                self._route(self.scheduler.load_finished(action.copy, time.monotonic_ns()))
        except BaseException:
            if action.copy not in self.loaded:
                if measurement is not None:
                    measurement.cancel()
                self._close(instance, action.tag)
                self._tell(lambda now: self.scheduler.load_failed(action.copy, now, "interrupted"))
            raise
        self.watch.read(action.device)

    def _watch_growth(self, action: StartLoad) -> Callable[[], int | None] | None:
        """Return what tells by how much a device's use grew while a copy was loaded into it.

        Only where nothing else happens there; None where something does, or nothing can be read.
        """
        reader = self.readers[action.device]
        with self.gate.settled, self.gate.lock:
            device = self.scheduler.devices[action.device]
            quiet = not reader.polls_itself and all(
                copy.number == action.copy or copy.state is CopyState.IDLE
                for copy in device.copies.values()
            )
            activity = self._activity[action.device]
        if not quiet:
            return None
        try:
            before_bytes = reader.read().used_bytes
        except DeviceError:
            return None

        def grown() -> int | None:
            try:
                after_bytes = reader.read().used_bytes
            except DeviceError:
                return None
            # The grant to this very thread is the one thing that happened.
            alone = self._activity[action.device] == activity + 1
            return after_bytes - before_bytes if alone else None

        return grown

    def _load_failed(
        self, action: StartLoad, error: BaseException, oom_kills_before: int | None
    ) -> None:
        """Tell the scheduler that a loader raised."""
        out_of_memory = ran_out_of_memory(error, oom_kills_before)
        message = told(error)
        if out_of_memory:
            # What the attempt had built is in its frames; a second attempt needs that room.
            traceback.clear_frames(error.__traceback__)

        raised = (
            self._keeper.exhausted(action.tag, action.reserved_bytes) if out_of_memory else None
        )

        def failed(now_ns: int) -> list[Action]:
            self._learner.changed(action.device)
            actions = [] if raised is None else raised(now_ns)
            return actions + self.scheduler.load_failed(
                action.copy, now_ns, message, out_of_memory=out_of_memory
            )

        self._tell(failed)

    def _died_idle(self, lease: Lease) -> bool:
        """Say whether a granted copy's process had died while nobody held it; it is gone then."""
        loaded = self.loaded.get(lease.copy)
        if loaded is None or not loaded.own_process or getattr(loaded.instance, "alive", True):
            return False
        self._lose(lease.copy)
        return True

    def _lose(self, copy: int) -> None:
        """Tell that a copy's process died, and let its remains be cleared away."""
        if self.gate.inside():  # a device is read first, which is not done in here
            self.gate.afterwards(partial(self._lose, copy))
            return
        dead = self.loaded.get(copy)
        if dead is not None:
            self.watch.see_gone(dead.device, copy)
        lost: list[Loaded] = []

        def tell(now_ns: int) -> list[Action]:
            loaded = self._forget(copy)
            if loaded is not None:
                self._learner.changed(loaded.device)
                lost.append(loaded)
            return self.scheduler.worker_lost(copy, now_ns)

        self._tell(tell)
        for loaded in lost:
            self._close(loaded.instance, loaded.tag)

    # Releasing -------------------------------------------------------------------------------

    def release(self, lease: Lease) -> None:
        """Give a lease's copy back; LeaseError where it was given back before."""
        loaded = self.loaded.get(lease.copy)
        if loaded is None or loaded.lease is not lease:
            if self.gate.foreign:
                with self.gate.lock:  # says that it is the parent's
                    return
            lease.end()
            return  # its worker was lost meanwhile, and the lease with it
        if loaded.own_process and not getattr(loaded.instance, "alive", True):
            lease.end()
            self._lose(lease.copy)
            return
        gate = self.gate
        if gate.inside():
            if loaded.measurement is not None:
                loaded.measurement.cancel()
            gate.run(partial(self._give_back, lease, loaded, None))
            return
        if loaded.peak_restarted and self._own_peaks is not None:
            self._own_peaks.end(loaded)
        learn: Told | None = None
        if loaded.first_job or loaded.measurement is not None:
            learn = self._end_measurement(lease.tag, loaded)
        with gate.settled, gate.lock:
            self._give_back(lease, loaded, learn)

    def _give_back(self, lease: Lease, loaded: Loaded, learn: Told | None) -> None:
        """End a lease and tell the scheduler. Under the lock."""
        if lease.over:
            lease.end()  # which says why not
        lease.over = True
        if loaded.lease is not lease:
            return  # its worker was lost since it was looked at, and the lease with it
        now_ns = time.monotonic_ns()
        if learn is not None:
            self._route(learn(now_ns))
        loaded.lease = None
        key, held = id(loaded.instance), self._held
        if len(held[key]) == 1:  # as _unhold: this is on the way of every release
            del held[key]
        else:
            self._unhold(loaded.instance, lease)
        device = loaded.device
        self._activity[device] += 1  # as _changed: this is on the way of every release
        self._generations[device] += 1
        actions = self.scheduler.release(lease.copy, lease.serial, now_ns)
        if actions:
            self._route(actions)

    def lose_holder(self, lease: Lease, reason: str = "holder-lost") -> None:
        """Take a copy from a holder that will not give it back; the copy is unloaded.

        A lease that is over is left alone. Does not wait for the unload.
        """

        def lose() -> None:
            loaded = self.loaded.get(lease.copy)
            if loaded is None or loaded.lease is not lease or lease.over:
                return
            lease.end()
            if loaded.measurement is not None:
                loaded.measurement.cancel()
            self._unlease(loaded)
            self._changed(loaded.device)
            now_ns = time.monotonic_ns()
            self._route(self.scheduler.holder_lost(lease.copy, lease.serial, now_ns, reason))

        self.gate.run(lose)
        self.watch.wake()

    def ran_out(self, lease: Lease, error: BaseException) -> bool:
        """Unload a held copy that ran out of memory in use; False where the error is another."""
        loaded = self.loaded.get(lease.copy)
        if loaded is None or loaded.lease is not lease:
            return False
        if not ran_out_of_memory(error, loaded.oom_kills):
            return False
        with contextlib.suppress(Exception):  # a frame that is still running keeps its own
            traceback.clear_frames(error.__traceback__)
        charged_bytes = self.scheduler.devices[loaded.device].ledger.charge_of(lease.copy)
        self.lose_holder(lease, "out-of-memory")
        self._tell(self._keeper.exhausted(lease.tag, charged_bytes))
        return True

    def _take_back(self, copy: Copy | None, lease: Lease | None) -> None:
        """Take back what was granted to a thread that was interrupted before it returned it.

        No job ran under it, so nothing is learned from it.

        Args:
            copy: the copy, where no lease was made of it yet.
            lease: the lease, where one was made.
        """
        if lease is None:
            if copy is not None:
                self._tell(partial(self.scheduler.release, copy.number, copy.lease or 0))
            return
        loaded = self.loaded.get(lease.copy)
        if loaded is None or loaded.lease is not lease:
            return
        if loaded.measurement is not None:
            loaded.measurement.cancel()
        self.gate.run(partial(self._give_back, lease, loaded, None))

    def _end_measurement(self, tag: str, loaded: Loaded) -> Told | None:
        """End what was measured of the job that ends; return what to do with it under the lock."""
        if loaded.first_job:
            learn = self._keeper.measured(tag, loaded)
            loaded.first_job = False
            return learn
        measurement = loaded.measurement
        if measurement is None:
            return None
        loaded.measurement = None
        if loaded.activity != self._activity[loaded.device]:
            measurement.cancel()  # others came and went: the figure would be theirs as well
            return None
        return self._keeper.measured_again(tag, loaded, measurement)

    def _measure_again(self, lease: Lease) -> None:
        """Watch one more job of a model that is known from a single aggregate measurement.

        One measurement can be spoiled by anything that others do at that moment; two more that
        were alone on the device outvote it.
        """
        loaded = self.loaded.get(lease.copy)
        if loaded is None or not loaded.measure_again or not lease.hit:
            return
        with self.gate.settled, self.gate.lock:
            device = self.scheduler.devices[loaded.device]
            busy = any(
                copy.number != lease.copy and copy.state is not CopyState.IDLE
                for copy in device.copies.values()
            )
            loaded.activity = self._activity[loaded.device]
        if not busy:
            loaded.measure_again -= 1
            measurement = JobMeasurement(
                self.readers[loaded.device], patience_s=2 * self._poll_interval_s
            )
            measurement.loaded()
            loaded.measurement = measurement

    def release_instance(self, tag: str, instance: object) -> None:
        """Release the lease under which an instance is held; LeaseError where there is none."""
        held = self._held.get(id(instance), ())
        for lease in held:
            if lease.tag == tag:
                try:
                    self.release(lease)
                except LeaseError:  # another thread was faster: try the next
                    continue
                return
        if held:
            raise LeaseError(
                f"the instance is held as {held[0].tag!r}, not as {tag!r}: nothing was released"
            )
        raise LeaseError(
            f"no lease of {tag!r} holds this instance: it was released before, or never acquired"
        )

    # Unloading -------------------------------------------------------------------------------

    def _start_unload(self, action: StartUnload) -> None:
        """See to it that a copy is unloaded, by a thread of its own where one can be had."""
        loaded = self.loaded.get(action.copy)

        def start() -> None:
            thread = threading.Thread(
                target=self._unload_copy,
                args=(action, loaded),
                name=f"modelmgr-unload-{action.tag}",
                daemon=True,
            )
            try:
                if sys.is_finalizing():  # a thread that is started now never runs
                    raise RuntimeError  # noqa: TRY301 - one place does without
                thread.start()
            except RuntimeError:  # no further thread can be had
                self._unload_copy(action, loaded)

        self.gate.afterwards(start)

    def _unload_copy(self, action: StartUnload, loaded: Loaded | None) -> None:
        gone = False
        if loaded is not None:
            if loaded.measurement is not None:
                loaded.measurement.cancel()
            with self.gate.settled, self.gate.lock:
                # A loader may return one object twice: it goes with the last copy that is it.
                shared = any(
                    other is not loaded and other.instance is loaded.instance
                    for other in self.loaded.values()
                )
            # A process of its own ends with this one, and nobody is left to tell that it did.
            left_to_kernel = loaded.own_process and sys.is_finalizing()
            if not shared and not left_to_kernel:
                self._unloading[action.copy] = threading.get_ident()
                try:
                    self._close(loaded.instance, action.tag)
                finally:
                    del self._unloading[action.copy]
            gone = loaded.own_process and not getattr(loaded.instance, "alive", False)
            if gone:
                self.watch.see_gone(action.device, action.copy)
            if loaded.pid is not None and gone:
                self.readers[loaded.device].untrack(loaded.pid)
            with self.gate.settled, self.gate.lock:
                self.loaded.pop(action.copy, None)
            loaded.instance = None

        def unloaded(now_ns: int) -> list[Action]:
            self._learner.changed(action.device)
            return self.scheduler.unload_finished(action.copy, now_ns, process_gone=gone)

        self._tell(unloaded)
        self.watch.read(action.device)
        if action.copy in self.scheduler.copies:
            # Dropping the last reference was not enough. A collection stops every thread for long,
            # so it is made only when the memory was not seen to come back.
            _return_memory()
            self.watch.read(action.device)
            self.watch.wake()

    def _close(self, instance: Any, tag: str) -> None:  # noqa: ANN401 - whatever the loader returned
        try:
            if self._unload is not None:
                self._unload(instance)
            else:
                close = getattr(instance, "close", None)
                if callable(close):
                    close()
        except BaseException:  # noqa: BLE001 - even SystemExit: the copy counts until it is back
            _LOG.warning(
                "unloading a copy of %r failed; it counts until its memory is back",
                tag,
                exc_info=True,
            )

    def _forget(self, copy: int) -> Loaded | None:
        """Drop a copy whose process is gone. Under the lock."""
        loaded = self.loaded.pop(copy, None)
        if loaded is not None:
            self._unlease(loaded)
        if loaded is not None and loaded.measurement is not None:
            loaded.measurement.cancel()
        if loaded is not None and loaded.pid is not None:
            self.readers[loaded.device].untrack(loaded.pid)
        return loaded

    # The door to the scheduler ---------------------------------------------------------------

    def _tell(self, event: Callable[[int], list[Action]]) -> None:
        """Tell the scheduler something under the lock and see to what follows."""
        self.gate.run(lambda: self._route(event(time.monotonic_ns())))

    def tell(self, event: Callable[[int], list[Action]]) -> None:
        """Tell the scheduler something: ``event`` gets the time and returns the actions."""
        self._tell(event)
        self.watch.wake()

    def _route(self, actions: list[Action]) -> None:
        """Hand each action to the thread that has to act. Under the lock."""
        for action in actions:
            self._observed(action)
            self._counters.observed(action)
            if not isinstance(action, Reject):
                self._changed(action.device)
            if isinstance(action, StartUnload):
                self._start_unload(action)
                continue
            waiter = self._waiters.get(action.ticket_num)
            if waiter is not None:
                waiter.put(action)
        for bell in self.gate.listeners:
            bell.ring()

    def copies_of_thread(self, ident: int) -> frozenset[int]:
        """Return the copies that a thread holds, loads or unloads, or was just granted.

        Ask for the calling thread alone, under the lock: the rest of it is not the lock's.
        """
        held = {
            number
            for number, loaded in self.loaded.items()
            if loaded.lease is not None and loaded.lease.holder_ident == ident
        }
        for waiter in self._waiters.values():
            if waiter.thread_ident == ident:
                held.update(a.copy for a in waiter.actions if not isinstance(a, Reject))
        held.update(copy for copy, thread in tuple(self._unloading.items()) if thread == ident)
        return frozenset(held)

    @property
    def may_wait(self) -> bool:
        """Whether there is anything to wait for.

        From within, or while the interpreter ends, no other thread can do anything.
        """
        return not (self.gate.inside() or sys.is_finalizing())

    def wait_until(self, holds: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait until something holds of the scheduler's state, at most so long."""
        if not self.may_wait:
            return holds()
        ends_s = None if timeout_s is None else time.monotonic() + timeout_s
        gate, bell = self.gate, Bell()
        try:
            while True:
                with gate.settled, gate.lock:
                    if bell not in gate.listeners:
                        gate.listeners.append(bell)
                    if holds():
                        return True
                left_s = None if ends_s is None else ends_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return False
                # What a finaliser left here is nobody's ring.
                bell.wait(_BETWEEN_LOOKS_S if left_s is None else min(left_s, _BETWEEN_LOOKS_S))
        finally:
            with gate.settled, gate.lock:
                if bell in gate.listeners:
                    gate.listeners.remove(bell)


def ran_out_of_memory(error: BaseException, oom_kills_before: int | None) -> bool:
    """Say whether an exception means that memory ran out: a framework's own, or the kernel's kill.

    Args:
        error: what was raised.
        oom_kills_before: the kernel's count of out-of-memory kills when the copy was loaded.
    """
    if isinstance(error, WorkerDiedError):
        if error.signal != signal.SIGKILL or oom_kills_before is None:
            return False
        return (kernel_oom_kills() or 0) > oom_kills_before
    return is_out_of_memory(error)


def _return_memory() -> None:
    """Give back what an instance in this process left: its cycles, and CUDA's cached blocks."""
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
