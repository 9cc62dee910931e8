"""Who may be evicted from a device, and which set of them suffices.

What a policy may choose from is decided here, so that no policy can break a promise: only idle
copies that nobody is about to get and whose model is not pinned; for a request that wants one
*more* copy of its model, only what is above its floor and has cooled down. For a policy that
raises, or whose answer is no set of candidates that suffices, ``lru`` answers.

On a device with many copies, a policy that knows floors of their values (``nearest``) is shown only
those that its choice can be among: it takes the same ones as if it had been shown all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from modelmgr.scheduling.copies import Copy, Device, Model
from modelmgr.scheduling.lookahead import Ahead, Waiting
from modelmgr.scheduling.nearest import Nearest
from modelmgr.scheduling.policies import EvictionPolicy, Gdsf, IdleCopy, Lru, QueueValue
from modelmgr.scheduling.queue import Ticket, TicketQueue
from modelmgr.scheduling.states import CopyState

Cover = tuple[tuple[Copy, ...], tuple[IdleCopy, ...], tuple[float, ...]]
# A copy that may go: it, its bytes, whether it is surplus, whether it is cold, its rank, how many
# copies of its model are loaded.
_Free = tuple[Copy, int, bool, bool, int, int]
# Make a tuple's kind of its fields; a NamedTuple's own constructor takes twice as long.
_new_idle: Final[Callable[[type[IdleCopy], tuple[object, ...]], IdleCopy]] = getattr(  # noqa: B009 - its own type is generic
    tuple, "__new__"
)
_IDLE: Final = CopyState.IDLE
# How many waiting tickets a policy is shown.
_IN_SIGHT: Final = 16
# Up to so many copies of a device are all looked at; else so many at first.
_FEW: Final = 32
_AT_FIRST: Final = 8
_LEAVING: Final = (CopyState.DRAINING, CopyState.UNLOADING)
_UNCOUNTED: Final = (
    CopyState.RESERVED,
    CopyState.LOADING,
    CopyState.DRAINING,
    CopyState.UNLOADING,
)


class Victims:
    """Answers who could go; reads the scheduler's state and never writes it.

    Args:
        devices: whose copies.
        queue: who waits.
        policy: who chooses.
        models: what is known of models.
        several: those of them with more than one copy.
        min_copies: how many of a model one more copy of another may not evict.
        cooldown_ns: how long after its last use a copy is warm.
        shows_all: show the policy every copy, however many there are.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        queue: TicketQueue,
        policy: EvictionPolicy,
        models: Mapping[str, Model],
        several: Mapping[str, Model],
        *,
        min_copies: int,
        cooldown_ns: int,
        shows_all: bool,
    ) -> None:
        self._queue = queue
        self._policy = policy
        self._models = models
        self._several = several
        self._min_copies = min_copies
        self._fallback = Lru()
        self._cooldown_ns = cooldown_ns
        self._nearest: list[Nearest] = []
        # A policy of the user's that was derived from one of these may see things differently.
        if type(policy) in {Lru, Gdsf, QueueValue} and not shows_all:
            assert isinstance(policy, (Lru, Gdsf, QueueValue))  # noqa: S101 - for the type checkers
            self._nearest = [Nearest(device, policy, several) for device in devices]

    def forget_floors(self) -> None:
        """Note that what models cost has changed."""
        for nearest in self._nearest:
            nearest.forget()

    def beyond_floors(self, device: Device) -> Iterable[Copy]:
        """Return a device's copies that may be surplus, the oldest first."""
        if self._min_copies == 0:
            return device.copies.values()
        found = [
            copy
            for model in self._several.values()
            for copy in model.copies.values()
            if copy.device == device.index
        ]
        found.sort(key=_number)
        return found

    def candidates(self, device: Device, ticket: Ticket, now_ns: int) -> list[IdleCopy]:
        """Return the idle copies that may go for a ticket, as the policy sees them."""
        free = self._free_to_go(device, device.copies.values(), ticket, now_ns)
        return self._shown(device, free, None)

    def values(self, candidates: Sequence[IdleCopy], now_ns: int) -> Sequence[float]:
        """Return what copies are worth to the policy, to ``lru`` where it fails."""
        try:
            values = self._policy.values(candidates, now_ns)
            if len(values) == len(candidates):
                return values
        except Exception:  # noqa: BLE001, S110 - a policy of the user's must not break the scheduler
            pass
        return self._fallback.values(candidates, now_ns)

    def _free_to_go(
        self,
        device: Device,
        copies: Iterable[Copy],
        ticket: Ticket,
        now_ns: int,
        *,
        more: bool = False,
        spare: Copy | None = None,
    ) -> list[_Free]:
        """Return those of a device's copies that are idle and may go.

        Args:
            device: whose copies.
            copies: which of them.
            ticket: whom the room is for.
            now_ns: the present.
            more: the room is for one more copy of a model that has some: floors hold.
            spare: a copy that must stay.
        """
        found: list[_Free] = []
        min_cold_ns = now_ns - self._cooldown_ns
        waiting = len(self._queue) > 0
        charge_of = device.ledger.charge_of
        for copy in copies:
            if copy.state is not _IDLE or copy.ticket is not None or copy is spare:
                continue
            cold = copy.last_used_ns <= min_cold_ns
            model = copy.model
            if model.pinned or (more and not cold):
                continue
            if waiting and self.is_promised(copy, ticket):
                continue
            if len(model.copies) == 1:
                rank = loaded = 1
            else:
                rank, loaded = _rank(copy), model.loaded()
            surplus = rank > model.min_copies
            if more and not surplus:
                continue
            found.append((copy, charge_of(copy.number), surplus, cold, rank, loaded))
        return found

    def _shown(self, device: Device, free: Sequence[_Free], ahead: Ahead | None) -> list[IdleCopy]:
        """Return copies as the policy sees them."""
        queue = self._queue
        waiting = len(queue) > 0
        found: list[IdleCopy] = []
        for copy, size_bytes, surplus, cold, rank, loaded in free:
            model = copy.model
            tag = model.tag
            found.append(
                _new_idle(
                    IdleCopy,
                    (
                        copy.number,
                        tag,
                        device.index,
                        size_bytes,
                        copy.last_used_ns,
                        copy.idle_serial,
                        model.reload_ns,
                        surplus,
                        cold,
                        rank,
                        loaded,
                        queue.waiting(tag) if waiting else 0,
                        queue.place(tag, rank) if waiting else None,
                        ahead,
                    ),
                )
            )
        return found

    def is_promised(self, copy: Copy, ticket: Ticket) -> bool:
        """Say whether an earlier, urgent ticket waits for room to run a copy."""
        first = self._queue.first(copy.model.tag)
        return first is not None and first.urgent and first.ticket_num < ticket.ticket_num

    def cover(
        self,
        device: Device,
        ticket: Ticket,
        need_bytes: int,
        now_ns: int,
        *,
        more: bool = False,
        spare: Copy | None = None,
    ) -> Cover | None:
        """Return victims that make room, with all candidates and their values; None if none do.

        What is already on its way back counts as room, what plans under way have claimed does not.
        """
        missing = need_bytes - device.ledger.expected_room_bytes()
        if missing <= 0:
            return (), (), ()
        if missing > device.ledger.evictable_bytes:
            return None
        alone = len(self._queue) <= 1
        known: Sequence[float] | None = None
        if alone and not more and self._nearest and len(device.copies) > _FEW:
            candidates, known = self._near(device, ticket, missing, now_ns, spare)
        else:
            copies = self.beyond_floors(device) if more else device.copies.values()
            free = self._free_to_go(device, copies, ticket, now_ns, more=more, spare=spare)
            if sum([entry[1] for entry in free]) < missing:
                return None
            ahead = None
            if not alone and not more:
                ahead = self._ahead(device, ticket, need_bytes, missing, free)
            candidates = self._shown(device, free, ahead)
        values, chosen = self._asked(self._policy, candidates, missing, now_ns, known)
        if chosen is None:
            values, chosen = self._asked(self._fallback, candidates, missing, now_ns)
        if values is None or chosen is None:
            return None
        victims = tuple(device.copies[candidates[i].copy] for i in chosen)
        return victims, tuple(candidates), tuple(values)

    def _near(
        self, device: Device, ticket: Ticket, missing: int, now_ns: int, spare: Copy | None
    ) -> tuple[list[IdleCopy], list[float]]:
        """Return idle copies among which is all that the policy would take, with their values."""
        nearest, policy = self._nearest[device.index], self._policy
        assert isinstance(policy, (Lru, Gdsf, QueueValue))  # noqa: S101 - for the type checkers
        found: list[IdleCopy] = []
        values: list[float] = []
        copies = nearest.begin(now_ns)
        count = _AT_FIRST
        while True:
            free = self._free_to_go(device, copies, ticket, now_ns, spare=spare)
            shown = self._shown(device, free, None)
            found += shown
            values += policy.values(shown, now_ns)
            sizes = [copy.size_bytes for copy in found]
            if policy.dearest(sizes, values, missing) < nearest.least_left():
                break
            copies = nearest.take(count)
            if not copies:
                break
            count *= 2
        nearest.end()
        return found, values

    def _ahead(
        self,
        device: Device,
        ticket: Ticket,
        need_bytes: int,
        missing: int,
        free: Sequence[_Free],
    ) -> Ahead | None:
        """Return who else waits and could be served on a device, and what is on it.

        None where all of them wait for what is loaded.
        """
        others: list[Waiting] = []
        room_is_needed = False
        for other in self._queue.soonest(_IN_SIGHT):
            model = self._models[other.tag]
            costs = model.costs
            if other is ticket or costs is None:
                continue
            here = any(copy.device == device.index for copy in model.copies.values())
            if model.staying and not here:
                continue  # it waits for a copy of another device
            room_is_needed = room_is_needed or not here
            others.append(_waiting(model, costs.needed_bytes))
        if not room_is_needed:
            return None
        idle = {entry[0].number for entry in free}
        held = [
            copy
            for copy in device.copies.values()
            if copy.number not in idle and copy.state not in _LEAVING
        ]
        charges = sum([device.ledger.charge_of(copy.number) for copy in held])
        return Ahead(
            need_bytes=missing,
            room_bytes=need_bytes - missing + charges + sum([entry[1] for entry in free]),
            first=_waiting(self._models[ticket.tag], need_bytes),
            others=tuple(others),
            held=tuple([_waiting(copy.model, 0) for copy in held]),
            queued=len(self._queue),
        )

    @staticmethod
    def _asked(
        policy: EvictionPolicy,
        candidates: Sequence[IdleCopy],
        missing: int,
        now_ns: int,
        known: Sequence[float] | None = None,
    ) -> tuple[Sequence[float] | None, Sequence[int] | None]:
        """Return a policy's values and choice, None where it fails or its answer is none."""
        try:
            values = policy.values(candidates, now_ns) if known is None else known
            chosen = policy.choose(candidates, values, missing)
            count = len(candidates)
            if chosen is None or len(values) != count or len(set(chosen)) != len(chosen):
                return None, None
            freed = 0
            for i in chosen:
                if not 0 <= i < count:
                    return None, None
                freed += candidates[i].size_bytes
            if freed < missing:
                return None, None
        except Exception:  # noqa: BLE001 - a policy of the user's must not break the scheduler
            return None, None
        return values, chosen


def _number(copy: Copy) -> int:
    return copy.number


def _waiting(model: Model, needed_bytes: int) -> Waiting:
    """Return a model as a look ahead sees it."""
    resident = 0 if model.costs is None else model.costs.resident_bytes
    return Waiting(model.tag, resident, needed_bytes, model.reload_ns)


def _rank(copy: Copy) -> int:
    """Return a copy's place among its model's loaded copies: held first, then the latest used."""
    rank = 1
    for other in copy.model.copies.values():
        if other is copy or other.state in _UNCOUNTED:
            continue
        if other.state is not _IDLE or (other.last_used_ns, other.number) > (
            copy.last_used_ns,
            copy.number,
        ):
            rank += 1
    return rank
