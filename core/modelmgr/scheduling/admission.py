"""What it would take to serve a ticket: pure questions over the scheduler's state.

``Admission`` looks and changes nothing; the scheduler commits what it answers. A ``Plan`` always
suffices: a device, the room that is needed, and the victims whose room together with what is free
makes it fit. Where no plan exists there is no partial eviction.

Which device: one where the load fits without evicting anybody, the emptiest first (ties: the first
in the manager's order); else the one whose victims are worth least. One whose readings
fail since something was lost on it may be lost itself: nothing is loaded there as long as another
one could hold it.

An **unknown** model (no costs) is isolated. ``beside``: its worst case, as far as somebody knows
it, else all the device's room, is reserved while the residents stay; when that room is less than a
quarter of the device, or than the largest model known, the device drains first. ``exclusive``: the
device always drains first. Draining waits for holders and evicts only once none is left, so that no
copy is evicted for a plan that might never come true; meanwhile later tickets keep off the device.

**Scaling up** (one more copy of a model that has some) is a rent-or-buy problem: waiting for a copy
to be released is renting, loading is buying. A ticket buys when the line in front of the model's
copies is expected to take longer than a load, and at the latest when the line has not moved for as
long as a load takes, which costs at most twice the best in hindsight (Karlin et al., *Competitive
Snoopy Caching*, Algorithmica 3, 1988). While a copy is coming, only a line that is too long for
that one as well buys another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from modelmgr.scheduling.copies import Copy, Device, Model
from modelmgr.scheduling.policies import EvictionPolicy, IdleCopy
from modelmgr.scheduling.queue import Ticket, TicketQueue
from modelmgr.scheduling.settings import SchedulerSettings
from modelmgr.scheduling.states import FREE, CopyState
from modelmgr.scheduling.victims import Victims

# A share of the device below which its rest is no place to measure an unknown model.
_LEAST_REST: Final = 4


class Plan:
    """How a ticket can be served now. Nobody changes one: compiled, making a frozen one is slow.

    Attributes:
        device: where.
        need_bytes: the room to reserve (for an idle copy: what its running adds).
        victims: copies to evict first, empty where it fits as it is.
        candidates: what the policy could choose from, with ``values``.
        idle: the loaded copy to grant once there is room to run it; None for a load.
        isolated: the load measures an unknown model (or one that ran out of memory) alone.
        quiet: hits on the device wait until the measured copy is released.
        takes_rest: the reservation is whatever is left of the device.
        clears: it suffices only if the victims hold more than they are charged.
    """

    __slots__ = (
        "candidates",
        "clears",
        "device",
        "idle",
        "isolated",
        "need_bytes",
        "quiet",
        "takes_rest",
        "values",
        "victims",
    )

    def __init__(
        self,
        device: Device,
        need_bytes: int,
        victims: tuple[Copy, ...] = (),
        candidates: tuple[IdleCopy, ...] = (),
        values: tuple[float, ...] = (),
        *,
        idle: Copy | None = None,
        isolated: bool = False,
        quiet: bool = False,
        takes_rest: bool = False,
        clears: bool = False,
    ) -> None:
        self.device = device
        self.need_bytes = need_bytes
        self.victims = victims
        self.candidates = candidates
        self.values = values
        self.idle = idle
        self.isolated = isolated
        self.quiet = quiet
        self.takes_rest = takes_rest
        self.clears = clears

    @property
    def lost_value(self) -> float:
        """What the victims are worth to the policy."""
        chosen = {copy.number for copy in self.victims}
        return sum(
            value
            for candidate, value in zip(self.candidates, self.values, strict=True)
            if candidate.copy in chosen
        )


class Admission:
    """Answers what could be done; holds references to the scheduler's state, never writes it."""

    def __init__(
        self,
        devices: Sequence[Device],
        models: dict[str, Model],
        several: dict[str, Model],
        queue: TicketQueue,
        policy: EvictionPolicy,
        *,
        settings: SchedulerSettings,
    ) -> None:
        self._devices = devices
        self._models = models
        self._queue = queue
        self._policy = policy
        self._isolation = settings.isolation
        self._cooldown_ns = settings.cooldown_ns
        self._patience_ns = settings.patience_ns
        self.victims = Victims(
            devices,
            queue,
            policy,
            models,
            several,
            min_copies=settings.min_copies,
            cooldown_ns=settings.cooldown_ns,
            shows_all=settings.explain,
        )

    # Questions about devices -----------------------------------------------------------------

    def barred(self, device: Device, ticket_num: int) -> bool:
        """Say whether a ticket must keep off a device for the sake of an older one."""
        kept_for = device.kept_for
        if kept_for is not None and kept_for < ticket_num:
            keeper = self._queue.get(kept_for)
            if keeper is not None and self.contends(device, keeper):
                return True
        starving = self._queue.starving(ticket_num)
        return bool(starving) and any(self.contends(device, older) for older in starving)

    def contends(self, device: Device, ticket: Ticket) -> bool:
        """Say whether a waiting ticket could use what another one is given on a device."""
        if ticket.exclusive:
            below = not self._at_ceiling(self._models[ticket.tag])
            return below and device.ledger.reading_failed is None
        return self.may_lose(device, self._models[ticket.tag])

    def may_lose(self, device: Device, model: Model) -> bool:
        """Say whether a model's waiting tickets lose something to others served on a device.

        Where copies of the model are there or coming, its tickets wait for these: what others are
        granted is nothing that they could have, nobody has to wait for them, and keeping a device
        free for one more copy would stop everybody for what the floors forbid to take. The same
        holds for one that cannot be measured while readings fail.
        """
        if model.staying:
            return False
        if model.costs is None:
            return device.ledger.reading_failed is None
        return self._could_hold(device, model.costs.needed_bytes)

    def _could_hold(self, device: Device, need: int) -> bool:
        """Say whether so much could be loaded on a device if nothing else were there."""
        return need <= device.ledger.limit_bytes and not self._in_doubt(device, need)

    def _in_doubt(self, device: Device, need: int) -> bool:
        """Say whether a device seems lost and another one, which can be read, could hold as much.

        Something was lost on it since the last good reading, and readings fail: what is loaded
        there would be lost as well, one load after the other.
        """
        if not _seems_lost(device):
            return False
        return any(
            need <= other.ledger.limit_bytes and other.ledger.known
            for other in self._devices
            if other.ledger.reading_failed is None
        )

    def keeps_in_vain(self, ticket: Ticket) -> bool:
        """Say whether the device that is kept free for a ticket is none to load on any more."""
        costs = self._models[ticket.tag].costs
        if ticket.device is None or costs is None or ticket.exclusive:
            return False
        return self._in_doubt(self._devices[ticket.device], costs.needed_bytes)

    def too_large_for_all(self, model: Model) -> int | None:
        """Return the needed bytes where no device could hold the model even when empty."""
        if model.costs is None:
            return None
        needed = model.costs.needed_bytes
        for device in self._devices:
            if needed <= device.ledger.limit_bytes or not device.ledger.known:
                return None
        return needed

    def most_room(self) -> tuple[int, int]:
        """Return the most room that any load could get, everything free evicted, and any limit."""
        most = largest = -1
        for device in self._devices:
            ledger = device.ledger
            room = ledger.expected_room_bytes() + ledger.evictable_bytes + ledger.doubtful_bytes
            if room > most:  # noqa: PLR1730 - twice as fast as max()
                most = room
            if ledger.limit_bytes > largest:  # noqa: PLR1730 - twice as fast as max()
                largest = ledger.limit_bytes
        return most, largest

    def in_vain(self, ticket: Ticket, model: Model, rooms: tuple[int, int], now_ns: int) -> bool:
        """Say, from little, that looking at a waiting ticket would change nothing.

        Args:
            ticket: one that no free copy can serve.
            model: its model.
            rooms: what ``most_room`` has just answered.
            now_ns: the present.
        """
        costs = model.costs
        if costs is None or ticket.exclusive or model.free or costs.needed_bytes > rooms[1]:
            return False
        if model.staying:
            if self._at_ceiling(model):
                return True
            asleep = ticket.wake_ns is not None and ticket.wake_ns > now_ns
            return asleep and not ticket.wake_pays and ticket.looked_at == model.changes
        if ticket.urgent and (ticket.device is None or self.keeps_in_vain(ticket)):
            return False
        return rooms[0] < costs.needed_bytes

    # Idle copies -----------------------------------------------------------------------------

    def free_copy(self, model: Model, ticket: Ticket) -> Copy | None:
        """Return an idle copy of a model that a waiting ticket may be granted now."""
        if not model.free or (ticket.fresh and not self._at_ceiling(model)):
            return None
        return self.copy_for(model, ticket.ticket_num)

    def copy_for(self, model: Model, ticket_num: int) -> Copy | None:
        """Return an idle copy of a model that may be granted now under a number."""
        for copy in model.copies.values():
            if copy.state not in FREE or copy.ticket is not None:
                continue
            device = self._devices[copy.device]
            if device.isolation_quiet and device.isolating not in (None, copy.number):
                continue
            if self._queue.tickets and self.barred(device, ticket_num):
                continue
            ledger = device.ledger
            more = ledger.activation_bytes(copy.number)
            if more <= 0 or more <= ledger.room_bytes():
                return copy
        return None

    @staticmethod
    def _at_ceiling(model: Model) -> bool:
        return model.max_copies is not None and model.staying >= model.max_copies

    def room_to_run(self, ticket: Ticket, now_ns: int) -> Plan | None:
        """Return which copies to evict so that an idle copy of the model has room to run."""
        model = self._models[ticket.tag]
        if ticket.fresh and not self._at_ceiling(model):
            return None
        for copy in model.copies.values():
            if copy.ticket is not None or copy.state is not CopyState.IDLE:
                continue
            device = self._devices[copy.device]
            if device.isolating is not None or self.barred(device, ticket.ticket_num):
                continue
            more = device.ledger.activation_bytes(copy.number)
            plan = self.victims.cover(device, ticket, more, now_ns, spare=copy)
            if plan is not None:
                victims, candidates, values = plan
                return Plan(device, more, victims, candidates, values, idle=copy)
        return None

    def hopeless_copy(self, ticket: Ticket) -> Copy | None:
        """Return an idle copy that its device could not run even if it were alone there.

        An unknown model can turn out larger than the limit of the device it was measured on.
        """
        costs = self._models[ticket.tag].costs
        if costs is None:
            return None
        for copy in self._models[ticket.tag].copies.values():
            if copy.state is not CopyState.IDLE or copy.ticket is not None or copy.model.pinned:
                continue
            if costs.peak_bytes > self._devices[copy.device].ledger.limit_bytes:
                return copy
        return None

    # Loads -----------------------------------------------------------------------------------

    def load(self, ticket: Ticket, now_ns: int, *, pays: bool) -> Plan | None:
        """Return how a new copy could be loaded for the ticket now.

        Args:
            ticket: one that waits, or would.
            now_ns: the present.
            pays: one more copy is worth its load, should the model have some.
        """
        model = self._models[ticket.tag]
        staying = model.staying
        if self._at_ceiling(model):
            return None
        if ticket.exclusive:
            return self._drained(ticket, now_ns)
        if model.costs is None:
            return self._isolated(ticket, now_ns) if staying == 0 else None
        if staying and not pays:
            return None
        return self._known(ticket, model.costs.needed_bytes, now_ns, more=staying > 0)

    def scale_up_pays(self, ticket: Ticket, now_ns: int) -> bool:
        """Say whether one more copy is worth a load now."""
        model = self._models[ticket.tag]
        if model.load_ns_seen is None and (model.costs is None or model.costs.load_ns is None):
            return True
        if not model.coming and now_ns - self.line_moved_ns(ticket) >= model.reload_ns:
            return True
        hold_ns = model.hold_ns
        if hold_ns is None:
            return not model.coming
        waiting = self._queue.waiting(ticket.tag) or 1
        return waiting * hold_ns > model.reload_ns * max(1, model.staying)

    def line_moved_ns(self, ticket: Ticket) -> int:
        """Return when the line for a ticket's model last moved, or when it began."""
        return max(self._line_began_ns(ticket), self._models[ticket.tag].granted_ns)

    def _line_began_ns(self, ticket: Ticket) -> int:
        """Return when the first of those came who wait for a ticket's model.

        Time is the line's and not the ticket's: else an older one of lower priority would be worth
        more than the one that is served first.
        """
        oldest = self._queue.oldest(ticket.tag)
        began_ns = ticket.submitted_ns
        if oldest is not None and oldest.submitted_ns < began_ns:
            began_ns = oldest.submitted_ns
        return began_ns

    def next_cold_ns(self, now_ns: int) -> int | None:
        """Return when the next idle copy turns cold and scaling up may take it."""
        return min(
            (
                copy.last_used_ns + self._cooldown_ns
                for device in self._devices
                for copy in self.victims.beyond_floors(device)
                if copy.state is CopyState.IDLE and copy.last_used_ns + self._cooldown_ns > now_ns
            ),
            default=None,
        )

    def _known(self, ticket: Ticket, need: int, now_ns: int, *, more: bool) -> Plan | None:
        open_devices = [
            device
            for device in self._devices
            if device.isolating is None
            and device.ledger.known
            and self._could_hold(device, need)
            and not self.barred(device, ticket.ticket_num)
        ]
        fitting = [device for device in open_devices if need <= device.ledger.room_bytes()]
        if fitting:
            return Plan(max(fitting, key=lambda device: device.ledger.room_bytes()), need)
        best: Plan | None = None
        for device in open_devices:
            found = self.victims.cover(device, ticket, need, now_ns, more=more)
            if found is None:
                continue
            victims, candidates, values = found
            plan = Plan(device, need, victims, candidates, values)
            if best is None or plan.lost_value < best.lost_value:
                best = plan
        if best is None and not more:
            return self._cleared(ticket, need, now_ns, self._devices)
        return best

    def last_resort_ns(self, ticket: Ticket) -> int:
        """Return from when on all that is idle may go for a ticket: its line has waited long."""
        return self._line_began_ns(ticket) + self._patience_ns

    def doubts(self) -> bool:
        """Say whether what is counted as others' use may be copies' anywhere."""
        return any(device.ledger.doubtful_bytes > 0 for device in self._devices)

    def cleared_of_own(self, ticket: Ticket, now_ns: int) -> Plan | None:
        """Return a plan for a model whose copies, all idle and on one device, cannot run there."""
        model = self._models[ticket.tag]
        own = list(model.copies.values())
        if model.costs is None or any(copy.device != own[0].device for copy in own):
            return None
        device = self._devices[own[0].device]
        plan = self._cleared(ticket, model.costs.needed_bytes, now_ns, [device])
        return plan if plan is not None and set(own) <= set(plan.victims) else None

    def _cleared(
        self, ticket: Ticket, need: int, now_ns: int, devices: Sequence[Device]
    ) -> Plan | None:
        """Return a plan for a device on which nobody does anything: all its idle copies go.

        It is the last resort, for who has waited for as long as memory may take to come back: their
        charges do not suffice, but what is counted as others' use and came while they were here may
        be theirs. Where it turns out that it is not, the ledger believes it from then on, and
        nothing is evicted for it again.
        """
        if now_ns < self.last_resort_ns(ticket):
            return None
        for device in devices:
            ledger = device.ledger
            if (
                ledger.doubtful_bytes <= 0
                or need > ledger.limit_bytes
                or device.isolating is not None
                or device.leaving
                or ledger.claimed_bytes
                or ledger.reading_failed is not None
                or _loading(device)
                or _holding(device)
                or self.barred(device, ticket.ticket_num)
            ):
                continue
            candidates = self.victims.candidates(device, ticket, now_ns)
            freed = sum(candidate.size_bytes for candidate in candidates)
            if not freed or need > ledger.expected_room_bytes() + freed + ledger.doubtful_bytes:
                continue
            values = self.victims.values(candidates, now_ns)
            victims = tuple(device.copies[candidate.copy] for candidate in candidates)
            return Plan(device, need, victims, tuple(candidates), tuple(values), clears=True)
        return None

    def _isolated(self, ticket: Ticket, now_ns: int) -> Plan | None:
        if self._isolation == "exclusive":
            return self._drained(ticket, now_ns)
        for device in sorted(self._devices, key=lambda device: -device.ledger.room_bytes()):
            if not self._may_isolate(device, ticket) or _loading(device):
                continue
            if not ticket.own_process and (_holding(device) or device.ledger.freeing_bytes):
                continue
            rest = device.ledger.room_bytes()
            if ticket.own_process:
                # Hits go on: what the residents need to run is not part of the rest.
                rest -= _running_bytes(device)
            worst = ticket.worst_case_bytes
            least = self._least_rest(device) if worst is None else worst
            if 0 < least <= rest:
                return Plan(
                    device,
                    rest if worst is None else worst,
                    isolated=True,
                    quiet=not ticket.own_process,
                )
        if any(self._waits_for_quiet(device, ticket) for device in self._devices):
            return None
        return self._drained(ticket, now_ns)

    def _waits_for_quiet(self, device: Device, ticket: Ticket) -> bool:
        """Say whether the model would fit beside the residents once loads and holders are done."""
        if not self._may_isolate(device, ticket):
            return False
        unquiet = _holding(device) or device.ledger.freeing_bytes > 0
        if not (_loading(device) or (unquiet and not ticket.own_process)):
            return False
        if ticket.worst_case_bytes is not None:
            least = ticket.worst_case_bytes
        else:
            least = self._least_rest(device)
        return 0 < least <= device.ledger.expected_room_bytes()

    def _drained(self, ticket: Ticket, now_ns: int) -> Plan | None:
        for device in self._drain_order(ticket):
            if _loading(device) or (
                _holding(device) and not self._only_pinned_held(device, ticket)
            ):
                continue
            if any(
                copy.state is CopyState.IDLE and self.victims.is_promised(copy, ticket)
                for copy in device.copies.values()
            ):
                continue
            candidates = self.victims.candidates(device, ticket, now_ns)
            values = self.victims.values(candidates, now_ns)
            victims = tuple(device.copies[candidate.copy] for candidate in candidates)
            freed = sum(candidate.size_bytes for candidate in candidates)
            rest = device.ledger.expected_room_bytes() + freed
            worst = ticket.worst_case_bytes
            takes_rest = worst is None or ticket.exclusive
            need = rest if worst is None or takes_rest else min(worst, rest)
            costs = self._models[ticket.tag].costs
            if costs is not None:
                need, takes_rest = costs.needed_bytes, ticket.exclusive
            if rest <= 0 or need > rest:
                continue
            if self._isolation == "exclusive" and _settling(device):
                continue
            return Plan(
                device,
                need,
                victims,
                tuple(candidates),
                tuple(values),
                isolated=True,
                quiet=not ticket.own_process,
                takes_rest=takes_rest,
            )
        return None

    def drain_target(self, ticket: Ticket) -> Device | None:
        """Return the device to keep free for a ticket that must not be passed over any more."""
        model = self._models[ticket.tag]
        if self._at_ceiling(model) or (model.staying and not ticket.exclusive):
            return None
        if model.costs is None or ticket.exclusive:
            order = self._drain_order(ticket)
        else:
            need = model.costs.needed_bytes
            order = [
                device
                for device in sorted(self._devices, key=_held_bytes)
                if self._could_hold(device, need)
                and (device.kept_for is None or device.kept_for >= ticket.ticket_num)
            ]
        return order[0] if order else None

    def wants_drain(self, ticket: Ticket) -> bool:
        """Say whether an unknown ticket needs a device emptied, so that hits must not go on."""
        model = self._models[ticket.tag]
        if ticket.exclusive:
            return True
        if model.costs is not None or model.staying:
            return False
        return self._isolation == "exclusive" or not any(
            self._waits_for_quiet(device, ticket) for device in self._devices
        )

    def _drain_order(self, ticket: Ticket) -> list[Device]:
        """Return the devices that may be drained for a ticket: a kept one, then the idlest."""
        return sorted(
            (device for device in self._devices if self._may_isolate(device, ticket)),
            key=lambda device: (device.index != ticket.device, _held_bytes(device)),
        )

    def _may_isolate(self, device: Device, ticket: Ticket) -> bool:
        return (
            device.isolating is None
            and device.ledger.known
            and device.ledger.reading_failed is None
            and not self.barred(device, ticket.ticket_num)
        )

    def _least_rest(self, device: Device) -> int:
        limit = device.ledger.limit_bytes
        largest = max(
            (m.costs.needed_bytes for m in self._models.values() if m.costs is not None), default=0
        )
        return max(limit // _LEAST_REST, min(largest, limit))

    def _only_pinned_held(self, device: Device, ticket: Ticket) -> bool:
        """Say whether all holders' models are pinned and the measurement can bear them."""
        return ticket.own_process and all(
            copy.model.pinned and copy.held
            for copy in device.copies.values()
            if copy.held or copy.ticket is not None
        )


def _seems_lost(device: Device) -> bool:
    """Say whether readings fail and something was lost on the device since the last good one."""
    ledger = device.ledger
    return ledger.reading_failed is not None and device.lost_ns >= (ledger.reading_at_ns or 0)


def _loading(device: Device) -> bool:
    return any(
        copy.state in (CopyState.RESERVED, CopyState.LOADING) for copy in device.copies.values()
    )


def _holding(device: Device) -> bool:
    return any(copy.held or copy.ticket is not None for copy in device.copies.values())


def _settling(device: Device) -> bool:
    """Say whether a copy that could be evicted has not settled yet: a reading will do that."""
    return any(
        copy.state is CopyState.SETTLING and not copy.model.pinned
        for copy in device.copies.values()
    )


def _running_bytes(device: Device) -> int:
    """Return what granting every idle copy would add to the committed bytes."""
    return sum(
        device.ledger.activation_bytes(copy.number)
        for copy in device.copies.values()
        if copy.state in (CopyState.IDLE, CopyState.SETTLING) and copy.ticket is None
    )


def _held_bytes(device: Device) -> tuple[int, int, int]:
    """Order devices by what their holders hold, then by what is loaded, then as they are listed."""
    held = sum(device.ledger.charge_of(c.number) for c in device.copies.values() if c.held)
    return held, device.ledger.committed_bytes, device.index
