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
        queue = self._queue
        for copy in device.copies.values():
            model = copy.model
            if copy.state is not CopyState.IDLE or copy.ticket is not None or model.pinned:
                continue
            if copy is spare:
                continue
            rank = _rank(copy)
            surplus = rank > model.min_copies
            cold = now_ns - copy.last_used_ns >= self._cooldown_ns
            if more and not (surplus and cold):
                continue
            found.append(
                IdleCopy(
                    copy=copy.number,
                    tag=model.tag,
                    device=device.index,
                    size_bytes=device.ledger.charge_of(copy.number),
                    last_used_ns=copy.last_used_ns,
                    use_serial=copy.idle_serial,
                    reload_ns=model.reload_ns,
                    surplus=surplus,
                    cold=cold,
                    rank=rank,
                    copies=model.loaded(),
                    queued=queue.waiting(model.tag),
                    place=queue.place(model.tag, rank),
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
        candidates = self.candidates(device, now_ns, more=more, spare=spare)
        if sum(candidate.size_bytes for candidate in candidates) < missing:
            return None
        try:
            chosen = self._policy.choose(candidates, missing, now_ns) if missing > 0 else ()
            values = self._policy.values(candidates, now_ns)
        except Exception:  # noqa: BLE001 - a policy of the user's must not break the scheduler
            chosen = self._fallback.choose(candidates, missing, now_ns)
            values = self._fallback.values(candidates, now_ns)
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
