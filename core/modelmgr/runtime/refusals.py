"""What a caller is told whose request ended without a copy: which error, and what stood in the way.

Owns the words. It looks at the scheduler as it is at that moment and changes nothing; who calls
holds the manager's lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from modelmgr.errors import (
    AcquireTimeoutError,
    DoesNotFitError,
    ManagerClosedError,
    ModelLoadError,
)
from modelmgr.runtime.loaded import Loaded
from modelmgr.scheduling.actions import Refusal, Reject
from modelmgr.scheduling.copies import Copy, Device
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.scheduling.states import CopyState
from modelmgr.units import format_bytes, format_duration

_NAMED = 4  # copies of one device that are named one by one, the largest first


def refused(
    action: Reject,
    scheduler: Scheduler,
    loaded: Mapping[int, Loaded],
    *,
    thread_ident: int,
    now_ns: int,
) -> Exception:
    """Return the error for a ticket that ended without a copy.

    Args:
        action: how it ended.
        scheduler: as it is now.
        loaded: the loaded copies by number, to say who holds them.
        thread_ident: who waited: a thread may be in its own way.
        now_ns: the time.
    """
    tag = action.tag
    if action.refusal is Refusal.LOAD_FAILED:
        return ModelLoadError(f"loading {tag!r} failed: {action.message}")
    if action.refusal is Refusal.CLOSED:
        return ManagerClosedError(f"the manager was shut down; {tag!r} was not acquired")
    if action.refusal is Refusal.DOES_NOT_FIT:
        return _does_not_fit(tag, scheduler)
    if action.refusal is Refusal.CANCELLED:
        return AcquireTimeoutError(f"Timeout waiting to acquire model: {tag!r}, cancelled", tag=tag)
    reasons = tuple(_reasons(tag, scheduler, loaded, thread_ident=thread_ident, now_ns=now_ns))
    head = f"Timeout waiting to acquire model: {tag!r}, {action.message}"
    return AcquireTimeoutError("\n".join([head, *reasons]), tag=tag, reasons=reasons)


def _does_not_fit(tag: str, scheduler: Scheduler) -> DoesNotFitError:
    costs = scheduler.model(tag).costs
    needed_bytes = None if costs is None else costs.needed_bytes
    limit_bytes = max(device.ledger.limit_bytes for device in scheduler.devices)
    needed, limit = format_bytes(needed_bytes), format_bytes(limit_bytes)
    if needed_bytes is not None and needed == limit:
        needed, limit = f"{needed_bytes:,} bytes", f"{limit_bytes:,} bytes"
    return DoesNotFitError(
        f"{tag!r} can never fit: it needs {needed} and the largest limit is {limit}; "
        "nothing was evicted for it",
        tag=tag,
        needed_bytes=needed_bytes,
        limit_bytes=limit_bytes,
    )


def _reasons(
    tag: str,
    scheduler: Scheduler,
    loaded: Mapping[int, Loaded],
    *,
    thread_ident: int,
    now_ns: int,
) -> Iterator[str]:
    model = scheduler.model(tag)
    most = model.max_copies
    if most is not None and model.staying >= most:
        yield f"all copies of {tag!r} that max_model_copies allows are there: {most}"
    if model.costs is None:
        yield (
            f"nobody has measured {tag!r}: it waits for room to be measured in; "
            "costs= tells what it takes, worst_case_mb= what it takes at most"
        )
    for device in scheduler.devices:
        yield from _of_device(
            device, tag, scheduler, loaded, thread_ident=thread_ident, now_ns=now_ns
        )
    others = sorted({ticket.tag for ticket in scheduler.queue})
    if others:
        yield f"{len(scheduler.queue)} other requests wait: {', '.join(map(repr, others[:_NAMED]))}"


def _of_device(
    device: Device,
    tag: str,
    scheduler: Scheduler,
    loaded: Mapping[int, Loaded],
    *,
    thread_ident: int,
    now_ns: int,
) -> Iterator[str]:
    ledger, costs = device.ledger, scheduler.model(tag).costs
    name = ledger.name
    # A monitor's own words may be of several lines.
    failed = None if ledger.reading_failed is None else " ".join(ledger.reading_failed.split())
    if ledger.reading_at_ns is None:
        yield f"{name}: no reading of it has succeeded, and nothing is loaded before one has" + (
            "" if failed is None else f" ({failed})"
        )
        return
    free = format_bytes(max(0, ledger.room_bytes()))
    needs = "" if costs is None else f"; {tag!r} needs {format_bytes(costs.needed_bytes)}"
    yield f"{name}: {free} of {format_bytes(ledger.limit_bytes)} are free{needs}"
    if failed is not None:
        age = format_duration(max(0, now_ns - ledger.reading_at_ns))
        yield f"{name}: readings fail ({failed}), the last good one is {age} old"
    if device.isolating is not None:
        measured = scheduler.copies[device.isolating].tag
        yield f"{name}: {measured!r} is being measured, and nothing else is loaded meanwhile"
    if device.kept_for is not None:
        earlier = scheduler.waiting_for(device.kept_for)
        if earlier is not None:
            yield f"{name}: it is kept free for an earlier request of {earlier.tag!r}"
    told = [
        (ledger.charge_of(number), f"{copy.tag!r} (copy {number}) {why}")
        for number, copy in device.copies.items()
        if (why := _in_the_way(copy, loaded.get(number), thread_ident)) is not None
    ]
    told.sort(key=lambda pair: -pair[0])
    for size_bytes, text in told[:_NAMED]:
        yield f"{name}: {format_bytes(size_bytes)}: {text}"
    if told[_NAMED:]:
        yield f"{name}: {len(told) - _NAMED} further copies; snapshot() names them"
    if ledger.foreign_bytes:
        yield f"{name}: {format_bytes(ledger.foreign_bytes)}: used by others"


def _in_the_way(copy: Copy, loaded: Loaded | None, thread_ident: int) -> str | None:
    """Return why a copy cannot go now, None where it could."""
    if copy.held:
        lease = None if loaded is None else loaded.lease
        if lease is None:
            return "was just granted"
        own = ", the calling thread itself" if lease.holder_ident == thread_ident else ""
        return f"is held by {lease.holder}{own}"
    if copy.state is CopyState.RESERVED:
        return "waits for room"
    if copy.state is CopyState.LOADING:
        return "is being loaded"
    if copy.state is CopyState.UNLOADING:
        if loaded is not None:
            return "is being unloaded"
        return "was unloaded, and its memory was not seen to be back"
    return "is pinned" if copy.model.pinned else None
