"""What is on a device while it is read: which copies rest, which work, and what each one holds.

Owns the record and how it follows from the scheduler's copies; learns nothing from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from modelmgr.scheduling.copies import Device
from modelmgr.scheduling.states import CopyState

_RESTING = frozenset({CopyState.IDLE, CopyState.SETTLING})
_WORKING = frozenset({CopyState.ACTIVE, CopyState.DRAINING})


class OwnBytes(NamedTuple):
    """What one copy in a process of its own held; ``job`` is its lease's serial, None at rest."""

    copy: int
    tag: str
    job: int | None
    used_bytes: int


@dataclass(frozen=True, slots=True)
class Configuration:
    """What was on a device during a reading.

    Attributes:
        loaded: copies on it, by model.
        active: those of them that were at work.
        own: the copies whose own bytes the reading tells.
        at_rest: whether nothing was being loaded or unloaded, and no memory was on its way back.
    """

    loaded: Mapping[str, int]
    active: Mapping[str, int]
    own: tuple[OwnBytes, ...] = ()
    at_rest: bool = True


def configuration_of(device: Device, own_bytes: Mapping[int, int] | None = None) -> Configuration:
    """Return what is on a device now; under the manager's lock.

    Args:
        device: the scheduler's record of it.
        own_bytes: what single copies' own processes hold, by copy number; None where no reading
            tells.
    """
    loaded: dict[str, int] = {}
    active: dict[str, int] = {}
    own: list[OwnBytes] = []
    at_rest = device.ledger.freeing_bytes == 0
    for number, copy in device.copies.items():
        working = copy.state in _WORKING
        if not working and copy.state not in _RESTING:
            # A reserved copy holds nothing yet; everything else is on its way in or out.
            at_rest = at_rest and copy.state is CopyState.RESERVED
            continue
        loaded[copy.tag] = loaded.get(copy.tag, 0) + 1
        if working:
            active[copy.tag] = active.get(copy.tag, 0) + 1
        if own_bytes is not None and number in own_bytes:
            job = copy.lease if working else None
            own.append(OwnBytes(number, copy.tag, job, own_bytes[number]))
    return Configuration(loaded, active, tuple(own), at_rest)
