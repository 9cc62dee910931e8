"""A judge of the scheduler's promises with books of its own.

It sees what the scheduler is told and what it answers, and the true devices; from these alone it
counts who was passed over, what the last reading showed of others, who may be evicted and why, who
waits for nothing, and what every ending must have for a reason. It asks the scheduler only who
waits, who is committed and for whom a device is kept: never for a sum, a count or a charge.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from modelmgr.scheduling.actions import Action, Grant, Refusal, Reject, StartLoad, StartUnload
from modelmgr.scheduling.copies import ModelCosts
from modelmgr.scheduling.queue import HITS_PER_BYPASS
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.scheduling.states import CopyState
from support.virtual_devices import Phase, Reading, TrueCopy, VirtualDevices

# Which states of the scheduler's own a copy may have where its memory truly is.
_STATES = {
    (Phase.LOADING, False): (CopyState.LOADING,),
    (Phase.LOADED, False): (CopyState.SETTLING, CopyState.IDLE),
    (Phase.LOADED, True): (CopyState.ACTIVE, CopyState.DRAINING),
    (Phase.UNLOADING, False): (CopyState.UNLOADING,),
}


@dataclass(slots=True)
class Asked:
    """A ticket that has not ended, as its caller knows it."""

    num: int
    tag: str
    priority: int
    deadline_ns: int | None
    worst_case_bytes: int | None
    own_process: bool
    alone: bool
    came: int
    passed: int = 0
    hits: int = 0
    loading: int | None = None
    retried: bool = False
    returned: bool = False
    starving: bool = False
    waits: bool = True

    @property
    def plain(self) -> bool:
        """Whether nothing gives it a place of its own in the order."""
        return not (self.alone or self.retried or self.returned or self.starving)

    def equals(self, other: Asked, now_ns: int) -> bool:
        """Say whether nothing but the order tells two tickets apart."""
        return (
            self.tag == other.tag
            and self.worst_case_bytes == other.worst_case_bytes
            and self.own_process == other.own_process
            and not (self.alone or self.retried or self.returned)
            and not (other.alone or other.retried or other.returned)
            and (self.deadline_ns is None or self.deadline_ns > now_ns)
            and (other.deadline_ns is None or other.deadline_ns > now_ns)
        )


def must(holds: bool, *told: object) -> None:
    """Fail with what is told, also where Python was told to forget assertions."""
    if not holds:
        raise AssertionError(*told)


class PromiseJudge:
    """Holds every answer against the promises."""

    def __init__(
        self,
        scheduler: Scheduler,
        true: VirtualDevices,
        checks: Counter[str],
        *,
        steady: bool,
    ) -> None:
        self.scheduler = scheduler
        self.true = true
        self.steady = steady
        self.known: dict[str, ModelCosts] = {}
        self.pinned: set[str] = set()
        self.asked: dict[int, Asked] = {}
        self.last_used_ns: dict[int, int] = {}
        self.checks = checks  # how often each promise was
        self.passed_over: dict[int, int] = {}
        self.now_ns = 0
        self._settings = scheduler.settings
        self._event = ""
        self._about: int | None = None
        self._serial = 0
        self._idle_since: dict[int, int] = {}
        self._load_for: dict[int, int] = {}
        self._condemned: set[int] = set()
        self._closed = False
        # Of readings, by device.
        self._read_ns: dict[int, int] = {}
        self._failed: set[int] = set()
        self._honest: dict[int, int] = {}
        self._others_bytes: dict[int, int] = {}
        # What was so before the event.
        self._staying: Counter[str] = Counter()
        self._staying_before: Counter[str] = Counter()
        self._kept: dict[int, int] = {}
        self._kept_before: dict[int, int] = {}
        self._failed_before: set[int] = set()
        self._patience_ns: dict[int, int] = {}
        # When memory that was not seen to be back was last taken for others'.
        self._booked_ns = 0
        # What the event brought.
        self._served_on: dict[int, tuple[int, bool]] = {}
        self._victims: list[StartUnload] = []
        self._lost_to: dict[int, set[str]] = {}
        self._ended: set[int] = set()
        self._more: dict[str, bool] = {}
        self._gone_from_queue: list[Asked] = []

    # What is told to the scheduler -----------------------------------------------------------

    def tell(self, event: str, now_ns: int, about: int | None = None) -> None:
        """Note what the scheduler is going to be told, before it is."""
        self._event, self._about = event, about
        self.now_ns = max(self.now_ns, now_ns)
        self._serial += 1

    def came(self, asked: Asked) -> None:
        """Note a new ticket."""
        asked.came = self._serial
        self.asked[asked.num] = asked

    def read(self, reading: Reading) -> None:
        """Note a good reading that is delivered; an older one than the last says nothing."""
        device = reading.device
        if reading.at_ns < self._read_ns.get(device, reading.at_ns):
            return
        self._read_ns[device] = reading.at_ns
        self._failed.discard(device)
        self._honest.pop(device, None)
        here = self.true.on(device)
        plain = all(c.phase is Phase.LOADED and not c.held and c.tag in self.known for c in here)
        # In a quiet moment a true reading leaves no doubt about what others use.
        just_now = reading.at_ns >= self.now_ns - 1
        just_now = just_now and reading.at_ns >= self._booked_ns
        if plain and just_now and reading.used_bytes == self.true.used(device):
            self._honest[device] = self.true.foreign[device]
        own = reading.own_bytes or {}
        most = sum(own.get(copy.number, self._most(copy)) for copy in here)
        self._others_bytes[device] = max(0, reading.used_bytes - most)

    def reading_fails(self, device: int) -> None:
        """Note a failed reading."""
        self._failed.add(device)

    def moved(self, device: int) -> None:
        """Note that the last reading of a device is not the truth any more."""
        self._honest.pop(device, None)

    def free(self, number: int) -> None:
        """Note that nobody holds a copy any more, or that it was just loaded."""
        self.last_used_ns[number] = self.now_ns
        self._idle_since[number] = self._serial

    def reset(self) -> None:
        """Note who will have to go once released."""
        for copy in self.true.copies.values():
            if copy.phase is Phase.LOADED and copy.held:
                self._condemned.add(copy.number)

    def close(self) -> None:
        """Note that nobody is served from now on."""
        self._closed = True
        self.reset()

    def _most(self, copy: TrueCopy) -> int:
        """Return the most a copy may be charged: what a reading shows beyond it is others'."""
        size = self.true.sizes[copy.tag]
        told = self.known.get(copy.tag)
        most = size.peak_bytes if copy.held else size.resident_bytes
        if told is not None:
            most = max(most, told.peak_bytes if copy.held else told.resident_bytes)
        if not copy.covered:
            most = max(most, copy.reserved_bytes)
        return most

    # What it answers -------------------------------------------------------------------------

    def see(self, action: Action) -> None:
        """Judge one answer, before it is carried out."""
        if isinstance(action, Grant):
            self._see_grant(action)
        elif isinstance(action, StartLoad):
            self._see_load(action)
        elif isinstance(action, StartUnload):
            self._see_unload(action)
        else:
            self._see_reject(action)

    def _see_grant(self, grant: Grant) -> None:
        self.checks["lease"] += 1
        asked = self._open(grant)
        copy = self.true.copies[grant.copy]
        must(grant.copy not in self._condemned, "a condemned copy is granted", grant)
        if not grant.hit:
            must(self._load_for.get(grant.copy) == asked.num, "another one's load", grant)
        ceiling = self._settings.max_copies
        must(not (asked.alone and grant.hit) or ceiling is not None, "not a fresh copy", grant)
        must(not self._closed, "granted after the end", grant)
        idle_anyway = grant.hit and self._idle_since.get(grant.copy, 0) < asked.came
        self._served_on.setdefault(asked.num, (grant.device, not idle_anyway))
        self._judge_memory(grant, self._would_add(copy))
        self._over(asked)

    def _see_load(self, load: StartLoad) -> None:
        self.checks["isolation"] += 1
        asked = self._open(load)
        must(asked.loading is None, "two loads for one ticket", load)
        must(load.device in self._read_ns, "a load where nothing was ever read", load)
        must(not self._closed, "a load after the end", load)
        must(load.reserved_bytes > 0 or asked.tag in self.known, "nothing is reserved", load)
        if asked.tag not in self.known or asked.alone or asked.retried:
            must(load.isolated, "an unknown model is not isolated", load)
            again = asked.alone or asked.retried or not self._count(asked.tag)
            must(again, "an unknown model is measured twice at once", load)
        else:
            needed = self.known[asked.tag].needed_bytes
            must(load.reserved_bytes >= needed, "reserved less than needed", load)
        if load.isolated and asked.waits:
            must(load.device not in self._failed, "measured while readings fail", load)
        ceiling = self._settings.max_copies
        if ceiling is not None:
            must(self._count(asked.tag) < ceiling, "above the ceiling", load)
        self._served_on.setdefault(asked.num, (load.device, True))
        self._load_for[load.copy] = asked.num
        asked.loading = load.copy
        self._judge_memory(load, load.reserved_bytes)

    def _see_unload(self, unload: StartUnload) -> None:
        self.checks["pin"] += 1
        reason, number = unload.reason, unload.copy
        copy = self.true.copies[number]
        must(not copy.held, "a copy in use is unloaded", unload)
        released = self._event == "release" and self._about == number
        if reason in ("make-room", "isolation"):
            must(copy.tag not in self.pinned, "a pinned copy is evicted", unload)
            must(not self._closed, "an eviction after the end", unload)
            self._victims.append(unload)
            tag = unload.requested_by or ""
            if tag not in self._more and unload.candidates:
                here = self.true.copies.values()
                self._more[tag] = any(
                    one.tag == tag and self._stays(one) and one.number not in unload.chosen
                    for one in here
                )
        elif reason == "reset":
            due = self._event == "reset" or (released and number in self._condemned)
            must(due, "unloaded though nobody reset", unload)
        elif reason == "shutdown":
            must(self._closed, "unloaded though nobody closed", unload)
        elif reason in ("holder-lost", "out-of-memory"):
            must(self._event == "holder_lost" and self._about == number, "no holder lost", unload)
        elif reason == "unmeasured":
            due = self._event == "load_finished" and self._about == number
            must(due and copy.tag not in self.known, "a measured copy goes", unload)
        else:
            must(False, "an unload for no reason", unload)

    def _see_reject(self, reject: Reject) -> None:
        self.checks["conservation"] += 1
        asked = self._open(reject)
        refusal = reject.refusal
        if refusal is Refusal.TIMED_OUT:
            due = asked.deadline_ns is not None and asked.deadline_ns <= self.now_ns
            must(due, "timed out before its time", reject)
            must(not self._loads_now(asked), "timed out while its load runs", reject)
        elif refusal is Refusal.CANCELLED:
            must(self._event == "cancel" and self._about == asked.num, "nobody cancelled", reject)
        elif refusal is Refusal.CLOSED:
            must(self._closed, "refused though nobody closed", reject)
        elif refusal is Refusal.DOES_NOT_FIT:
            must(self._too_large(asked.tag), "it would fit", reject)
        else:
            lost = self._event in ("load_failed", "worker_lost") and self._about is not None
            own = lost and self._load_for.get(self._about or 0) == asked.num
            must(own and asked.loading is None, "no load of its own failed", reject)
        self._over(asked)

    def _open(self, action: Grant | StartLoad | Reject) -> Asked:
        asked = self.asked.get(action.ticket_num)
        must(asked is not None, "a ticket that is over, or never was", action)
        assert asked is not None
        must(asked.tag == action.tag, "another model than was asked for", action)
        return asked

    def _over(self, asked: Asked) -> None:
        self._ended.add(asked.num)
        self.asked.pop(asked.num)
        if asked.waits:
            self._gone_from_queue.append(asked)

    # After the event -------------------------------------------------------------------------

    def load_ended_badly(self, number: int, *, again: bool) -> None:
        """Note that a load failed; ``again``: for want of memory, so that it is tried once more."""
        asked = self.asked.get(self._load_for.get(number, 0))
        if asked is not None and asked.loading == number:
            asked.retried = asked.retried or again
            asked.loading = None

    def unload_unseen(self, number: int) -> None:
        """Note that an unload ended and that its memory has to be seen to be back."""
        self._patience_ns[number] = self.now_ns + self._settings.patience_ns

    def settle(self) -> None:
        """Judge the state that an event has led to."""
        queue, committed = self.scheduler.queue, self.scheduler.committed_tickets
        copies = self.scheduler.copies
        self._staying = Counter(c.tag for c in self.true.copies.values() if self._stays(c))
        self._staying.update(c.tag for c in copies.values() if c.state is CopyState.RESERVED)
        self._kept = {
            device.kept_for: device.index
            for device in self.scheduler.devices
            if device.kept_for is not None
        }
        served = self._gone_from_queue
        for asked in self.asked.values():
            waits = asked.num in queue
            ticket = committed.get(asked.num)
            must(waits != (ticket is not None), "a ticket was lost, or is in two places", asked)
            if ticket is not None and asked.waits:
                served.append(asked)
                copy = copies.get(ticket.copy or 0)
                must(copy is not None, "a ticket is committed to nothing", asked)
                if copy is not None:
                    self._served_on.setdefault(asked.num, (copy.device, True))
            if waits:
                asked.loading = None
                asked.returned = asked.returned or not asked.waits
            asked.waits = waits
        must(len(queue) + len(committed) == len(self.asked), "a ticket from nowhere", self.asked)
        waiting = [asked for asked in self.asked.values() if asked.waits]
        if waiting:
            # Nobody has a place of its own in the order.
            in_order = all(one.plain for one in (*served, *waiting))
            in_order = in_order and not (self._kept or self._kept_before)
            served = [one for one in served if one.num in self._served_on]
            self._lost_to = self._whose_victims(served)
            for one in served:
                self._judge_service(one, waiting, in_order=in_order)
            self._judge_waiting(waiting)
        if self._victims:
            self._judge_victims()
        self._judge_mirror()
        self._judge_deadlines()
        if not self.asked:
            self._judge_nobody_asks()
        self._remember(waiting)

    def _remember(self, waiting: list[Asked]) -> None:
        for asked in waiting:
            asked.starving = asked.passed >= self._settings.max_bypass
        self._served_on.clear()
        self._victims.clear()
        self._ended.clear()
        self._more.clear()
        self._gone_from_queue.clear()
        self._staying_before = self._staying
        self._kept_before = self._kept
        self._failed_before = set(self._failed)
        if len(self.last_used_ns) > 2 * len(self.true.copies) + 8:
            for books in (self._idle_since, self.last_used_ns, self._load_for):
                for number in [n for n in books if n not in self.true.copies]:
                    del books[number]
            self._condemned &= self.true.copies.keys()

    # Memory ----------------------------------------------------------------------------------

    def _would_add(self, copy: TrueCopy) -> int:
        size = self.true.sizes[copy.tag]
        if not copy.covered and copy.reserved_bytes >= size.peak_bytes:
            return 0
        return size.peak_bytes - size.resident_bytes

    def _judge_memory(self, action: Grant | StartLoad, more_bytes: int) -> None:
        """Hold an admission against what the last reading showed of others, lies included."""
        self.checks["memory"] += 1
        device = action.device
        if more_bytes <= 0:
            return
        # What is late may have been read to be gone where readings lie.
        own_bytes = sum(
            self.true.promised_to(copy)
            for copy in self.true.on(device)
            if self.steady or copy.phase is not Phase.LATE
        )
        promised = self._others_bytes.get(device, 0) + own_bytes + more_bytes
        limit = self.true.limits[device]
        must(promised <= limit, "more is promised than was read to be there", action, promised)

    def _judge_mirror(self) -> None:
        """Compare where every copy truly is with where the scheduler believes it to be."""
        self.checks["pin"] += 1
        ours, there = self.scheduler.copies, self.true.copies
        for number, copy in there.items():
            own = ours.get(number)
            if copy.phase is Phase.LATE:
                fine = own is None or own.state is CopyState.UNLOADING
            else:
                fine = own is not None and own.state in _STATES[copy.phase, copy.held]
            must(fine, "the scheduler believes a copy elsewhere", copy, own and own.state)
        for number, own in ours.items():
            known = number in there or own.state in (CopyState.RESERVED, CopyState.UNLOADING)
            must(known, "a copy that is not there", number, own.state)

    # Fairness --------------------------------------------------------------------------------

    def _judge_service(self, one: Asked, waiting: list[Asked], *, in_order: bool) -> None:
        self.checks["fairness"] += 1
        device, took = self._served_on[one.num]
        most = self._settings.max_bypass
        oldest: set[str] = set()
        # Far from being urgent by any count: what is served at once is not counted here.
        calm = one.passed < most // 2 and one.hits < HITS_PER_BYPASS * most // 2
        in_order = in_order and calm and one.tag in self.known
        for other in waiting:
            if other.num > one.num:
                if in_order and other.priority < one.priority and other.came < self._serial:
                    must(not other.equals(one, self.now_ns), "out of order", one, other)
                continue
            first = other.tag not in oldest
            oldest.add(other.tag)
            if not self._loses(other, one, device):
                continue
            kept, before = self._kept.get(other.num), self._kept_before.get(other.num)
            clear = kept == before == device
            must(not clear, "served where an older one is being made room", one, other)
            if kept not in (None, device) or before not in (None, device):
                continue  # it is being served elsewhere
            if took:
                other.passed += 1
                self.passed_over[other.num] = other.passed
                must(other.passed <= most, "passed over too often", one, other)
                same = other.equals(one, self.now_ns) and other.priority <= one.priority
                must(not same, "a later one of equals goes first", one, other)
            else:
                must(not other.starving, "a hit goes before a starving one", one, other)
                if first:
                    other.hits += 1
                    must(other.hits <= HITS_PER_BYPASS * most, "starved by hits", one, other)

    def _loses(self, asked: Asked, one: Asked, device: int) -> bool:
        """Say whether a waiting ticket loses something to one that is served on a device.

        One whose model has copies, there or coming, waits for these: it loses only to its own line,
        and to whom one of them is evicted for.
        One that cannot be measured, as readings fail, loses nothing.
        """
        failed = device in self._failed or device in self._failed_before
        staying = max(self._staying[asked.tag], self._staying_before[asked.tag])
        told = self.known.get(asked.tag)
        if asked.alone or asked.retried:
            ceiling = self._settings.max_copies
            return not failed and (ceiling is None or staying < ceiling)
        if told is None and failed:
            return False
        if asked.tag == one.tag or asked.tag in self._lost_to.get(one.num, ()):
            return True
        if staying:
            return False
        if told is None:
            return True
        # Where readings fail nothing is loaded that another device could hold.
        good = [d for d in range(len(self.true.limits)) if d not in self._failed]
        elsewhere = any(told.needed_bytes <= self.true.limits[other] for other in good)
        return told.needed_bytes <= self.true.limits[device] and not (failed and elsewhere)

    def _whose_victims(self, served: list[Asked]) -> dict[int, set[str]]:
        """Return the models that lost a copy to each ticket that is served.

        An eviction names the model that it is for. Where more of that model are served than there
        are plans with victims it is held against the oldest: the others found room beside it.
        """
        lost: dict[int, set[str]] = {}
        for tag in {unload.requested_by for unload in self._victims}:
            unloads = [unload for unload in self._victims if unload.requested_by == tag]
            plans = {unload.chosen for unload in unloads}
            nums = sorted(one.num for one in served if one.tag == tag)
            for num in nums if len(plans) >= len(nums) else nums[:1]:
                lost[num] = {unload.tag for unload in unloads}
        return lost

    # Progress --------------------------------------------------------------------------------

    def _judge_victims(self) -> None:
        """Hold evictions against the plan they are part of: it suffices, and the floors hold."""
        gone = {unload.copy for unload in self._victims}
        for unload in self._victims:
            self.checks["progress"] += 1
            tag, device = unload.requested_by or "", unload.device
            must(unload.copy in unload.chosen, "a victim nobody chose", unload)
            must(gone.issuperset(unload.chosen), "half a plan", unload)
            if not unload.candidates:
                told = self.known.get(tag)
                hopeless = told is not None and told.peak_bytes > self.true.limits[device]
                must(hopeless, "evicted without a choice", unload)
                continue
            for candidate in unload.candidates:
                must(candidate.tag not in self.pinned, "a pinned copy was a candidate", unload)
            self._judge_plan(unload, gone)

    def _judge_plan(self, unload: StartUnload, gone: set[int]) -> None:
        tag, device = unload.requested_by, unload.device
        committed = self.scheduler.committed_tickets
        plan_for = [
            ticket
            for ticket in committed.values()
            if ticket.tag == tag
            and ticket.copy is not None
            and self.scheduler.copies[ticket.copy].device == device
        ]
        granted = any(num in self._served_on for num in self._ended)
        must(bool(plan_for) or granted, "evicted for nobody", unload)
        if len(plan_for) != 1 or tag is None:
            return
        (ticket,) = plan_for
        asked = self.asked[ticket.ticket_num]
        copy = self.scheduler.copies[ticket.copy or 0]
        loads = copy.state in (CopyState.RESERVED, CopyState.LOADING)
        told = self.known.get(tag)
        need = 0
        if told is not None and asked.loading is None:
            need = told.needed_bytes if loads else told.peak_bytes - told.resident_bytes
        if self.steady:
            staying = sum(
                self.true.promised_to(one)
                for one in self.true.on(device)
                if one.phase in (Phase.LOADING, Phase.LOADED)
            )
            total = self.true.foreign[device] + staying + need
            must(total <= self.true.limits[device], "a plan that does not suffice", unload, total)
        plain = not (asked.alone or asked.retried)
        if loads and plain and unload.reason == "make-room" and self._more.get(tag):
            victim = self.true.copies[unload.copy]
            unused_ns = self.now_ns - self.last_used_ns.get(victim.number, 0)
            must(unused_ns >= self._settings.cooldown_ns, "scaled up over a warm copy", unload)
            left = sum(
                one.phase is Phase.LOADED and one.number not in gone and self._stays(one)
                for one in self.true.copies.values()
                if one.tag == victim.tag
            )
            must(left >= self._settings.min_copies, "scaled up over a floor", unload, left)

    def _judge_waiting(self, waiting: list[Asked]) -> None:
        self.checks["progress"] += 1
        for asked in waiting:
            must(not self._too_large(asked.tag), "waits for what can never be", asked)
        if self._is_quiet() and all(self._servable(asked) for asked in waiting):
            must(not waiting, "waits in a quiet system", waiting)

    def _is_quiet(self) -> bool:
        """Say whether nobody holds, loads, leaves or is unknown, and readings say it all."""
        if self._closed or self.pinned or self._failed:
            return False
        if any(device.ledger.doubtful_bytes > 0 for device in self.scheduler.devices):
            return False  # it may be copies' own, and will be found out
        if any(
            self._honest.get(device) != foreign for device, foreign in enumerate(self.true.foreign)
        ):
            return False
        there = self.true.copies
        return (
            all(
                copy.phase is Phase.LOADED and not copy.held and copy.covered
                for copy in there.values()
            )
            and self.scheduler.copies.keys() == there.keys()
        )

    def _servable(self, asked: Asked) -> bool:
        """Say whether a ticket could be served if it were alone in a quiet system."""
        most = [
            limit - foreign
            for limit, foreign in zip(self.true.limits, self.true.foreign, strict=True)
        ]
        if asked.deadline_ns is not None and asked.deadline_ns <= self.now_ns:
            return False
        told = self.known.get(asked.tag)
        if told is None:
            return max(most) > 0
        own = [copy for copy in self.true.copies.values() if copy.tag == asked.tag]
        if own and not asked.alone:
            return any(told.peak_bytes <= most[copy.device] for copy in own)
        if own and asked.alone and self._settings.max_copies is not None:
            return False
        return told.needed_bytes <= max(most)

    def _too_large(self, tag: str) -> bool:
        told = self.known.get(tag)
        if told is None or len(self._read_ns) < len(self.true.limits):
            return False
        return told.needed_bytes > max(self.true.limits)

    def _judge_deadlines(self) -> None:
        """Hold what is due against what the scheduler asks to be woken for."""
        self.checks["conservation"] += 1
        ours = self.scheduler.copies
        due = [
            asked.deadline_ns
            for asked in self.asked.values()
            if asked.deadline_ns is not None and not self._loads_now(asked)
        ]
        for number in [n for n in self._patience_ns if n not in ours]:
            if self._patience_ns.pop(number) <= self.now_ns:
                self._booked_ns = self.now_ns
        due += self._patience_ns.values()
        if not due:
            return
        if self._event == "deadline":
            must(min(due) > self.now_ns, "what was due did not happen", min(due), self.now_ns)
        next_ns = self.scheduler.next_deadline_ns()
        must(next_ns is not None and next_ns <= min(due), "nobody will be woken", next_ns, due)

    def _judge_nobody_asks(self) -> None:
        self.checks["conservation"] += 1
        there = self.true.copies.values()
        moving = any(c.phase in (Phase.LOADING, Phase.UNLOADING) for c in there)
        for device in self.scheduler.devices:
            must(device.ledger.claimed_bytes == 0, "a claim for nobody", device.name)
            must(device.kept_for is None, "kept for nobody", device.name)
            if not moving and all(copy.covered for copy in there):
                must(device.ledger.reserved_bytes == 0, "reserved for nobody", device.name)

    def _loads_now(self, asked: Asked) -> bool:
        load = None if asked.loading is None else self.true.copies.get(asked.loading)
        return load is not None and load.phase is Phase.LOADING

    # Counting --------------------------------------------------------------------------------

    def _stays(self, copy: TrueCopy) -> bool:
        if copy.phase is Phase.LOADED:
            return copy.number not in self._condemned
        return copy.phase is Phase.LOADING

    def _count(self, tag: str) -> int:
        """Return how many copies of a model are there or coming and not on their way out."""
        return sum(copy.tag == tag and self._stays(copy) for copy in self.true.copies.values())
