"""The virtual world that a scheduler is run in: what its orders do, and what they come to.

Owns the devices, the copies, the event heap and the counts, and carries out every order as
``runtime.driver`` does: the same calls of the scheduler in the same order. Loads, unloads and
readings of a real driver take time in threads; here a load or an unload is one event at its end,
and a reading takes no time. The loop that takes events off the heap is ``simulation.engine``'s.

It is one class, and longer than others, because it is the counterpart of one: it is read beside
``runtime.driver``, method by method, to see that both tell the scheduler the same.

Readings that cannot change anything are left out: where every copy on a device takes no more than
the scheduler believes, nothing foreign is there, no reading failed and every reservation is
covered, a reading moves no figure of the ledger (its foreign use stays 0), so no decision can
follow from it. ``read_always`` takes them all the same, for the test that compares the two.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from modelmgr.estimation.estimator import ResourceEstimator
from modelmgr.records.costs import Eviction, EvictionCandidate
from modelmgr.records.decision_log import DecisionLog
from modelmgr.scheduling.actions import Action, Grant, Refusal, StartLoad, StartUnload
from modelmgr.scheduling.beliefs import from_estimate
from modelmgr.scheduling.copies import ModelCosts
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.scheduling.settings import SchedulerSettings
from modelmgr.simulation.copies import VirtualCopy, VirtualModel
from modelmgr.simulation.device import VirtualDevice
from modelmgr.simulation.faults import OUT_OF_MEMORY, ArmedFaults
from modelmgr.simulation.metrics import EXACT_SAMPLES, Durations
from modelmgr.units import MIB
from modelmgr.workload.policy_plugins import find_policy
from modelmgr.workload.raw_requests import NOBODY
from modelmgr.workload.requests import RequestSource
from modelmgr.workload.scenario import BelievedCost, Scenario

# Final: compiled, a name of another module is looked up every time.
_push: Final = heapq.heappush

# Kinds of events, in the heap's (at_ns, serial, kind, what, more); 0 where ``more`` is not named.
RELEASE: Final = 0  # a job ends: copy, lease
LOAD_ENDS: Final = 1  # copy
UNLOAD_ENDS: Final = 2  # copy
ASKED: Final = 3  # a closed loop's user asks again: raw request
FOUND_DEAD: Final = 4  # a copy's process had died before it was granted: copy, lease
RUNS_OUT: Final = 5  # a copy in use runs out of memory: copy, lease
MEMORY_BACK: Final = 6  # late memory is free at last: copy
FAULT: Final = 7  # None, number of the fault
FAULT_ENDS: Final = 8  # (device, fault), bytes
POLL: Final = 9  # look at the devices while somebody waits
NEVER: Final = 2**62 - 1
"""A time after everything: 146 years, and the largest number that is no object when compiled."""

PROGRESSING: Final = frozenset(
    {RELEASE, LOAD_ENDS, UNLOAD_ENDS, ASKED, FOUND_DEAD, RUNS_OUT, MEMORY_BACK}
)
"""Events that come from a request or a load under way, or bring a new one."""

EVICTIONS_KEPT: Final = 1_000
_EVICTED_FOR: Final = frozenset({"make-room", "isolation"})

Event = tuple[int, int, int, Any, int]
"""What ``what`` is depends on the kind; ``more`` is a number that goes with it."""
Job = tuple[int, ...]
"""A raw request, passed around as it came."""


class ServedJob(NamedTuple):
    """A request that was given a copy: what the offline bound is computed from."""

    tag: str
    device: str
    start_ns: int
    end_ns: int


class World:
    """Everything that a run changes.

    Args:
        scenario: what to simulate.
        write_log: takes the decision log's bytes; None where only its hash is wanted.
        poll_interval_ns: between readings while somebody waits.
        keep_schedule: keep every served job.
        read_always: take readings that cannot change anything as well.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        write_log: Callable[[bytes], object] | None,
        poll_interval_ns: int,
        keep_schedule: bool,
        read_always: bool,
    ) -> None:
        options = scenario.manager
        self.timeout_ns = options.wait_timeout_ns
        self.poll_interval_ns = poll_interval_ns
        self.scheduler = Scheduler(
            [(d.name, d.total_bytes, d.limit_bytes) for d in scenario.devices],
            SchedulerSettings(
                policy=find_policy(options.policy),
                isolation=options.isolation,
                max_bypass=options.max_bypass,
                min_copies=options.min_copies,
                max_copies=options.max_copies,
                cooldown_ns=options.cooldown_ns,
            ),
        )
        self.devices = tuple(
            VirtualDevice(index, d.name, d.total_bytes, d.limit_bytes)
            for index, d in enumerate(scenario.devices)
        )
        self.models = tuple(VirtualModel(model, scenario.seed) for model in scenario.models)
        self.model_of = {model.tag: model for model in self.models}
        self.source = RequestSource(scenario)
        self.copies: dict[int, VirtualCopy] = {}
        self.pending: dict[int, Job] = {}
        self.second_tries: set[int] = set()
        self.heap: list[Event] = [(NEVER, 0, POLL, None, 0)]
        self.armed = ArmedFaults(scenario.faults, scenario.seed)
        self.log = DecisionLog([d.name for d in scenario.devices], write_log)
        self.latencies = Durations()
        self.schedule: list[ServedJob] | None = [] if keep_schedule else None
        self._evictions: list[tuple[StartUnload, str, int]] = []
        self.estimator = ResourceEstimator()
        self.ended_ns = 0
        self.total = 0
        self.completed = 0
        self.timed_out = 0
        self.refused = 0
        self.failed = 0
        self.cancelled = 0
        self.failed_loads = 0
        self.loads_ns = 0
        self.first_loads_ns = 0
        self._spilled = 0
        self._last_serial = 0
        self._read_always = read_always
        self._stale = [True] * len(self.devices)
        # Whether a reading of any device could change something.
        self.unquiet = True
        for model in scenario.models:
            if model.believed is not None:
                self._preload(model.tag, model.believed)
        self.read_all(0)
        for model in scenario.models:
            if model.pinned:
                self.absorb(self.scheduler.pin(model.tag, 0), 0)

    # Orders ----------------------------------------------------------------------------------

    def absorb(self, actions: Iterable[Action], now_ns: int) -> None:
        """Carry out what the scheduler ordered."""
        for action in actions:
            if isinstance(action, Grant):
                self._granted(action, now_ns)
            elif isinstance(action, StartLoad):
                self._start_load(action, now_ns)
            elif isinstance(action, StartUnload):
                self._start_unload(action, now_ns)
            else:
                action_id, ticket_num, tag, refusal, message = action
                self.log.reject(now_ns, action_id, ticket_num, tag, refusal.value, message)
                self._refused(refusal, self.pending.pop(ticket_num), now_ns)

    def hit(self, model: VirtualModel, job: Job, now_ns: int) -> bool:
        """Serve a newcomer from an idle copy, if one is there and nobody waits."""
        scheduler = self.scheduler
        handed = scheduler.hand_out(model.tag, now_ns)
        if handed is None:
            return False
        number, lease, ticket_num = handed.number, handed.lease or 0, scheduler.last_ticket
        self.log.grant(
            now_ns, scheduler.last_action, ticket_num, model.tag, number, handed.device, lease, True
        )
        self._start_job(self.copies[number], ticket_num, lease, job, now_ns, True)
        return True

    def _granted(self, grant: Grant, now_ns: int) -> None:
        action_id, ticket_num, tag, number, device, lease, hit = grant
        self.log.grant(now_ns, action_id, ticket_num, tag, number, device, lease, hit)
        job = self.pending.pop(ticket_num)
        self._start_job(self.copies[number], ticket_num, lease, job, now_ns, hit)

    def _start_job(  # noqa: PLR0917 - once for every request: keywords cost a third of it
        self, copy: VirtualCopy, ticket_num: int, lease: int, job: Job, now_ns: int, hit: bool
    ) -> None:
        """Let a request have its copy: its job runs for as long as was drawn for it."""
        copy.lease = lease
        copy.job = job
        copy.granted_ns = now_ns
        if copy.dead:
            self.push(now_ns, FOUND_DEAD, copy, lease)
            return
        model = copy.model
        if hit:
            model.hits += 1
        if self.second_tries:
            copy.second_try = ticket_num in self.second_tries
        model.new_waits.append(now_ns - job[0])
        extra = model.extra_bytes
        if extra:
            if not copy.device.run(extra):
                self.push(now_ns, RUNS_OUT, copy, lease)
                return
            copy.running = True
        self.push(now_ns + job[2], RELEASE, copy, lease)

    def _start_load(self, load: StartLoad, now_ns: int) -> None:
        self.log.start_load(now_ns, *load)
        model, device = self.model_of[load.tag], self.devices[load.device]
        copy = VirtualCopy(load.copy, model, device, measured=load.isolated)
        self.copies[load.copy] = copy
        device.untrusted += not model.trusted
        copy.reserved_bytes = load.reserved_bytes
        copy.load_ns = model.load_times.take()
        takes_ns, failure = self.armed.on_load(load.tag, device.name, copy.load_ns, now_ns)
        copy.load_ns = takes_ns
        if failure == OUT_OF_MEMORY:
            device.oom_events += 1
        elif device.lost:
            failure = "DeviceLostError: the device is gone"
        elif device.take(model.loading_bytes, now_ns):
            copy.taken_bytes = model.loading_bytes
        else:
            # Weights come in evenly, so on average it is half-way that no more fit.
            failure = OUT_OF_MEMORY
            takes_ns //= 2
        self.end_load_at(copy, now_ns + takes_ns, failure)
        if not model.trusted:
            self._update_quiet()

    def end_load_at(self, copy: VirtualCopy, at_ns: int, failure: str | None) -> None:
        """Let a load end at a time, well (None) or with a message; an earlier order is void."""
        copy.ends_ns = at_ns
        copy.failure = failure
        self.push(at_ns, LOAD_ENDS, copy)
        copy.end_serial = self._last_serial

    def delay_load(self, copy: VirtualCopy, longer_ns: int) -> None:
        """Let a load take longer, however it ends."""
        copy.load_ns += longer_ns
        self.end_load_at(copy, copy.ends_ns + longer_ns, copy.failure)

    def load_ends(self, copy: VirtualCopy, now_ns: int) -> None:
        """End a load, well or not, as the driver's loading thread tells it."""
        model, device = copy.model, copy.device
        failure = copy.failure
        if failure is not None:
            self.failed_loads += 1
            self._forget(copy)
            self._free(copy, now_ns)
            if failure == OUT_OF_MEMORY:
                self._raise_costs(model, copy.reserved_bytes, now_ns)
            self.absorb(
                self.scheduler.load_failed(
                    copy.number, now_ns, failure, out_of_memory=failure == OUT_OF_MEMORY
                ),
                now_ns,
            )
            self._update_quiet()
            return
        device.give_back(model.loading_bytes - model.resident_bytes, now_ns)
        copy.taken_bytes = model.resident_bytes
        copy.loaded = True
        if not model.loads:
            self.first_loads_ns += copy.load_ns
        model.loads += 1
        self.loads_ns += copy.load_ns
        self._stale[device.index] = True
        self.absorb(self.scheduler.load_finished(copy.number, now_ns), now_ns)
        self.read(device, now_ns)

    def _start_unload(self, unload: StartUnload, now_ns: int) -> None:
        self.log.start_unload(
            now_ns,
            unload.action_id,
            unload.tag,
            unload.copy,
            unload.device,
            unload.reason,
            unload.requested_by,
            unload.freed_bytes,
            unload.chosen,
        )
        copy = self.copies[unload.copy]
        copy.leaving = True
        if unload.reason in _EVICTED_FOR:
            copy.model.evictions += 1
            if len(self._evictions) <= EVICTIONS_KEPT:
                self._evictions.append((unload, copy.device.name, now_ns))
            else:
                self.scheduler.names_candidates = False
        copy.late_ns = self.armed.on_unload(unload.tag, copy.device.name, now_ns)
        ends_ns = now_ns + copy.model.unload_times.take()
        self.push(ends_ns, UNLOAD_ENDS, copy)

    def unload_ends(self, copy: VirtualCopy, now_ns: int) -> None:
        """End an unload as the driver's unloading thread tells it; late memory stays for now."""
        self._forget(copy)
        copy.loaded = False
        device = copy.device
        gone = not copy.late_ns or copy.dead
        if gone:
            self._free(copy, now_ns)
        else:
            self.push(now_ns + copy.late_ns, MEMORY_BACK, copy)
            self._stale[device.index] = True
        self.absorb(self.scheduler.unload_finished(copy.number, now_ns, process_gone=gone), now_ns)
        self._update_quiet()
        self.read(device, now_ns)

    def memory_back(self, copy: VirtualCopy, now_ns: int) -> None:
        """Free memory that came back late; readings show it."""
        self._free(copy, now_ns)
        self._stale[copy.device.index] = True
        self._update_quiet()

    def evictions(self) -> tuple[Eviction, ...] | None:
        """Return every eviction explained, None where there were too many to keep."""
        if len(self._evictions) > EVICTIONS_KEPT:
            return None
        return tuple(_explained(*evicted) for evicted in self._evictions)

    # Jobs ------------------------------------------------------------------------------------

    def measure_first_job(self, copy: VirtualCopy, now_ns: int) -> None:
        """Learn what an unknown model takes from its first job, as the manager does."""
        copy.measured = False
        model = copy.model
        if self.estimator.is_unknown(model.tag) and model.peak_bytes > 0:
            self.estimator.record_isolation(
                model.tag, model.resident_bytes or None, model.peak_bytes
            )
        record = self.scheduler.model(model.tag)
        if record.costs is None and (costs := self._estimated(model.tag)) is not None:
            self._set_costs(model, costs, now_ns)

    def job_lost(self, copy: VirtualCopy, now_ns: int) -> None:
        """Count a request whose copy or holder was lost while it was served."""
        job = copy.job
        copy.lease, copy.job = 0, None
        if job is not None:
            self.failed += 1
            self.note_served(copy, now_ns)
            self.ask_again(job, now_ns)

    def worker_dies(self, copy: VirtualCopy, now_ns: int) -> None:
        """Let a copy's process die: its memory is free at once.

        Its holder sees that at once as well, and so does a load; an idle copy's death is found at
        the next poll, or when it is granted.
        """
        if not copy.loaded:
            self.end_load_at(copy, now_ns, "WorkerDiedError: the worker was killed")
            return
        if copy.lease:
            self.clear_away(copy, now_ns)
        else:
            self._free(copy, now_ns)
            copy.dead = True
            self._stale[copy.device.index] = True
            self._update_quiet()

    def clear_away(self, copy: VirtualCopy, now_ns: int) -> None:
        """Tell that a copy's process died."""
        self._free(copy, now_ns)
        self.job_lost(copy, now_ns)
        self._forget(copy)
        self.absorb(self.scheduler.worker_lost(copy.number, now_ns), now_ns)
        self._update_quiet()

    def runs_out(self, copy: VirtualCopy, now_ns: int) -> None:
        """Let a copy in use run out of memory: it is unloaded, and its request is tried once more.

        As ``ModelManager.run`` does: the second time on a device that was drained for it.
        """
        number, lease, job, again = copy.number, copy.lease, copy.job, not copy.second_try
        charged_bytes = self.scheduler.devices[copy.device.index].ledger.charge_of(number)
        if again:
            self.note_served(copy, now_ns)
            copy.lease, copy.job = 0, None
        else:
            self.job_lost(copy, now_ns)
        self.stop_running(copy, now_ns)
        lost = self.scheduler.holder_lost(number, lease, now_ns, "out-of-memory")
        self.absorb(lost, now_ns)
        self._raise_costs(copy.model, charged_bytes, now_ns)
        if again and job is not None:
            self.ask(job, now_ns, alone=True)

    def granted_dead(self, copy: VirtualCopy, now_ns: int) -> None:
        """Tell that a granted copy was dead already; its request asks again."""
        job = copy.job
        copy.lease, copy.job = 0, None
        self.clear_away(copy, now_ns)
        if job is not None:
            self.ask(job, now_ns)

    def ask(self, job: Job, now_ns: int, *, alone: bool = False) -> None:
        """Ask for a copy, as the driver's ``acquire`` does; ``alone`` for a second try."""
        model = self.models[job[1]]
        started_ns = now_ns if alone else job[0]
        if self.unquiet and (alone or not self.scheduler.has_idle(model.tag)):
            self.read_all(now_ns)
        num, actions = self.scheduler.request(
            model.tag,
            now_ns,
            priority=model.priority,
            deadline_ns=None if self.timeout_ns is None else started_ns + self.timeout_ns,
            own_process=True,
            alone=alone,
        )
        self.pending[num] = job
        if alone:
            self.second_tries.add(num)
        self.absorb(actions, now_ns)

    def holder_dies(self, copy: VirtualCopy, now_ns: int) -> None:
        """Let the client that holds a copy die; the copy is unloaded."""
        lease = copy.lease
        self.job_lost(copy, now_ns)
        self.stop_running(copy, now_ns)
        self.absorb(self.scheduler.holder_lost(copy.number, lease, now_ns), now_ns)

    def ask_again(self, job: Job, now_ns: int) -> None:
        """Let a closed loop's user ask again after a request of theirs ended."""
        if job[4] == NOBODY:
            return
        following = self.source.served(job[4], now_ns)
        if following is not None:
            self.push(following[0], ASKED, following)

    def _refused(self, refusal: Refusal, job: Job, now_ns: int) -> None:
        match refusal:
            case Refusal.TIMED_OUT:
                self.timed_out += 1
            case Refusal.LOAD_FAILED:
                self.failed += 1
            case Refusal.CANCELLED:
                self.cancelled += 1
            case Refusal.DOES_NOT_FIT | Refusal.CLOSED:
                self.refused += 1
        self.ask_again(job, now_ns)

    def note_served(self, copy: VirtualCopy, now_ns: int) -> None:
        """Keep a served job, should the schedule be wanted."""
        if self.schedule is not None:
            self.schedule.append(
                ServedJob(copy.model.tag, copy.device.name, copy.granted_ns, now_ns)
            )

    def stop_running(self, copy: VirtualCopy, now_ns: int) -> None:
        """Free what a copy's job takes beside it, if one runs."""
        if copy.running:
            copy.running = False
            copy.busy_ns += now_ns - copy.granted_ns
            copy.device.stop(copy.model.extra_bytes)

    def end_use(self, now_ns: int) -> None:
        """Take every copy's jobs into its device's mean use: nothing happens any more."""
        for copy in self.copies.values():
            self.stop_running(copy, now_ns)
            self._note_busy(copy)

    @staticmethod
    def _note_busy(copy: VirtualCopy) -> None:
        copy.device.ran(copy.model.extra_bytes, copy.busy_ns)
        copy.busy_ns = 0

    def _forget(self, copy: VirtualCopy) -> None:
        del self.copies[copy.number]
        self._note_busy(copy)
        copy.device.untrusted -= not copy.model.trusted

    def _free(self, copy: VirtualCopy, now_ns: int) -> None:
        self.stop_running(copy, now_ns)
        copy.device.give_back(copy.taken_bytes, now_ns)
        copy.taken_bytes = 0

    # Readings --------------------------------------------------------------------------------

    def read_all(self, now_ns: int) -> None:
        """Read every device, in order."""
        for device in self.devices:
            self.read(device, now_ns)

    def read(self, device: VirtualDevice, now_ns: int) -> None:
        """Read a device and tell the scheduler, unless the reading could change nothing."""
        if not self._read_always and not self._matters(device):
            return
        if device.failing is not None:
            self.absorb(self.scheduler.reading_failed(device.index, now_ns, device.failing), now_ns)
            return
        self._stale[device.index] = False
        own_bytes: dict[int, int] | None = None
        if self._shows_others(device):
            own_bytes = {
                copy.number: copy.taken_bytes + (copy.model.extra_bytes if copy.running else 0)
                for copy in self.copies.values()
                if copy.device is device and copy.loaded and not copy.dead
            }
        self.absorb(
            self.scheduler.memory_reading(
                device.index,
                now_ns,
                at_ns=now_ns,
                used_bytes=device.shown_bytes,
                own_bytes=own_bytes,
            ),
            now_ns,
        )
        ledger = self.scheduler.devices[device.index].ledger
        if ledger.freeing_bytes or ledger.unsettled():
            self._stale[device.index] = True
        self._update_quiet()

    def clear_away_the_dead(self, now_ns: int) -> None:
        """Tell of idle copies whose processes have died, as the driver's watch does."""
        for copy in [copy for copy in self.copies.values() if copy.dead and copy.loaded]:
            scheduled = self.scheduler.copies.get(copy.number)
            # Clearing one away may have begun to unload the next, which then ends as unloads do.
            if scheduled is not None and not scheduled.held and not copy.leaving:
                self.clear_away(copy, now_ns)

    def disturbed(self) -> None:
        """Note that a fault has changed what readings show."""
        self._stale = [True] * len(self.devices)
        self.unquiet = True

    def _matters(self, device: VirtualDevice) -> bool:
        if self._stale[device.index] or device.failing is not None:
            return True
        ledger = self.scheduler.devices[device.index].ledger
        return ledger.reading_failed is not None or self._shows_others(device)

    def _shows_others(self, device: VirtualDevice) -> bool:
        """Say whether a reading can show more than is charged: only then who holds what matters."""
        ledger = self.scheduler.devices[device.index].ledger
        return device.untrusted > 0 or device.wrong_bytes != 0 or ledger.foreign_bytes > 0

    def _update_quiet(self) -> None:
        self.unquiet = self._read_always or any(map(self._matters, self.devices))

    # Costs -----------------------------------------------------------------------------------

    def _preload(self, tag: str, believed: BelievedCost) -> None:
        if believed.peak_bytes > 0:
            self.estimator.set_initial_estimate(tag, believed.peak_bytes / MIB)
        costs = ModelCosts(
            resident_bytes=believed.resident_bytes,
            peak_bytes=believed.peak_bytes,
            load_peak_bytes=believed.load_peak_bytes,
            load_ns=believed.load_ns,
        )
        self._set_costs(self.model_of[tag], costs, 0)

    def _set_costs(self, model: VirtualModel, costs: ModelCosts, now_ns: int) -> None:
        model.trusted = (
            model.resident_bytes <= costs.resident_bytes
            and model.peak_bytes <= costs.peak_bytes
            and model.loading_bytes <= costs.needed_bytes
        )
        for device in self.devices:
            device.untrusted = 0
        for copy in self.copies.values():
            copy.device.untrusted += not copy.model.trusted
        self.absorb(self.scheduler.set_costs(model.tag, costs, now_ns), now_ns)

    def _estimated(self, tag: str) -> ModelCosts | None:
        """Return what the estimator believes, as admission counts it."""
        scheduler = self.scheduler
        most_bytes = max(device.ledger.limit_bytes for device in scheduler.devices)
        load_ns = scheduler.model(tag).load_ns_seen
        return from_estimate(self.estimator.estimate(tag), load_ns, most_bytes=most_bytes)

    def _raise_costs(self, model: VirtualModel, had_bytes: int, now_ns: int) -> None:
        """Believe more of a model that ran out of memory, as ``ModelManager`` does."""
        known = self.scheduler.model(model.tag).costs
        ledgers = [device.ledger for device in self.scheduler.devices]
        most_bytes = max(ledger.limit_bytes - ledger.foreign_bytes for ledger in ledgers)
        if known is None:
            if had_bytes > 0:
                self.estimator.record_out_of_memory(model.tag, had_bytes)
            return
        raised = known.after_out_of_memory(max(had_bytes, known.needed_bytes), most_bytes)
        self.estimator.record_out_of_memory(model.tag, raised.peak_bytes)
        self._set_costs(model, raised, now_ns)

    # Bookkeeping -----------------------------------------------------------------------------

    def push(self, at_ns: int, kind: int, what: object, more: int = 0) -> None:
        """Let something happen at a time."""
        self._last_serial += 1
        _push(self.heap, (at_ns, self._last_serial, kind, what, more))

    def keep_bounded(self) -> None:
        """Count waits and latencies in sketches once there are too many to keep."""
        if self.completed - self._spilled <= EXACT_SAMPLES:
            self.latencies.settle()
            for model in self.models:
                model.waits.settle()
            return
        self._spilled = self.completed
        self.latencies.spill()
        for model in self.models:
            model.waits.spill()

    def check_valid(self) -> None:
        """Raise AssertionError where a promise or one of the world's own sums does not hold."""
        self.scheduler.check_valid()
        held = {copy.number for copy in self.copies.values() if copy.lease}
        believed = {copy.number for copy in self.scheduler.copies.values() if copy.held}
        assert held == believed, f"holders disagree: {held} and {believed}"  # noqa: S101
        for number in self.pending:
            assert self.scheduler.waiting_for(number) is not None, f"ticket {number} was lost"  # noqa: S101
        ended = self.completed + self.timed_out + self.refused + self.failed + self.cancelled
        open_ = len(self.pending) + len(held)
        assert ended + open_ == self.total, f"{self.total} came, {ended} ended, {open_} open"  # noqa: S101
        for device in self.devices:
            here = [copy for copy in self.copies.values() if copy.device is device]
            untrusted = sum(not copy.model.trusted for copy in here)
            assert untrusted == device.untrusted, f"{device.name}: trust was miscounted"  # noqa: S101
            assert 0 <= device.used_bytes <= device.total_bytes, f"{device.name}: impossible use"  # noqa: S101


def _explained(unload: StartUnload, device: str, now_ns: int) -> Eviction:
    return Eviction(
        at_ns=now_ns,
        device=device,
        tag=unload.tag,
        copy=unload.copy,
        reason=unload.reason,
        requested_by=unload.requested_by,
        freed_bytes=unload.freed_bytes,
        candidates=tuple(
            EvictionCandidate(tag=c.tag, copy=c.copy, value=c.value, size_bytes=c.size_bytes)
            for c in unload.candidates
        ),
        chosen=unload.chosen,
        instead=dict(unload.instead),
    )
