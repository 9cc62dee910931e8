"""The scheduler: a state machine that is told what happened and answers what is to be done.

It never sleeps, waits, reads or measures. Every method takes ``now_ns`` (monotonic nanoseconds) and
returns the actions that follow, in the order in which they were decided; ``next_deadline_ns`` says
when ``deadline`` wants to be called at the latest (earlier calls are harmless). Two drivers run it:
``runtime.ModelManager`` with threads and real models, the simulation with a heap of events.

A ticket *waits* in the queue, is *committed* once a copy is being made (or room is being made) for
it, and *ends* exactly once: granted, refused, timed out, cancelled or failed. After every event
``_pump`` serves the waiting tickets in order until nobody more can be served; ``admission`` answers
what would be possible, this module alone changes state.

This module is longer than others on purpose: it is the one place that changes state, and it reads
from top to bottom as the list of what can happen, then how tickets are served, then how things end.

Completions of loads and unloads name the copy they answer. One that comes too late for its copy
(it was lost meanwhile) is expected and changes nothing.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from modelmgr.errors import LeaseError, UsageError
from modelmgr.scheduling.actions import (
    Action,
    Candidate,
    Grant,
    Refusal,
    Reject,
    StartLoad,
    StartUnload,
)
from modelmgr.scheduling.admission import Admission, Plan
from modelmgr.scheduling.copies import Copy, Device, Model, ModelCosts
from modelmgr.scheduling.ledger import Ledger
from modelmgr.scheduling.native import mypyc_attr
from modelmgr.scheduling.policies import POLICIES, DemandTiers, Gdsf, Lru, QueueValue, make_policy
from modelmgr.scheduling.promises import check_promises
from modelmgr.scheduling.queue import Ticket, TicketQueue
from modelmgr.scheduling.settings import SchedulerSettings
from modelmgr.scheduling.states import COMING, LOADED, CopyEvent, CopyState

# Make a tuple's kind of its fields; a NamedTuple's own constructor takes twice as long.
_new: Final[Callable[[type[Grant], tuple[object, ...]], Grant]] = getattr(tuple, "__new__")  # noqa: B009 - its own type is generic
_new_candidate: Final[Callable[[type[Candidate], tuple[object, ...]], Candidate]] = getattr(  # noqa: B009 - as above
    tuple, "__new__"
)
# What every grant and release names: looking a member up in its enumeration takes 0.15 us in
# CPython 3.11, fifteen times as long as a global.
_DRAINING: Final = CopyState.DRAINING
# Built-in policies that keep nothing of what they are told: a hit need not tell them.
_BUILT_IN: Final = (Lru, Gdsf, DemandTiers, QueueValue)
_DEAF_TO_USE: Final = (Lru, DemandTiers, QueueValue)


def _harmless(hook: Callable[..., object]) -> Callable[..., None]:
    """Return a policy's hook that cannot end an event half-way: what it raises is its own loss."""

    def call(*told: object) -> None:
        with contextlib.suppress(Exception):
            hook(*told)

    return call


