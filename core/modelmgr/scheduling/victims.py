"""Who may be evicted from a device, and which set of them suffices.

What a policy may choose from is decided here, so that no policy can break a promise: only idle
copies that nobody is about to get and whose model is not pinned; for a request that wants one
*more* copy of its model, only what is above its floor and has cooled down. A policy that raises is
passed over for ``lru``.
"""

from __future__ import annotations

from modelmgr.scheduling.copies import Copy, Device
from modelmgr.scheduling.policies import EvictionPolicy, IdleCopy, Lru
from modelmgr.scheduling.queue import TicketQueue
from modelmgr.scheduling.states import CopyState

Cover = tuple[tuple[Copy, ...], tuple[IdleCopy, ...], tuple[float, ...]]
_UNCOUNTED = (
    CopyState.RESERVED,
    CopyState.LOADING,
    CopyState.DRAINING,
    CopyState.UNLOADING,
)


class Victims:
    """Answers who could go; reads the scheduler's state and never writes it."""

    def __init__(self, queue: TicketQueue, policy: EvictionPolicy, *, cooldown_ns: int) -> None:
        self._queue = queue
        self._policy = policy
        self._fallback = Lru()
        self._cooldown_ns = cooldown_ns

    def candidates(
        self, device: Device, now_ns: int, *, more: bool = False, spare: Copy | None = None
    ) -> list[IdleCopy]:
        """Return the idle copies that may go, as the policy sees them.

        Args:
            device: whose copies.
            now_ns: the present.
            more: the room is for one more copy of a model that has some: floors hold.
            spare: a copy that must stay.
        """
        found: list[IdleCopy] = []
        queue, min_cold_ns = self._queue, now_ns - self._cooldown_ns
        waiting = len(queue) > 0
        charge_of = device.ledger.charge_of
        for copy in device.copies.values():
            model = copy.model
            if copy.state is not CopyState.IDLE or copy.ticket is not None or model.pinned:
                continue
            if copy is spare:
                continue
            if len(model.copies) == 1:
                rank = loaded = 1
            else:
                rank, loaded = _rank(copy), model.loaded()
            surplus = rank > model.min_copies
            cold = copy.last_used_ns <= min_cold_ns
            if more and not (surplus and cold):
                continue
            tag = model.tag
            found.append(
                IdleCopy(
                    copy.number,
                    tag,
                    device.index,
                    charge_of(copy.number),
                    copy.last_used_ns,
                    copy.idle_serial,
                    model.reload_ns,
                    surplus,
                    cold,
                    rank,
                    loaded,
                    queue.waiting(tag) if waiting else 0,
                    queue.place(tag, rank) if waiting else None,
                )
            )
        return found

    def cover(
        self,
        device: Device,
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
        if missing > device.ledger.evictable_bytes:
            return None
        candidates = self.candidates(device, now_ns, more=more, spare=spare)
        if sum([candidate.size_bytes for candidate in candidates]) < missing:
            return None
        try:
            values = self._policy.values(candidates, now_ns)
            chosen = self._policy.choose(candidates, values, missing) if missing > 0 else ()
        except Exception:  # noqa: BLE001 - a policy of the user's must not break the scheduler
            values = self._fallback.values(candidates, now_ns)
            chosen = self._fallback.choose(candidates, values, missing)
        if chosen is None or len(set(chosen)) != len(chosen):
            return None
        if sum(candidates[i].size_bytes for i in chosen) < missing:
            return None
        victims = tuple(device.copies[candidates[i].copy] for i in chosen)
        return victims, tuple(candidates), tuple(values)


def _rank(copy: Copy) -> int:
    """Return a copy's place among its model's loaded copies: held first, then the latest used."""
    rank = 1
    for other in copy.model.copies.values():
        if other is copy or other.state in _UNCOUNTED:
            continue
        if other.state is not CopyState.IDLE or (other.last_used_ns, other.number) > (
            copy.last_used_ns,
            copy.number,
        ):
            rank += 1
    return rank
