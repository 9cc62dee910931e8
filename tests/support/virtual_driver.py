"""A driver of the scheduler in virtual time, over devices whose true use is known.

It carries out orders only when a test says so (a load ends, an unload ends, memory comes back
late, a reading is delivered), keeps books of its own, and holds every single event against the
promises by those books (``PromiseJudge`` has those that span several events): what it checks is
never read from the scheduler's own ledger.

It is one long module on purpose: each order is carried out and checked in the same place.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence

from modelmgr.errors import LeaseError
from modelmgr.scheduling.actions import Action, Grant, Refusal, Reject, StartLoad, StartUnload
from modelmgr.scheduling.copies import Copy, ModelCosts
from modelmgr.scheduling.queue import Ticket
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.scheduling.settings import SchedulerSettings
from modelmgr.scheduling.states import CopyState
from support.promise_judge import Asked, PromiseJudge, must
from support.virtual_devices import Phase, Reading, Size, TrueCopy, VirtualDevices

__all__ = ["VirtualDriver", "must"]

Outcome = Grant | Reject


class VirtualDriver:
    """Runs one scheduler; one nanosecond passes before every event.

    Args:
        limits: the limit of each device; its total is the same.
        foreign: what others use there from the start.
        read: take a first good reading of every device.
        steady: foreign use will not move, so that the memory promise can be held to the byte.
        settings: how the scheduler decides.
    """

    def __init__(
        self,
        *limits: int,
        foreign: Sequence[int] = (),
        read: bool = True,
        steady: bool = True,
        settings: SchedulerSettings | None = None,
    ) -> None:
        self.true = VirtualDevices(list(limits), list(foreign) or [0] * len(limits))
        self.now_ns = 0
        self.log: list[Action] = []
        self.checks: Counter[str] = Counter()
        self._settings = settings or SchedulerSettings()
        self._begin_an_epoch(steady=steady)
        if read:
            for device in range(len(limits)):
                self.read(device)

    def _begin_an_epoch(self, *, steady: bool) -> None:
        """Start a scheduler that knows nothing, and empty books for it."""
        self.scheduler = Scheduler(
            [(f"d{index}", limit, limit) for index, limit in enumerate(self.true.limits)],
            self._settings,
        )
        self.judge = PromiseJudge(self.scheduler, self.true, self.checks, steady=steady)
        self.last: list[Action] = []
        self.outcome: dict[int, Outcome | None] = {}
        self.leases: dict[int, Grant] = {}
        self.past_leases: list[tuple[int, int]] = []
        self.isolating: dict[int, int] = {}
        self._quiet: set[int] = set()
        self._own_process: dict[int, bool] = {}
        self._pinned: set[str] = set()
        self._ever_pinned: set[str] = set()
        self._reading_ns: dict[int, int] = {}
        self._copies_seen: set[int] = set()
        self._lease_seen = 0
        self._open: set[int] = set()
        self._logged_before = len(self.log)

    @property
    def passed_over(self) -> dict[int, int]:
        """How often each ticket was passed over, by an outside count; none where it never was."""
        return self.judge.passed_over

    @property
    def steady(self) -> bool:
        """Whether foreign use does not move and no reading makes it less than it is."""
        return self.judge.steady

    @steady.setter
    def steady(self, steady: bool) -> None:
        self.judge.steady = steady

    # What models take ------------------------------------------------------------------------

    def sizes(self, tag: str, resident: int, peak: int | None = None) -> None:
        """State what a model truly takes without telling the scheduler: it is unknown."""
        self.true.sizes[tag] = Size(resident, resident if peak is None else peak)

    def tell(
        self,
        tag: str,
        *,
        load_peak: int | None = None,
        load_ns: int | None = None,
        hold_ns: int | None = None,
        more: int = 0,
    ) -> None:
        """Tell the scheduler the true costs of a model, its peak with ``more`` on top."""
        size = self.true.sizes[tag]
        costs = ModelCosts(size.resident_bytes, size.peak_bytes + more, load_peak, load_ns, hold_ns)
        self._tell("set_costs")
        self.judge.known[tag] = costs
        self._absorb(self.scheduler.set_costs(tag, costs, self.now_ns))

    def know(
        self,
        tag: str,
        resident: int,
        peak: int | None = None,
        *,
        load_peak: int | None = None,
        load_ns: int | None = None,
        hold_ns: int | None = None,
    ) -> None:
        """State what a model takes and tell the scheduler."""
        self.sizes(tag, resident, peak)
        self.tell(tag, load_peak=load_peak, load_ns=load_ns, hold_ns=hold_ns)

    # What callers do -------------------------------------------------------------------------

    def request(
        self,
        tag: str,
        *,
        priority: int = 0,
        wait_ns: int | None = None,
        worst_case: int | None = None,
        own_process: bool = False,
        alone: bool = False,
    ) -> int:
        """Ask for a copy; return the ticket's number."""
        self._tell("request")
        before = len(self.outcome)
        deadline_ns = None if wait_ns is None else self.now_ns + wait_ns
        ticket, actions = self.scheduler.request(
            tag,
            self.now_ns,
            priority=priority,
            deadline_ns=deadline_ns,
            worst_case_bytes=worst_case,
            own_process=own_process,
            alone=alone,
        )
        must(ticket == before + 1, "ticket numbers count up", ticket)
        self.outcome[ticket] = None
        self._open.add(ticket)
        self._own_process[ticket] = own_process
        self.judge.came(
            Asked(ticket, tag, priority, deadline_ns, worst_case, own_process, alone, 0)
        )
        self._absorb(actions)
        return ticket

    def release(self, number: int) -> None:
        """Give a held copy back."""
        self._tell("release", number)
        lease = self.leases[number].lease
        actions = self.scheduler.release(number, lease, self.now_ns)
        self._let_go(number)
        self._absorb(actions)

    def holder_lost(self, number: int, reason: str = "holder-lost") -> None:
        """Let a holder die, or run out of memory."""
        self._tell("holder_lost", number)
        lease = self.leases[number].lease
        actions = self.scheduler.holder_lost(number, lease, self.now_ns, reason)
        self._let_go(number)
        self._absorb(actions)

    def cancel(self, ticket: int) -> None:
        """Take a request back."""
        self._tell("cancel", ticket)
        self._absorb(self.scheduler.cancel(ticket, self.now_ns))

    def pin(self, tag: str, *, pinned: bool = True) -> None:
        """Pin or unpin a model."""
        self._tell("pin")
        if pinned:
            self._pinned.add(tag)
            self._ever_pinned.add(tag)
            self.judge.pinned.add(tag)
        else:
            self._pinned.discard(tag)
            self.judge.pinned.discard(tag)
        self._absorb(self.scheduler.pin(tag, self.now_ns, pinned=pinned))

    def reset(self) -> None:
        """Unload everything that nobody holds."""
        self._tell("reset")
        self.judge.reset()
        self._absorb(self.scheduler.reset(self.now_ns))

    def close(self) -> None:
        """Shut down."""
        self._tell("close")
        self.judge.close()
        self._absorb(self.scheduler.close(self.now_ns))

    def restart(self, *, read: bool = True) -> None:
        """Kill the manager and start another: all copies go, and nothing of the old one counts."""
        leases = [(grant.copy, grant.lease) for grant in self.leases.values()]
        numbers = list(self.true.copies)
        tickets = self.open_tickets()
        self.true.copies.clear()
        self._begin_an_epoch(steady=self.steady)
        for number, lease in leases:
            self.stale("release", number, lease)
            self.stale("holder_lost", number, lease)
        for number in numbers:
            for kind in ("load_finished", "load_failed", "unload_finished", "worker_lost"):
                self.stale(kind, number)
        for ticket in tickets:
            self.cancel(ticket)
            must(not self.last, "a ticket of another manager ends here", self.last)
        if read:
            for device in range(len(self.true.limits)):
                self.read(device)

    def resize(self, device: int, limit: int) -> None:
        """Let a device turn out to have another size."""
        self._tell("resize")
        self.true.limits[device] = limit
        self._absorb(self.scheduler.resize(device, self.now_ns, limit, limit))

    def stale(self, kind: str, number: int, lease: int = 0) -> None:
        """Tell what answers nothing that is in force (twice, late): it must change nothing."""
        scheduler, now_ns = self.scheduler, self.now_ns
        before = pickle.dumps(scheduler)
        actions: list[Action] = []
        refused = False
        match kind:
            case "release":
                try:
                    actions = scheduler.release(number, lease, now_ns)
                except LeaseError:
                    refused = True
            case "holder_lost":
                actions = scheduler.holder_lost(number, lease, now_ns)
            case "load_finished":
                actions = scheduler.load_finished(number, now_ns, resident_bytes=1)
            case "load_failed":
                actions = scheduler.load_failed(number, now_ns, "late", out_of_memory=True)
            case "unload_finished":
                actions = scheduler.unload_finished(number, now_ns, process_gone=False)
            case _:
                actions = scheduler.worker_lost(number, now_ns)
        self.checks["lease"] += 1
        must(refused == (kind == "release"), "a stale release is accepted", number, lease)
        must(not actions, "what is stale has consequences", kind, number, actions)
        must(pickle.dumps(scheduler) == before, "what is stale changes something", kind, number)

    # What orders come to ---------------------------------------------------------------------

    def load(self, number: int, *, seen: bool = False) -> None:
        """Let a load end well; ``seen`` reports what the copy itself was seen to take."""
        self._tell("load_finished", number)
        copy = self.true.copies[number]
        size = self.true.sizes[copy.tag]
        copy.phase, copy.loaded_ns = Phase.LOADED, self.judge.now_ns
        copy.using_bytes = size.resident_bytes
        actions = self.scheduler.load_finished(
            number,
            self.now_ns,
            resident_bytes=size.resident_bytes if seen else None,
            peak_bytes=size.peak_bytes if seen else None,
        )
        self.judge.free(number)
        if not any(
            isinstance(action, Grant) and action.copy == number and not action.hit
            for action in actions
        ):
            self._isolation_ends(number)
        self._absorb(actions)

    def fail_load(self, number: int, *, out_of_memory: bool = False) -> None:
        """Let a load end badly; nothing of it stays."""
        self._tell("load_failed", number)
        self._drop(number)
        self.judge.load_ended_badly(number, again=out_of_memory)
        self._absorb(
            self.scheduler.load_failed(number, self.now_ns, "boom", out_of_memory=out_of_memory)
        )

    def unload(self, number: int, *, process_gone: bool = True, late: bool = False) -> None:
        """Let an unload end; ``late`` keeps its memory on the device for now."""
        self._tell("unload_finished", number)
        if not process_gone:
            self.judge.unload_unseen(number)
        if late:
            self.true.copies[number].phase = Phase.LATE
        else:
            self._drop(number)
        self._absorb(self.scheduler.unload_finished(number, self.now_ns, process_gone=process_gone))

    def come_back(self, number: int) -> None:
        """Let memory that was late come back; nobody is told."""
        self._drop(number)

    def worker_lost(self, number: int) -> None:
        """Let a copy's process die by itself."""
        self._tell("worker_lost", number)
        self._drop(number)
        self.judge.load_ended_badly(number, again=False)
        self._absorb(self.scheduler.worker_lost(number, self.now_ns))

    # Readings and time -----------------------------------------------------------------------

    def query(self, device: int, *, own: bool = False) -> Reading:
        """Begin a reading that is delivered later."""
        self._tick()
        return self.true.read(device, self.now_ns, own=own)

    def deliver(self, reading: Reading) -> None:
        """Deliver a reading; what it showed is never believed to be less."""
        self._tell("memory_reading")
        self.judge.read(reading)
        device = reading.device
        fresh = reading.at_ns >= self._reading_ns.get(device, -1)
        if fresh:
            self._reading_ns[device] = reading.at_ns
        self._absorb(
            self.scheduler.memory_reading(
                device,
                self.now_ns,
                at_ns=reading.at_ns,
                used_bytes=reading.used_bytes,
                own_bytes=reading.own_bytes,
            )
        )
        if fresh:
            committed = self.scheduler.devices[device].ledger.committed_bytes
            must(committed >= reading.used_bytes, "believed less than was read", self.state())

    def read(self, device: int = 0, *, own: bool = False) -> None:
        """Read a device truly and at once."""
        self.deliver(self.query(device, own=own))

    def fail_reading(self, device: int = 0) -> None:
        """Let a reading fail: what the ledger believes of others does not get less."""
        self.checks["unknown"] += 1
        self._tell("reading_failed")
        self.judge.reading_fails(device)
        ledger = self.scheduler.devices[device].ledger
        foreign = ledger.foreign_bytes
        self._absorb(self.scheduler.reading_failed(device, self.now_ns, "no answer"))
        must(ledger.foreign_bytes >= foreign, "a failed reading made room")
        must(ledger.reading_failed is not None, "a failed reading is not known")

    def wait(self, duration_ns: int) -> None:
        """Let time pass, calling ``deadline`` exactly when the scheduler wants it, and at the end.

        What is due is done at its time: more than one call for one moment is a busy loop.
        """
        until_ns = self.now_ns + duration_ns
        while (due_ns := self.scheduler.next_deadline_ns()) is not None and due_ns <= until_ns:
            self.now_ns = max(self.now_ns, due_ns)
            self.judge.tell("deadline", self.now_ns)
            self._absorb(self.scheduler.deadline(self.now_ns))
            again_ns = self.scheduler.next_deadline_ns()
            must(again_ns is None or again_ns > self.now_ns, "due again at once")
        self.now_ns = until_ns
        self.judge.tell("deadline", self.now_ns)
        self._absorb(self.scheduler.deadline(self.now_ns))
        idle = not self.last or self.now_ns < self.judge.now_ns  # the clock has stepped back
        must(idle, "only time went by, and nothing was due", self.last, self.state())

    def jump(self, by_ns: int) -> None:
        """Let the clock step, back or forth, with nobody called on the way."""
        self.now_ns = max(0, self.now_ns + by_ns)

    def poke(self) -> None:
        """Call ``deadline`` without need: early calls are harmless."""
        self._tell("deadline")
        self._absorb(self.scheduler.deadline(self.now_ns))

    # Whole runs ------------------------------------------------------------------------------

    def obey(self) -> None:
        """Carry out every order at once until there is none; unloads take their process along."""
        while True:
            loading = [c.number for c in self.true.copies.values() if c.phase is Phase.LOADING]
            unloading = [c.number for c in self.true.copies.values() if c.phase is Phase.UNLOADING]
            for number in unloading:
                self.unload(number)
            for number in loading:
                if number in self.true.copies:
                    self.load(number)
                    self.read(self.true.copies[number].device)
            if not loading and not unloading:
                return

    def serve(self, tag: str) -> int:
        """Request a model, carry out all orders, and give it back; return the ticket's number."""
        ticket = self.request(tag)
        self.obey()
        outcome = self.outcome[ticket]
        if isinstance(outcome, Grant):
            self.release(outcome.copy)
        return ticket

    def drain(self) -> None:
        """Let everybody finish; fail unless every ticket ends and every reservation with it."""
        self.now_ns = max(self.now_ns, self.judge.now_ns)  # a clock that stepped back catches up
        for tag in sorted(self._pinned):
            self.pin(tag, pinned=False)
        for _ in range(40 + 8 * len(self.outcome)):
            for copy in list(self.true.copies.values()):
                self._finish(copy)
            for device in range(len(self.true.limits)):
                self.read(device)
            if not self.open_tickets() and not self.true.copies.keys() - self._idle():
                break
            self.wait(1_000_000_000)
        must(not self.open_tickets(), "nobody ends", self.open_tickets(), self.state())
        for kept in self.scheduler.copies.values():
            must(kept.state in (CopyState.IDLE, CopyState.SETTLING), "not quiet", self.state())
        for place in self.scheduler.devices:
            ledger = place.ledger
            must(ledger.claimed_bytes == 0, "a claim outlived its plan")
            must(ledger.reserved_bytes == 0, "a reservation outlived its load", self.state())
            must(ledger.freeing_bytes == 0, "memory is on its way back for ever", self.state())
            must(place.kept_for is None, "a device is kept for nobody", self.state())

    def _finish(self, copy: TrueCopy) -> None:
        number = copy.number
        if number not in self.true.copies:
            return
        size = self.true.sizes[copy.tag]
        if copy.phase is Phase.LOADING:
            if size.peak_bytes > copy.reserved_bytes:
                self.fail_load(number, out_of_memory=True)
                return
            self.load(number)
        if copy.phase is Phase.LOADED and self.scheduler.model(copy.tag).costs is None:
            self.tell(copy.tag)
        if number in self.leases:
            self.release(number)
        if copy.phase is Phase.UNLOADING:
            self.unload(number)
        elif copy.phase is Phase.LATE:
            self.come_back(number)

    def _idle(self) -> set[int]:
        return {n for n, c in self.true.copies.items() if c.phase is Phase.LOADED and not c.held}

    # Questions -------------------------------------------------------------------------------

    def open_tickets(self) -> list[int]:
        """Return the tickets that have not ended."""
        return sorted(self._open)

    def granted(self, ticket: int) -> int | None:
        """Return the copy a ticket was granted, None where it was not."""
        outcome = self.outcome[ticket]
        return outcome.copy if isinstance(outcome, Grant) else None

    def refusal(self, ticket: int) -> Refusal | None:
        """Return why a ticket was refused, None where it was not."""
        outcome = self.outcome[ticket]
        return outcome.refusal if isinstance(outcome, Reject) else None

    def in_phase(self, phase: Phase) -> list[int]:
        """Return the copies in a phase, oldest first."""
        return [copy.number for copy in self.true.copies.values() if copy.phase is phase]

    def tags(self, phase: Phase = Phase.LOADED) -> list[str]:
        """Return the tags of the copies in a phase, oldest copy first."""
        return [self.true.copies[number].tag for number in self.in_phase(phase)]

    def loads(self) -> list[StartLoad]:
        """Return all loads that were ordered so far."""
        return [action for action in self.log if isinstance(action, StartLoad)]

    def unloads(self) -> list[StartUnload]:
        """Return all unloads that were ordered so far."""
        return [action for action in self.log if isinstance(action, StartUnload)]

    def copy(self, number: int) -> Copy:
        """Return the scheduler's own record of a copy."""
        return self.scheduler.copies[number]

    def state(self) -> str:
        """Describe the scheduler for a failure's message."""
        s = self.scheduler
        lines = [f"now {self.now_ns}, {s.settings}"]
        lines += [
            f"{d.name}: limit {d.ledger.limit_bytes} foreign {d.ledger.foreign_bytes} committed "
            f"{d.ledger.committed_bytes} claimed {d.ledger.claimed_bytes} kept {d.kept_for} "
            f"isolating {d.isolating} failed {d.ledger.reading_failed}"
            for d in s.devices
        ]
        lines += [
            f"copy {c.number} {c.tag} d{c.device} {c.state.value} ticket {c.ticket}"
            for c in s.copies.values()
        ]
        lines += [
            f"{t} passed {s.queue.passed_over(t)} device {t.device} urgent {t.urgent}"
            for t in s.queue
        ]
        return "\n".join(lines)

    # Books -----------------------------------------------------------------------------------

    def _tick(self) -> None:
        self.now_ns += 1

    def _tell(self, event: str, about: int | None = None) -> None:
        self._tick()
        self.judge.tell(event, self.now_ns, about)

    def _let_go(self, number: int) -> None:
        del self.leases[number]
        self.true.copies[number].held = False
        self.judge.free(number)
        self._isolation_ends(number)

    def _drop(self, number: int) -> None:
        self._isolation_ends(number)
        self.leases.pop(number, None)
        self.judge.moved(self.true.copies[number].device)
        del self.true.copies[number]

    def _isolation_ends(self, number: int) -> None:
        device = self.true.copies[number].device
        if self.isolating.get(device) == number:
            del self.isolating[device]
            self._quiet.discard(device)

    def _absorb(self, actions: list[Action]) -> None:
        self.last = actions
        self._note_covered()
        for action in actions:
            number = len(self.log) - self._logged_before + 1
            must(action.action_id == number, "actions are numbered in order", action)
            self.log.append(action)
            self.judge.see(action)
            match action:
                case Grant():
                    self._take_grant(action)
                case StartLoad():
                    self._take_load(action)
                case StartUnload():
                    self._take_unload(action)
                case Reject():
                    self._end(action)
        self._note_covered()
        self.judge.settle()
        self._check()

    def _note_covered(self) -> None:
        """End reservations as promised: known, and a good reading begun after the load."""
        for copy in self.true.copies.values():
            if copy.phase is Phase.LOADED and copy.tag in self.judge.known:
                copy.covered |= self._reading_ns.get(copy.device, -1) >= copy.loaded_ns

    def _end(self, action: Outcome) -> None:
        ticket = action.ticket_num
        # A request that is answered at once ends before its number is known.
        must(self.outcome.get(ticket) is None, "a ticket ended twice", action)
        self.outcome[ticket] = action
        self._open.discard(ticket)

    def _take_grant(self, grant: Grant) -> None:
        self._end(grant)
        copy = self.true.copies[grant.copy]
        must(copy.tag == grant.tag and copy.device == grant.device, "granted another's", grant)
        must(copy.phase is Phase.LOADED, "granted what is not loaded", grant, copy)
        must(not copy.held, "one copy, two holders", grant)
        must(grant.lease > self._lease_seen, "a lease comes back", grant)
        quiet = copy.device in self._quiet and self.isolating.get(copy.device) != copy.number
        must(not quiet, "a hit beside a measurement that only an aggregate shows", grant)
        self._lease_seen = grant.lease
        self.leases[grant.copy] = grant
        self.past_leases.append((grant.copy, grant.lease))
        promised = self.true.promised_bytes(grant.device)
        copy.held = True
        if self.true.promised_bytes(grant.device) > promised:
            self._check_memory(grant)

    def _take_load(self, load: StartLoad) -> None:
        must(load.copy not in self._copies_seen, "a copy's number comes back", load)
        must(self.outcome.get(load.ticket_num) is None, "a load for a ticket that ended", load)
        self._copies_seen.add(load.copy)
        here = self.true.on(load.device)
        must(load.device not in self.isolating, "a load beside an isolated one", load)
        if load.isolated:
            loading = [copy for copy in here if copy.phase is Phase.LOADING]
            must(not loading, "isolated beside a load", load, loading)
            self.isolating[load.device] = load.copy
            if not self._own_process[load.ticket_num]:
                must(not any(copy.held for copy in here), "an aggregate cannot tell holders apart")
                self._quiet.add(load.device)
            if self.scheduler.settings.isolation == "exclusive":
                staying = [
                    copy
                    for copy in here
                    if copy.phase is Phase.LOADED and copy.tag not in self._ever_pinned
                ]
                must(not staying, "exclusive, and somebody is there", load, staying)
        costs = self.scheduler.model(load.tag).costs
        if costs is not None:
            must(load.reserved_bytes >= costs.needed_bytes, "reserved less than needed", load)
        self.true.copies[load.copy] = TrueCopy(
            load.copy, load.tag, load.device, load.reserved_bytes, load.isolated
        )
        self._check_memory(load)

    def _take_unload(self, unload: StartUnload) -> None:
        copy = self.true.copies[unload.copy]
        must(not copy.held, "a copy in use is unloaded", unload)
        must(copy.phase is Phase.LOADED, "unloaded twice, or never loaded", unload, copy)
        if unload.reason in ("make-room", "isolation"):
            must(copy.tag not in self._pinned, "a pinned copy is evicted", unload)
            must(unload.copy in unload.chosen, "a victim nobody chose", unload)
            if not self.scheduler.closed:
                hopeless = not unload.candidates
                short = -self.scheduler.devices[unload.device].ledger.expected_room_bytes()
                enough = short <= 0 or self._is_last_resort(unload)
                must(enough or hopeless, "a victim for a plan that does not suffice", unload)
        copy.phase = Phase.UNLOADING
        self._isolation_ends(unload.copy)

    def _is_last_resort(self, unload: StartUnload) -> bool:
        """Say whether somebody has waited long, nobody does anything, and all that may go go.

        What came while copies were there may be theirs: it is found out.
        """
        quiet = not any(
            copy.held or copy.phase is Phase.LOADING for copy in self.true.on(unload.device)
        )
        everybody = {candidate.copy for candidate in unload.candidates} == set(unload.chosen)
        long_ns = self.judge.now_ns - self.scheduler.settings.patience_ns
        waited = any(
            ticket.tag == unload.requested_by and ticket.submitted_ns <= long_ns
            for ticket in (*self.scheduler.queue, *self.scheduler.committed_tickets.values())
        )
        return quiet and everybody and waited

    def _check_memory(self, action: Grant | StartLoad) -> None:
        if not self.steady:
            return
        promised = self.true.promised_bytes(action.device)
        limit = self.true.limits[action.device]
        must(promised <= limit, f"{promised} promised of {limit}", action, self.state())

    def _check(self) -> None:
        scheduler = self.scheduler
        scheduler.check_valid()
        held = {number for number, copy in scheduler.copies.items() if copy.held}
        must(held == set(self.leases), "holders disagree", held, self.leases)
        for ticket in scheduler.queue:
            must(
                scheduler.queue.passed_over(ticket) <= scheduler.settings.max_bypass,
                "starved",
                ticket,
            )
            keeper = ticket.device is None or (
                scheduler.devices[ticket.device].kept_for == ticket.ticket_num
            )
            must(keeper, "a ticket counts on a device that is kept for another", ticket)
        for number in self.open_tickets():
            must(scheduler.waiting_for(number) is not None, "a ticket was lost", number)
        for device in scheduler.devices:
            if device.isolating is not None:
                copy = scheduler.copies[device.isolating]
                measuring = copy.ticket is not None or copy.held or copy.state is CopyState.LOADING
                must(measuring, "isolated for nobody", self.state())
        urgent = list(scheduler.queue.urgent())
        for ticket in scheduler.queue.heads():
            if not any(other.ticket_num < ticket.ticket_num for other in urgent):
                self._check_waits_for_something(ticket)

    def _check_waits_for_something(self, ticket: Ticket) -> None:
        """Fail where a ticket waits though an idle copy or plain free room would serve it."""
        model = self.scheduler.model(ticket.tag)
        for copy in () if ticket.fresh else model.copies.values():
            if copy.ticket is not None or copy.state not in (CopyState.IDLE, CopyState.SETTLING):
                continue
            device = self.scheduler.devices[copy.device]
            if device.isolation_quiet and device.isolating not in (None, copy.number):
                continue
            more = device.ledger.activation_bytes(copy.number)
            must(more > max(0, device.ledger.room_bytes()), "waits beside an idle copy", ticket)
        if model.costs is None or ticket.exclusive or model.staying:
            return
        need = model.costs.needed_bytes
        ledgers = [device.ledger for device in self.scheduler.devices]
        good = [one for one in ledgers if one.known and one.reading_failed is None]
        elsewhere = any(need <= one.limit_bytes for one in good)
        for device in self.scheduler.devices:
            if device.ledger.reading_failed is not None and elsewhere:
                continue  # it may be lost
            fits = device.ledger.known and need <= device.ledger.room_bytes()
            must(
                not fits or device.isolating is not None,
                "waits though there is room",
                ticket,
                self.state(),
            )