@mypyc_attr(allow_interpreted_subclasses=True)  # what listens to a scheduler is one
class Scheduler:
    """Decides who is loaded, who is granted and who is evicted on a set of devices.

    Args:
        devices: ``(name, total_bytes, limit_bytes)`` of each; their order breaks ties.
        settings: how to decide.
    """

    def __init__(
        self, devices: Sequence[tuple[str, int, int]], settings: SchedulerSettings | None = None
    ) -> None:
        if not devices:
            raise UsageError("a scheduler needs at least one device")
        if len({name for name, _, _ in devices}) != len(devices):
            raise UsageError(f"device names must be unique: {[name for name, _, _ in devices]}")
        self.settings = settings or SchedulerSettings()
        self.devices = tuple(
            Device(index, Ledger(name, total, limit))
            for index, (name, total, limit) in enumerate(devices)
        )
        self.queue = TicketQueue(self.settings.max_bypass)
        self.models: dict[str, Model] = {}
        self.copies: dict[int, Copy] = {}
        self.closed = False
        # Whether an eviction says what there was to choose from; who keeps no more may end it.
        self.names_candidates = True
        self._policy = make_policy(self.settings.policy)
        # Policies that decide nothing: they only say what they would have done.
        self._others = [
            make()
            for name, make in POLICIES.items()
            if self.settings.explain and name != self._policy.name
        ]
        told = (self._policy, *self._others)
        # Called as what it is: compiled, that is no look-up, and every request is told.
        self._queue_values = [p for p in told if type(p) is QueueValue]
        self._on_request = [_harmless(p.requested) for p in told if type(p) not in _BUILT_IN]
        self._on_use = [
            p.used if type(p) is Gdsf else _harmless(p.used)
            for p in told
            if type(p) not in _DEAF_TO_USE
        ]
        self._on_evicted = [
            p.evicted if type(p) in _BUILT_IN else _harmless(p.evicted) for p in told
        ]
        # The models with more than one copy.
        self._several: dict[str, Model] = {}
        self._admission = Admission(
            self.devices,
            self.models,
            self._several,
            self.queue,
            self._policy,
            settings=self.settings,
        )
        self.committed_tickets: dict[int, Ticket] = {}
        # Those of them whose room is not there yet.
        self._claiming: dict[int, Ticket] = {}
        # Copies that are unloaded and whose memory was not seen to be back yet.
        self._unseen: dict[int, Copy] = {}
        self._wakes: list[tuple[int, int]] = []
        self._actions: list[Action] = []
        self._now_ns = 0
        self._last_copy = 0
        self._last_lease = 0
        self.last_ticket = 0
        self.last_action = 0
        self._event_serial = 0

    # What models are -------------------------------------------------------------------------

    def model(self, tag: str) -> Model:
        """Return a model's record, made on first mention."""
        model = self.models.get(tag)
        if model is None:
            model = Model(tag, self.settings.min_copies, self.settings.max_copies)
            self.models[tag] = model
        return model

    def set_costs(self, tag: str, costs: ModelCosts, now_ns: int) -> list[Action]:
        """Learn what a model costs: it is known from now on, and its copies' charges follow."""
        self._begin(now_ns)
        model = self.model(tag)
        model.costs = costs
        model.changes += 1
        self._admission.victims.forget_floors()
        for copy in model.copies.values():
            if copy.state in LOADED:
                ledger = self.devices[copy.device].ledger
                ledger.set_cost(copy.number, costs.resident_bytes, costs.peak_bytes)
                self._settle_if_covered(copy)
        return self._finish()

    def pin(self, tag: str, now_ns: int, *, pinned: bool = True) -> list[Action]:
        """Keep a model's copies from eviction, or allow it again."""
        self._begin(now_ns)
        self.model(tag).pinned = pinned
        return self._finish()

    # Requests --------------------------------------------------------------------------------

    def request(
        self,
        tag: str,
        now_ns: int,
        *,
        priority: int = 0,
        deadline_ns: int | None = None,
        worst_case_bytes: int | None = None,
        own_process: bool = False,
        alone: bool = False,
    ) -> tuple[int, list[Action]]:
        """Ask for a copy; return the ticket's number and what follows.

        Args:
            tag: the model.
            now_ns: the present.
            priority: lower is served first.
            deadline_ns: when the wait ends; at or before now means not to wait at all.
            worst_case_bytes: what the model takes at most, should it be unknown.
            own_process: its memory can be told apart from everybody else's.
            alone: load a new copy on a drained device: the last one ran out of memory in use.
        """
        idle = None if alone else self.hand_out(tag, now_ns)
        if idle is not None:
            return self.last_ticket, [self._grant_of(self.last_ticket, idle, True)]
        self._begin(now_ns)
        self.last_ticket += 1
        ticket = Ticket(
            priority,
            self.last_ticket,
            tag,
            self._now_ns,
            deadline_ns,
            self._event_serial,
            worst_case_bytes,
            own_process,
        )
        ticket.exclusive = ticket.fresh = alone
        model = self.model(tag)
        self._tell_request(tag)
        if self.closed:
            self._reject(ticket, Refusal.CLOSED, "the manager was shut down")
            return ticket.ticket_num, self._take_actions()
        self.queue.push(ticket)
        model.changes += 1
        # Nothing was freed, so nobody but the newcomer can have become servable, or the first of
        # its line, which may have become long enough for one more copy.
        first = self.queue.first(tag)
        if first is ticket:
            copy = self._admission.free_copy(model, ticket)
            if copy is not None:
                self._grant_waiting(ticket, copy)
            else:
                self._serve(ticket)
        elif first is not None and model.staying:
            rooms = self._admission.most_room()
            if not self._admission.in_vain(first, model, rooms, self._now_ns):
                self._serve(first)
        if deadline_ns is not None and (
            ticket.ticket_num in self.queue or self._is_claiming(ticket)
        ):
            if deadline_ns <= self._now_ns:
                self._end_waiting(ticket)
                self._reject(ticket, Refusal.TIMED_OUT, "it could not be granted at once")
                self._pump()
            else:
                heapq.heappush(self._wakes, (deadline_ns, ticket.ticket_num))
        return ticket.ticket_num, self._take_actions()

    def hit(self, tag: str, now_ns: int) -> Grant | None:
        """Grant an idle copy to a newcomer where nobody waits for one; else change nothing."""
        copy = self.hand_out(tag, now_ns)
        return None if copy is None else self._grant_of(self.last_ticket, copy, True)

    def hand_out(self, tag: str, now_ns: int) -> Copy | None:
        """Do as ``hit`` and return the copy: ``last_action`` and ``last_ticket`` number its grant.

        This is what ``request`` does first. A grant is not even made of it: a simulation does this
        for most requests, and needs none.
        """
        model, waiting = self.models.get(tag), self.queue.tickets
        if model is None or not model.free or self.closed:
            return None
        if waiting and self.queue.first(tag) is not None:
            return None
        copy = self._admission.copy_for(model, self.last_ticket + 1)
        if copy is None:
            return None
        if now_ns > self._now_ns:  # noqa: PLR1730 - as _begin
            self._now_ns = now_ns
        self._event_serial += 1
        self.last_ticket += 1
        model.changes += 1
        self._tell_request(tag)
        if waiting:
            self._count_use(model, self.last_ticket, copy, self._event_serial)
        self._hand_over(copy)
        return copy

    def _tell_request(self, tag: str) -> None:
        """Tell the policies that a request came."""
        for policy in self._queue_values:
            policy.requested(tag, self._now_ns)
        for requested in self._on_request:
            requested(tag, self._now_ns)

    def cancel(self, ticket_num: int, now_ns: int) -> list[Action]:
        """End a ticket that was not granted yet; a load under way goes on for others."""
        self._begin(now_ns)
        ticket = self.queue.get(ticket_num) or self.committed_tickets.get(ticket_num)
        if ticket is not None:
            self._end_waiting(ticket)
            self._reject(ticket, Refusal.CANCELLED, "cancelled")
        return self._finish()

    def release(self, number: int, lease: int, now_ns: int) -> list[Action]:
        """Give a copy back; LeaseError where the lease is not the one in force."""
        copy = self.copies.get(number)
        # Who is not held has no lease.
        if copy is None or copy.lease != lease:
            raise LeaseError(
                f"lease {lease} of copy {number} is not in force: it was released before, belongs "
                "to somebody else, or its copy is gone"
            )
        if now_ns > self._now_ns:  # noqa: PLR1730 - as _begin
            self._now_ns = now_ns
        self._event_serial += 1
        copy.model.saw_hold(self._now_ns - copy.granted_ns)
        draining = copy.state is _DRAINING
        copy.take_back()
        self._let_go(copy)
        if draining:
            self._order_unload(copy, copy.condemned_for or "reset", None)
        elif not self._claiming and not self.queue.tickets:
            return []  # nobody could take what has come free
        return self._finish()

    def holder_lost(
        self, number: int, lease: int, now_ns: int, reason: str = "holder-lost"
    ) -> list[Action]:
        """Take a copy from a holder that died or ran out of memory with it; the copy goes.

        Nobody knows what state it is in. ``reason`` is told with its unload.
        """
        copy = self.copies.get(number)
        if copy is None or not copy.held or copy.lease != lease:
            return []
        self._begin(now_ns)
        copy.take(CopyEvent.HOLDER_LOST)
        self._let_go(copy)
        self._order_unload(copy, reason, None)
        return self._finish()

    # What became of orders -------------------------------------------------------------------

    def load_finished(
        self,
        number: int,
        now_ns: int,
        *,
        resident_bytes: int | None = None,
        peak_bytes: int | None = None,
    ) -> list[Action]:
        """A load ended well; the figures are what the copy itself was seen to take, if it was."""
        copy = self.copies.get(number)
        if copy is None or copy.state is not CopyState.LOADING:
            return []
        self._begin(now_ns)
        copy.take(CopyEvent.LOAD_FINISHED)
        copy.model.load_ns_seen = self._now_ns - copy.load_started_ns
        copy.last_used_ns = self._now_ns
        copy.idle_serial = self._event_serial
        costs = copy.model.costs
        resident = resident_bytes
        if resident is None:
            resident = costs.resident_bytes if costs is not None else 0
        peak = max(resident, peak_bytes or 0, costs.peak_bytes if costs is not None else 0)
        self.devices[copy.device].ledger.loaded(number, self._now_ns, resident, peak)
        ticket = self.committed_tickets.get(copy.ticket) if copy.ticket is not None else None
        copy.ticket = None
        if self.closed:
            if ticket is not None:
                self._end_waiting(ticket)
                self._reject(ticket, Refusal.CLOSED, "the manager was shut down")
            self._order_unload(copy, "shutdown", None)
        elif ticket is not None:
            del self.committed_tickets[ticket.ticket_num]
            self._grant(ticket, copy, hit=False)
        elif copy.isolated:
            self._end_isolation(copy)
            if copy.model.costs is None:
                self._order_unload(copy, "unmeasured", None)
        return self._finish()

    def load_failed(
        self, number: int, now_ns: int, message: str, *, out_of_memory: bool = False
    ) -> list[Action]:
        """A load ended badly. After out-of-memory it is tried once more on a drained device."""
        copy = self.copies.get(number)
        if copy is None or copy.state is not CopyState.LOADING:
            return []
        self._begin(now_ns)
        copy.take(CopyEvent.LOAD_FAILED)
        if not out_of_memory:
            self.devices[copy.device].lost_ns = self._now_ns
        self._load_ended_badly(copy, message, retry=out_of_memory)
        return self._finish()

    def unload_finished(self, number: int, now_ns: int, *, process_gone: bool) -> list[Action]:
        """An unload ended. Without a process of its own the memory must be seen to be back."""
        copy = self.copies.get(number)
        if copy is None or copy.state is not CopyState.UNLOADING:
            return []
        self._begin(now_ns)
        if process_gone:
            self._gone(copy, CopyEvent.UNLOAD_FINISHED)
        else:
            self.devices[copy.device].ledger.unload_observable(number, self._now_ns)
            copy.patience_ns = self._now_ns + self.settings.patience_ns
            self._unseen[number] = copy
            heapq.heappush(self._wakes, (copy.patience_ns, 0))
        return self._finish()

    def worker_lost(
        self, number: int, now_ns: int, message: str = "its worker died"
    ) -> list[Action]:
        """A copy's process died by itself: its memory is back, its holder has nothing."""
        copy = self.copies.get(number)
        if copy is None or copy.state is CopyState.RESERVED:
            return []
        self._begin(now_ns)
        self.devices[copy.device].lost_ns = self._now_ns
        if copy.state is CopyState.LOADING:
            copy.take(CopyEvent.WORKER_LOST)
            self._load_ended_badly(copy, message, retry=False)
        else:
            if copy.held:
                self._let_go(copy)
            if copy.ticket is not None:
                self._return_to_queue(self.committed_tickets[copy.ticket])
            self._gone(copy, CopyEvent.WORKER_LOST)
        return self._finish()

    # Readings and time -----------------------------------------------------------------------

    def memory_reading(
        self,
        device: int,
        now_ns: int,
        *,
        at_ns: int,
        used_bytes: int,
        own_bytes: Mapping[int, int] | None = None,
    ) -> list[Action]:
        """A good reading of a device, begun at ``at_ns``; ``own_bytes`` by copy where known.

        ``at_ns`` is of the clock of ``now_ns``. Should that one step back, then nobody knows when
        what is in flight was begun, and it must not be delivered.
        """
        self._begin(now_ns)
        ledger = self.devices[device].ledger
        # First, or a copy's reservation would be taken for what the reading shows of it.
        for number in ledger.unsettled():
            self._settle_if_covered(self.copies[number], at_ns)
        for number in ledger.read(at_ns, used_bytes, own_bytes):
            self._gone(self.copies[number], CopyEvent.UNLOAD_FINISHED)
        return self._finish()

    def resize(self, device: int, now_ns: int, total_bytes: int, limit_bytes: int) -> list[Action]:
        """A device turned out to have another size: the first good reading of one, mostly."""
        self._begin(now_ns)
        ledger = self.devices[device].ledger
        ledger.total_bytes = total_bytes
        ledger.limit_bytes = limit_bytes
        return self._finish()

    def reading_failed(self, device: int, now_ns: int, reason: str) -> list[Action]:
        """A reading failed: admission goes on with the last good one, and nothing gets freer."""
        self._begin(now_ns)
        self.devices[device].ledger.reading_fails(reason)
        return self._finish()

    def deadline(self, now_ns: int) -> list[Action]:
        """Let what was due until now happen: time-outs, patience, scale-ups."""
        self._begin(now_ns)
        while self._wakes and self._wakes[0][0] <= self._now_ns:
            _, num = heapq.heappop(self._wakes)
            ticket = self.queue.get(num) or self.committed_tickets.get(num)
            if ticket is None or ticket.deadline_ns is None:
                continue
            if ticket.deadline_ns <= self._now_ns and not self._is_loading(ticket):
                self._end_waiting(ticket)
                waited_s = (self._now_ns - ticket.submitted_ns) / 1e9
                self._reject(ticket, Refusal.TIMED_OUT, f"after {waited_s:.3g} s")
        for copy in list(self._unseen.values()):
            if copy.patience_ns is not None and copy.patience_ns <= self._now_ns:
                self.devices[copy.device].ledger.give_up_on(copy.number, self._now_ns)
                self._gone(copy, CopyEvent.UNLOAD_FINISHED)
        return self._finish()

    def next_deadline_ns(self) -> int | None:
        """Return when ``deadline`` is to be called at the latest, None where nothing is due."""
        while self._wakes:
            at_ns, num = self._wakes[0]
            if num and num not in self.queue and num not in self.committed_tickets:
                heapq.heappop(self._wakes)
                continue
            return at_ns
        return None

    # Orders from above -----------------------------------------------------------------------

    def reset(self, now_ns: int) -> list[Action]:
        """Unload idle copies now and held ones when they are released; waiters go on."""
        self._begin(now_ns)
        self._unload_all("reset")
        return self._finish()

    def close(self, now_ns: int) -> list[Action]:
        """Refuse waiters and newcomers and unload everything as its holders let go."""
        self._begin(now_ns)
        self.closed = True
        for ticket in [*self.queue, *self.committed_tickets.values()]:
            if not self._is_loading(ticket):
                self._end_waiting(ticket)
                self._reject(ticket, Refusal.CLOSED, "the manager was shut down")
        self._unload_all("shutdown")
        return self._finish()

    # Questions -------------------------------------------------------------------------------

    def has_idle(self, tag: str) -> bool:
        """Say whether a loaded copy of a model is free and nobody waits for it."""
        model = self.models.get(tag)
        return (
            model is not None
            and not self.queue.waiting(tag)
            and any(c.state is CopyState.IDLE and c.ticket is None for c in model.copies.values())
        )

    def plan_for(self, tag: str, ticket_num: int | None, now_ns: int) -> Plan | None:
        """Return how a new copy could be loaded now, for a waiting ticket or for a newcomer."""
        ticket = self.queue.get(ticket_num) if ticket_num is not None else None
        if ticket is None:
            number = self.last_ticket + 1
            ticket = Ticket(0, number, tag, submitted_ns=now_ns)
        if tag not in self.models:
            # A question changes nothing: ask as if the model had been mentioned.
            model = Model(tag, self.settings.min_copies, self.settings.max_copies)
            self.models[tag] = model
            try:
                return self._admission.load(ticket, now_ns, pays=False)
            finally:
                del self.models[tag]
        pays = self._admission.scale_up_pays(ticket, now_ns)
        return self._admission.load(ticket, now_ns, pays=pays)

    def waiting_for(self, ticket_num: int) -> Ticket | None:
        """Return a ticket that has not ended: waiting or committed."""
        return self.queue.get(ticket_num) or self.committed_tickets.get(ticket_num)

    # Serving ---------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Serve waiting tickets until nobody can be served: copies that are there before loads.

        A model that is loaded is served first, as its copy would else stand idle or be evicted and
        soon be loaded again; how often that may pass over an earlier ticket is bounded.
        """
        if self._claiming:
            for device in self.devices:
                self._advance_claims(device)
        waiting = self.queue.tickets
        while waiting:
            if not self._serve_a_loaded_model() and not self._serve_by_a_load():
                return

    def _serve_a_loaded_model(self) -> bool:
        """Grant an idle copy to the first ticket in order that can have one."""
        models, admission = self.models, self._admission
        for ticket in self.queue.heads():
            model = models[ticket.tag]
            copy = admission.free_copy(model, ticket) if model.free else None
            if copy is not None:
                self._grant_waiting(ticket, copy)
                return True
        return False

    def _serve_by_a_load(self) -> bool:
        """Serve the first ticket in order that room can be had for, or that can never be served."""
        admission, models, now_ns = self._admission, self.models, self._now_ns
        rooms = admission.most_room()
        for ticket in self.queue.heads():
            if admission.in_vain(ticket, models[ticket.tag], rooms, now_ns):
                continue
            if self._serve(ticket):
                return True
        return False

    def _grant_waiting(self, ticket: Ticket, copy: Copy) -> None:
        """Grant an idle copy to a waiting ticket."""
        self._leave_queue(ticket)
        self._count_use(self.models[ticket.tag], ticket.ticket_num, copy, ticket.serial)
        self._grant(ticket, copy, hit=True)

    def _count_use(self, model: Model, num: int, copy: Copy, came: int) -> None:
        """Count a free copy's use against every earlier ticket that could have used its room.

        It passes them over where it came free after the request did, else it is a hit.
        """
        device, queue = self.devices[copy.device], self.queue
        released = copy.idle_serial >= came
        for tag in queue.older_tags(num):
            if tag == model.tag or self._admission.may_lose(device, self.models[tag]):
                if released:
                    queue.count_passed_over(tag, num)
                else:
                    queue.count_hit(tag)

    def _serve(self, ticket: Ticket) -> bool:
        """Serve one waiting ticket that no idle copy can serve, if that is possible now."""
        admission = self._admission
        model = self.models[ticket.tag]
        too_large = admission.too_large_for_all(model)
        if too_large is not None:
            self._leave_queue(ticket)
            largest = max(device.ledger.limit_bytes for device in self.devices)
            self._reject(
                ticket,
                Refusal.DOES_NOT_FIT,
                f"it needs {too_large} bytes and the largest limit is {largest} bytes",
            )
            return True
        plan = None
        if model.free:
            hopeless = admission.hopeless_copy(ticket)
            if hopeless is not None:
                self._order_unload(hopeless, "make-room", ticket.tag, chosen=(hopeless.number,))
            plan = admission.room_to_run(ticket, self._now_ns)
        pays = False
        if plan is None:
            pays = bool(model.staying) and admission.scale_up_pays(ticket, self._now_ns)
            plan = admission.load(ticket, self._now_ns, pays=pays)
        if plan is None and 0 < model.free == model.staying and not ticket.exclusive:
            plan = admission.cleared_of_own(ticket, self._now_ns)
        if (
            plan is not None
            and plan.victims
            and ticket.deadline_ns is not None
            and ticket.deadline_ns <= self._now_ns
        ):
            return False
        if plan is not None:
            self._commit(ticket, plan)
            return True
        self._keep_a_device(ticket)
        if not ticket.will_clear and admission.doubts():
            resort_ns = admission.last_resort_ns(ticket)
            if resort_ns > self._now_ns:
                ticket.will_clear = True
                heapq.heappush(self._wakes, (resort_ns, ticket.ticket_num))
        if model.staying:
            self._wake_to_scale_up(ticket, pays=pays)
        ticket.looked_at = model.changes
        return False

    def _wake_to_scale_up(self, ticket: Ticket, *, pays: bool) -> None:
        """See to it that time alone can make one more copy worth its load, or its victims cold."""
        asked_ns = ticket.wake_ns if pays == ticket.wake_pays else None
        if asked_ns is not None and asked_ns <= self._now_ns:
            asked_ns = None
        if pays:
            if asked_ns is not None:
                return  # copies that come free later turn cold later
            wake_ns = self._admission.next_cold_ns(self._now_ns)
        else:
            moved_ns = self._admission.line_moved_ns(ticket)
            wake_ns = moved_ns + self.models[ticket.tag].reload_ns
            if asked_ns is not None and asked_ns <= wake_ns:
                return  # it is looked at then, and may ask for later
        if wake_ns is not None and wake_ns <= self._now_ns:
            wake_ns = None  # what is due already waits for an event: a copy that is coming, for one
        if wake_ns is not None and wake_ns != ticket.wake_ns:
            heapq.heappush(self._wakes, (wake_ns, ticket.ticket_num))
        ticket.wake_ns = wake_ns
        ticket.wake_pays = pays

    def _count_passed_over(self, served: Ticket, device: Device, evicted: AbstractSet[str]) -> None:
        """Count one against every earlier ticket that lost something to the one that is served.

        That is room on the device, a copy of its own model, or one that is evicted.
        """
        for tag in self.queue.older_tags(served.ticket_num):
            lost = tag == served.tag or tag in evicted
            if lost or self._admission.may_lose(device, self.models[tag]):
                self.queue.count_passed_over(tag, served.ticket_num)

    def _keep_a_device(self, ticket: Ticket) -> None:
        """Let a device empty for a ticket that must not be passed over any more."""
        if ticket.device is not None:
            if not self._admission.keeps_in_vain(ticket):
                return
            self.devices[ticket.device].kept_for = None
            ticket.device = None
        if not (ticket.urgent or self._admission.wants_drain(ticket)):
            return
        target = self._admission.drain_target(ticket)
        if target is None:
            return
        later = self.queue.get(target.kept_for) if target.kept_for is not None else None
        if later is not None:
            later.device = None
        self.queue.make_urgent(ticket)
        target.kept_for = ticket.ticket_num
        ticket.device = target.index

    def _commit(self, ticket: Ticket, plan: Plan) -> None:
        """Carry out a plan: evict its victims, then load or grant as soon as there is room."""
        self._leave_queue(ticket)
        self._count_passed_over(ticket, plan.device, {victim.tag for victim in plan.victims})
        self.committed_tickets[ticket.ticket_num] = ticket
        self._claiming[ticket.ticket_num] = ticket
        device = plan.device
        if plan.idle is not None:
            copy = plan.idle
        else:
            self._last_copy += 1
            copy = Copy(self._last_copy, self.model(ticket.tag), device.index, plan.need_bytes)
            self.copies[copy.number] = copy
            copy.model.copies[copy.number] = copy
            if len(copy.model.copies) > 1:
                self._several[copy.tag] = copy.model
            device.copies[copy.number] = copy
            if plan.isolated:
                copy.isolated = True
                device.isolating = copy.number
                device.isolation_quiet = plan.quiet
        copy.ticket = ticket.ticket_num
        ticket.copy = copy.number
        ticket.clears = plan.clears
        if plan.takes_rest:
            copy.reserved_bytes = 0
        if plan.victims:
            self._evict(ticket, plan)
        device.ledger.claim(copy.number, plan.need_bytes)
        self._advance_claims(device)

    def _evict(self, ticket: Ticket, plan: Plan) -> None:
        """Order the unloads of a plan's victims, with what there was to choose from."""
        candidates: tuple[Candidate, ...] = ()
        if self.names_candidates:
            candidates = tuple(
                [
                    _new_candidate(Candidate, (c.tag, c.copy, value, c.size_bytes))
                    for c, value in zip(plan.candidates, plan.values, strict=True)
                ]
            )
        chosen = tuple([victim.number for victim in plan.victims])
        instead = () if plan.isolated else self._chosen_by_others(plan)
        reason = "isolation" if plan.isolated else "make-room"
        for victim in plan.victims:
            candidate = next(c for c in plan.candidates if c.copy == victim.number)
            for evicted in self._on_evicted:
                evicted(candidate, self._now_ns)
            self._order_unload(victim, reason, ticket.tag, candidates, chosen, instead)

    def _chosen_by_others(self, plan: Plan) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Return what each other policy would have taken for a plan, with all that it was told."""
        missing = plan.need_bytes - plan.device.ledger.expected_room_bytes()
        choices: list[tuple[str, tuple[int, ...]]] = []
        for policy in self._others:
            chosen: Sequence[int] = ()
            with contextlib.suppress(Exception):  # one that fails would have taken nobody
                values = policy.values(plan.candidates, self._now_ns)
                chosen = policy.choose(plan.candidates, values, missing) or ()
            choices.append((policy.name, tuple(plan.candidates[i].copy for i in chosen)))
        return tuple(choices)

    def _advance_claims(self, device: Device) -> None:
        """Start what now has its room; give up claims that can no longer be met."""
        ledger = device.ledger
        for ticket in list(self._claiming.values()):
            copy = self.copies.get(ticket.copy) if ticket.copy is not None else None
            if copy is None or copy.device != device.index:
                continue
            room = ledger.room_for_claim(copy.number)
            if copy.state is CopyState.RESERVED and copy.isolated and copy.reserved_bytes == 0:
                # It takes the rest of the device, whatever that is once all have left.
                costs = copy.model.costs
                least = 1 if costs is None else max(1, costs.needed_bytes)
                if not device.leaving and room >= least:
                    self._start_load(ticket, copy, room)
                    continue
            else:
                need = self._need_of(copy)
                if need <= room:
                    self._start_load_or_grant(ticket, copy, need)
                    continue
            if not device.leaving and self._has_seen_all(ticket, device):
                self._return_to_queue(ticket)

    @staticmethod
    def _has_seen_all(ticket: Ticket, device: Device) -> bool:
        """Say whether a plan that is short of room has no more to hope for."""
        ledger = device.ledger
        if not ticket.clears:
            return True
        if ledger.reading_failed is None and (ledger.reading_at_ns or 0) <= device.left_ns:
            return False  # what the victims held beyond their charge shows in the next one
        ledger.believe_others()
        return True

    def _need_of(self, copy: Copy) -> int:
        if copy.state is CopyState.RESERVED:
            costs = copy.model.costs
            return max(copy.reserved_bytes, 0 if costs is None else costs.needed_bytes)
        return self.devices[copy.device].ledger.activation_bytes(copy.number)

    def _start_load_or_grant(self, ticket: Ticket, copy: Copy, need: int) -> None:
        if copy.state is CopyState.RESERVED:
            self._start_load(ticket, copy, need)
            return
        self.devices[copy.device].ledger.unclaim(copy.number)
        copy.ticket = None
        del self.committed_tickets[ticket.ticket_num]
        del self._claiming[ticket.ticket_num]
        self._grant(ticket, copy, hit=True)

    def _start_load(self, ticket: Ticket, copy: Copy, size_bytes: int) -> None:
        del self._claiming[ticket.ticket_num]
        copy.reserved_bytes = size_bytes
        self.devices[copy.device].ledger.reserve(copy.number, size_bytes)
        copy.take(CopyEvent.LOAD_STARTED)
        copy.load_started_ns = self._now_ns
        self._actions.append(
            StartLoad(
                self._next_action(),
                ticket.ticket_num,
                copy.tag,
                copy.number,
                copy.device,
                size_bytes,
                copy.isolated,
            )
        )

    def _grant(self, ticket: Ticket, copy: Copy, *, hit: bool) -> None:
        ticket.copy = copy.number
        self._hand_over(copy)
        self._actions.append(self._grant_of(ticket.ticket_num, copy, hit))

    def _hand_over(self, copy: Copy) -> None:
        """Make a copy active, under a new lease."""
        copy.hand_out()
        number, device, model = copy.number, copy.device, copy.model
        self._last_lease += 1
        self.last_action += 1
        copy.lease = self._last_lease
        copy.granted_ns = model.granted_ns = self._now_ns
        self.devices[device].ledger.set_active(number, True)
        for used in self._on_use:
            used(number, model.tag, device)

    def _grant_of(self, ticket_num: int, copy: Copy, hit: bool) -> Grant:
        """Return the grant of what was handed over last."""
        # Grant(...), without the call of Python code that a named tuple's own constructor is.
        return _new(
            Grant,
            (
                self.last_action,
                ticket_num,
                copy.model.tag,
                copy.number,
                copy.device,
                self._last_lease,
                hit,
            ),
        )

    # Endings ---------------------------------------------------------------------------------

    def _let_go(self, copy: Copy) -> None:
        """Note that nobody holds a copy any more; its isolation, if any, ends with that."""
        copy.lease = None
        copy.last_used_ns = self._now_ns
        copy.idle_serial = self._event_serial
        self.devices[copy.device].ledger.set_active(copy.number, False)
        if copy.isolated:
            self._end_isolation(copy)

    def _end_isolation(self, copy: Copy) -> None:
        device = self.devices[copy.device]
        if device.isolating == copy.number:
            device.isolating = None
            device.isolation_quiet = False
        copy.isolated = False

    def _load_ended_badly(self, copy: Copy, message: str, *, retry: bool) -> None:
        ticket = self.committed_tickets.pop(copy.ticket, None) if copy.ticket is not None else None
        self._forget(copy)
        if ticket is None:
            return
        ticket.copy = None
        if retry and not ticket.exclusive and not self.closed:
            ticket.exclusive = True
            self.queue.push(ticket)
            if ticket.deadline_ns is not None:
                heapq.heappush(self._wakes, (ticket.deadline_ns, ticket.ticket_num))
        else:
            self._reject(ticket, Refusal.LOAD_FAILED, message)

    def _order_unload(  # noqa: PLR0917 - an unload and its explanation
        self,
        copy: Copy,
        reason: str,
        requested_by: str | None,
        candidates: tuple[Candidate, ...] = (),
        chosen: tuple[int, ...] = (),
        instead: tuple[tuple[str, tuple[int, ...]], ...] = (),
    ) -> None:
        if copy.state is not CopyState.UNLOADING:
            copy.take(CopyEvent.UNLOAD_STARTED)
        device = self.devices[copy.device]
        device.leaving += 1
        ledger = device.ledger
        ledger.start_leaving(copy.number)
        self._end_isolation(copy)
        self._actions.append(
            StartUnload(
                self._next_action(),
                copy.tag,
                copy.number,
                copy.device,
                reason,
                requested_by,
                ledger.charge_of(copy.number),
                candidates,
                chosen,
                instead,
            )
        )

    def _unload_all(self, reason: str) -> None:
        for copy in list(self.copies.values()):
            if copy.state is CopyState.ACTIVE:
                copy.take(CopyEvent.CONDEMNED)
                copy.condemned_for = reason
            elif copy.state is CopyState.DRAINING:
                copy.condemned_for = reason
            elif copy.state in (CopyState.IDLE, CopyState.SETTLING):
                if copy.ticket is not None:
                    self._return_to_queue(self.committed_tickets[copy.ticket])
                self._order_unload(copy, reason, None)

    def _abandon(self, copy: Copy) -> None:
        """Give up a claim: the copy to be was never loaded, the idle one is free again."""
        self.devices[copy.device].ledger.unclaim(copy.number)
        copy.ticket = None
        if copy.state is CopyState.RESERVED:
            self._gone(copy, CopyEvent.LOAD_ABANDONED)

    def _return_to_queue(self, ticket: Ticket) -> None:
        """Let a committed ticket wait again: what was to be its copy is not."""
        copy = self.copies.get(ticket.copy) if ticket.copy is not None else None
        if copy is not None and copy.ticket == ticket.ticket_num:
            self._abandon(copy)
        ticket.copy = None
        del self.committed_tickets[ticket.ticket_num]
        self._claiming.pop(ticket.ticket_num, None)
        self.queue.push(ticket)

    def _end_waiting(self, ticket: Ticket) -> None:
        """Take a ticket out of wherever it is; what is being loaded for it goes on for others."""
        if ticket.ticket_num in self.queue:
            self._leave_queue(ticket)
            return
        del self.committed_tickets[ticket.ticket_num]
        self._claiming.pop(ticket.ticket_num, None)
        copy = self.copies.get(ticket.copy) if ticket.copy is not None else None
        if copy is not None and copy.ticket == ticket.ticket_num:
            if copy.state is CopyState.LOADING:
                copy.ticket = None
            else:
                self._abandon(copy)

    def _leave_queue(self, ticket: Ticket) -> None:
        self.queue.remove(ticket)
        if ticket.device is not None:
            device = self.devices[ticket.device]
            if device.kept_for == ticket.ticket_num:
                device.kept_for = None
            ticket.device = None

    def _gone(self, copy: Copy, event: CopyEvent) -> None:
        if copy.state is CopyState.UNLOADING:
            device = self.devices[copy.device]
            device.leaving -= 1
            device.left_ns = self._now_ns
        copy.take(event)
        self._forget(copy)

    def _forget(self, copy: Copy) -> None:
        device = self.devices[copy.device]
        device.ledger.gone(copy.number)
        self._end_isolation(copy)
        self._unseen.pop(copy.number, None)
        copy.patience_ns = None
        copy.lease = None
        del self.copies[copy.number]
        del copy.model.copies[copy.number]
        del device.copies[copy.number]
        if len(copy.model.copies) == 1:
            del self._several[copy.tag]
            costs = copy.model.costs
            if costs is None or costs.load_ns is None:
                self._admission.victims.forget_floors()  # its last load may have been faster

    def _reject(self, ticket: Ticket, refusal: Refusal, message: str) -> None:
        self._actions.append(
            Reject(self._next_action(), ticket.ticket_num, ticket.tag, refusal, message)
        )

    def _settle_if_covered(self, copy: Copy, at_ns: int | None = None) -> None:
        """End a reservation once a reading taken after the load stands for it.

        Of a model whose cost is still unknown, the copy settles but the reservation stays.
        ``at_ns`` is when the reading was begun, the last one by default.
        """
        ledger = self.devices[copy.device].ledger
        if not ledger.covers(copy.number, at_ns):
            return
        if copy.model.costs is not None:
            ledger.settle(copy.number)
        if copy.state is CopyState.SETTLING:
            copy.take(CopyEvent.SETTLED)

    # Bookkeeping -----------------------------------------------------------------------------

    def _is_claiming(self, ticket: Ticket) -> bool:
        """Say whether a committed ticket still waits for room."""
        return ticket.ticket_num in self._claiming

    def _is_loading(self, ticket: Ticket) -> bool:
        if ticket.ticket_num not in self.committed_tickets or ticket.copy is None:
            return False
        copy = self.copies.get(ticket.copy)
        return copy is not None and copy.state is CopyState.LOADING

    def _begin(self, now_ns: int) -> None:
        # A clock that steps back must not undo what already happened.
        if now_ns > self._now_ns:  # noqa: PLR1730 - twice as fast as max()
            self._now_ns = now_ns
        self._event_serial += 1

    def _finish(self) -> list[Action]:
        self._pump()
        return self._take_actions()

    def _take_actions(self) -> list[Action]:
        actions = self._actions
        self._actions = []
        return actions

    def _next_action(self) -> int:
        self.last_action += 1
        return self.last_action

    def check_valid(self) -> None:
        """Raise AssertionError where a promise or an index does not hold."""
        check_promises(self)
        making = (CopyState.RESERVED, CopyState.IDLE)
        claiming = {
            num
            for num, ticket in self.committed_tickets.items()
            if ticket.copy is not None and self.copies[ticket.copy].state in making
        }
        assert set(self._claiming) == claiming, "who claims room is not known"  # noqa: S101
        unseen = {copy.number for copy in self.copies.values() if copy.patience_ns is not None}
        assert set(self._unseen) == unseen, "whose memory is not back is not known"  # noqa: S101
        for device in self.devices:
            leaving = sum(copy.state is CopyState.UNLOADING for copy in device.copies.values())
            assert leaving == device.leaving, f"{device.name}: who leaves was miscounted"  # noqa: S101
        several = {tag for tag, model in self.models.items() if len(model.copies) > 1}
        assert set(self._several) == several, "who has more than one copy is not known"  # noqa: S101
        for model in self.models.values():
            coming = sum(copy.state in COMING for copy in model.copies.values())
            assert coming == model.coming, f"{model.tag!r}: who comes was miscounted"  # noqa: S101
