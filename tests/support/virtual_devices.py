"""Devices whose true memory use is known, byte for byte: what a scheduler can only infer.

Owns the truth (sizes of models, what lies on each device, foreign use) and the sums of the memory
promise, written without the ledger. Knows nothing of queues, policies or plans.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Phase(Enum):
    """Where a copy's memory is."""

    LOADING = "loading"
    LOADED = "loaded"
    UNLOADING = "unloading"
    LATE = "late"  # the unload ended, the driver has not given the memory back


@dataclass(frozen=True, slots=True)
class Size:
    """What one copy of a model truly takes, in bytes."""

    resident_bytes: int
    peak_bytes: int


@dataclass(slots=True)
class TrueCopy:
    """One copy as it lies on its device."""

    number: int
    tag: str
    device: int
    reserved_bytes: int
    isolated: bool
    phase: Phase = Phase.LOADING
    held: bool = False
    covered: bool = False
    loaded_ns: int = 0
    using_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """What a query of a device saw, to be delivered now or later."""

    device: int
    at_ns: int
    used_bytes: int
    own_bytes: dict[int, int] | None


@dataclass(slots=True)
class VirtualDevices:
    """All devices, their limits, and what truly lies on them."""

    limits: list[int]
    foreign: list[int]
    sizes: dict[str, Size] = field(default_factory=dict[str, Size])
    copies: dict[int, TrueCopy] = field(default_factory=dict[int, TrueCopy])

    def on(self, device: int) -> list[TrueCopy]:
        """Return the copies whose memory lies on a device."""
        return [copy for copy in self.copies.values() if copy.device == device]

    def used_by(self, copy: TrueCopy) -> int:
        """Return what a copy truly takes now; a held one as much as it was told to, at least."""
        size = self.sizes[copy.tag]
        if copy.phase is Phase.LOADING:
            return copy.using_bytes
        if copy.held:
            return min(max(copy.using_bytes, size.resident_bytes), size.peak_bytes)
        return size.resident_bytes

    def used(self, device: int) -> int:
        """Return what a perfect query of a device would show now."""
        return self.foreign[device] + sum(self.used_by(copy) for copy in self.on(device))

    def promised_bytes(self, device: int) -> int:
        """Return the memory promise's left side, from true figures.

        Foreign use, resident bytes of loaded copies, what active ones may still add, reservations
        (until a reading taken after the load has covered them), and what is not back yet.
        """
        return self.foreign[device] + sum(self.promised_to(copy) for copy in self.on(device))

    def promised_to(self, copy: TrueCopy) -> int:
        """Return a single copy's part of that."""
        size = self.sizes[copy.tag]
        if copy.phase is Phase.LOADING:
            return copy.reserved_bytes
        if copy.phase is not Phase.LOADED:
            return size.resident_bytes
        lasting = size.peak_bytes if copy.held else size.resident_bytes
        return lasting if copy.covered else max(lasting, copy.reserved_bytes)

    def read(self, device: int, now_ns: int, *, own: bool = False) -> Reading:
        """Query a device; ``own`` tells apart what each copy takes."""
        seen = {copy.number: self.used_by(copy) for copy in self.on(device)} if own else None
        return Reading(device, now_ns, self.used(device), seen)
