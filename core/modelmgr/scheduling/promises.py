"""The promises as one check over a scheduler's whole state, for tests, simulations and soaks.

What can be seen in one state is checked here; what needs two states (a count that only grows, a
ticket that ends once) is checked by the property tests that watch the actions go by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelmgr.scheduling.states import FREE, STAYING, TERMINAL, CopyState

if TYPE_CHECKING:
    from modelmgr.scheduling.copies import Device
    from modelmgr.scheduling.scheduler import Scheduler

_MAKING = (CopyState.RESERVED, CopyState.LOADING)


def _must(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def check_promises(scheduler: Scheduler) -> None:
    """Raise AssertionError, with what is wrong, where a promise or an index does not hold."""
    scheduler.queue.check_valid()
    for device in scheduler.devices:
        device.ledger.check_valid()
        _check_device(scheduler, device)
    for copy in scheduler.copies.values():
        name = f"copy {copy.number} of {copy.tag!r}"
        _must(copy.state not in TERMINAL, f"{name} is over and still kept")
        _must(copy.held == (copy.lease is not None), f"{name}: a lease without a holder")
        _must(copy.model.copies.get(copy.number) is copy, f"{name} is lost to its model")
        if copy.ticket is not None:
            ticket = scheduler.committed_tickets.get(copy.ticket)
            _must(ticket is not None, f"{name} is meant for nobody")
            _must(ticket is not None and ticket.copy == copy.number, f"{name} is meant for another")
    leases = [copy.lease for copy in scheduler.copies.values() if copy.lease is not None]
    _must(len(set(leases)) == len(leases), "one lease is in force twice")
    for ticket in scheduler.committed_tickets.values():
        _must(ticket.ticket_num not in scheduler.queue, f"{ticket} waits and is committed")
        _must(ticket.copy in scheduler.copies, f"{ticket} is committed to nothing")
    for model in scheduler.models.values():
        staying = sum(copy.state in STAYING for copy in model.copies.values())
        _must(model.staying == staying, f"{model.tag!r}: the staying copies were miscounted")
        free = sum(copy.state in FREE for copy in model.copies.values())
        _must(model.free == free, f"{model.tag!r}: the free copies were miscounted")
        if model.max_copies is not None:
            _must(model.staying <= model.max_copies, f"{model.tag!r} is above its ceiling")


def _check_device(scheduler: Scheduler, device: Device) -> None:
    for number, copy in device.copies.items():
        _must(scheduler.copies.get(number) is copy, f"{device.name} keeps a lost copy {number}")
    kept_for = device.kept_for
    _must(kept_for is None or kept_for in scheduler.queue, f"{device.name} is kept for nobody")
    isolating = device.isolating
    if isolating is None:
        return
    _must(isolating in device.copies, f"{device.name} isolates a copy that is not there")
    beside = [c for c in device.copies.values() if c.state in _MAKING and c.number != isolating]
    _must(not beside, f"{device.name}: a load beside an isolated one")
