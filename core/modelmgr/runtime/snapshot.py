"""What a manager looks like at one moment: immutable, safe to keep and to print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modelmgr.runtime.counters import ManagerTotals
from modelmgr.runtime.loaded import Loaded
from modelmgr.scheduling.copies import Copy, Device
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.scheduling.states import CopyState


@dataclass(frozen=True, slots=True)
class DeviceSnapshot:
    """One device.

    Attributes:
        name: the device's name.
        total_bytes: its size.
        limit_bytes: what may be used at most.
        used_bytes: its whole use by the last good reading, None before the first.
        committed_bytes: what the ledger has promised: foreign use, copies, reservations.
        reserved_bytes: of it, what no reading has covered yet.
        freeing_bytes: of it, what is on its way back.
        foreign_bytes: of it, what others use.
        reading_age_ns: how old the last good reading is, None before the first.
        reading_failed: why the latest reading failed, None where it did not.
        isolating: the tag that is being profiled alone, None where none is.
    """

    name: str
    total_bytes: int
    limit_bytes: int
    used_bytes: int | None
    committed_bytes: int
    reserved_bytes: int
    freeing_bytes: int
    foreign_bytes: int
    reading_age_ns: int | None
    reading_failed: str | None
    isolating: str | None


@dataclass(frozen=True, slots=True)
class CopySnapshot:
    """One copy: ``holder`` names the thread that has it; ``idle_ns`` is since its last use."""

    copy: int
    tag: str
    device: str
    state: str
    charged_bytes: int
    holder: str | None
    last_used_ns: int
    idle_ns: int | None
    pinned: bool


@dataclass(frozen=True, slots=True)
class TicketSnapshot:
    """One ticket that has not ended; ``committed`` says that a copy is being made for it."""

    ticket_num: int
    tag: str
    priority: int
    waited_ns: int
    passed_over: int
    committed: bool


@dataclass(frozen=True, slots=True)
class ManagerSnapshot:
    """The whole manager at one moment; ``totals`` is what happened until then."""

    devices: tuple[DeviceSnapshot, ...]
    copies: tuple[CopySnapshot, ...]
    queue: tuple[TicketSnapshot, ...]
    closed: bool
    totals: ManagerTotals


def take_snapshot(
    scheduler: Scheduler, loaded: Mapping[int, Loaded], now_ns: int, *, totals: ManagerTotals
) -> ManagerSnapshot:
    """Return what a scheduler and its loaded copies look like now. The caller holds the lock."""
    return ManagerSnapshot(
        devices=tuple(_of_device(device, now_ns) for device in scheduler.devices),
        copies=tuple(
            _of_copy(copy, scheduler.devices[copy.device], loaded.get(number), now_ns)
            for number, copy in scheduler.copies.items()
        ),
        queue=tuple(
            TicketSnapshot(
                ticket.ticket_num,
                ticket.tag,
                ticket.priority,
                now_ns - ticket.submitted_ns,
                scheduler.queue.passed_over(ticket),
                ticket.ticket_num in scheduler.committed_tickets,
            )
            for ticket in [*scheduler.committed_tickets.values(), *scheduler.queue]
        ),
        closed=scheduler.closed,
        totals=totals,
    )


def _of_device(device: Device, now_ns: int) -> DeviceSnapshot:
    ledger = device.ledger
    return DeviceSnapshot(
        name=device.name,
        total_bytes=ledger.total_bytes,
        limit_bytes=ledger.limit_bytes,
        used_bytes=ledger.reading_used_bytes,
        committed_bytes=ledger.committed_bytes,
        reserved_bytes=ledger.reserved_bytes,
        freeing_bytes=ledger.freeing_bytes,
        foreign_bytes=ledger.foreign_bytes,
        reading_age_ns=None if ledger.reading_at_ns is None else now_ns - ledger.reading_at_ns,
        reading_failed=ledger.reading_failed,
        isolating=None if device.isolating is None else device.copies[device.isolating].tag,
    )


def _of_copy(copy: Copy, device: Device, loaded: Loaded | None, now_ns: int) -> CopySnapshot:
    holder = None
    if copy.held:
        holder = loaded.lease.holder if loaded is not None and loaded.lease else "unknown"
    return CopySnapshot(
        copy=copy.number,
        tag=copy.tag,
        device=device.name,
        state=copy.state.value,
        charged_bytes=device.ledger.charge_of(copy.number),
        holder=holder,
        last_used_ns=copy.last_used_ns,
        idle_ns=now_ns - copy.last_used_ns if copy.state is CopyState.IDLE else None,
        pinned=copy.model.pinned,
    )
