"""What a device is: the description that readers make and everything else is told."""

from __future__ import annotations

from typing import Literal

import msgspec

DeviceKind = Literal["cuda", "host", "virtual", "fixed"]


class DeviceDescription(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device whose memory models share.

    Attributes:
        name: unique among a manager's devices and what ``--device`` takes: ``cuda:1``, ``host``.
        kind: ``cuda`` (NVML), ``host`` (worker processes against a budget), ``virtual``
            (simulation), ``fixed`` (a stated size, never read).
        total_bytes: all memory of the device; for ``host`` the budget.
        slack: share of ``total_bytes`` that stays free for what no ledger knows, 0 to 1.
        index: NVML's index, None for other kinds.
        uuid: NVML's UUID (of the MIG instance where it is one), None for other kinds.
        product: what the maker calls it, None where unknown.
        driver: the driver's version, None where there is none.
        unified: device memory is the host's memory (integrated accelerators).
    """

    name: str
    kind: DeviceKind
    total_bytes: int
    slack: float = 0.1
    index: int | None = None
    uuid: str | None = None
    product: str | None = None
    driver: str | None = None
    unified: bool = False

    def __post_init__(self) -> None:
        """Refuse a device that no ledger could be kept for."""
        if self.total_bytes < 0:
            raise ValueError(f"device {self.name!r}: total_bytes is negative: {self.total_bytes}")
        if not 0 <= self.slack < 1:
            raise ValueError(f"device {self.name!r}: slack must be in [0, 1), not {self.slack}")

    @property
    def limit_bytes(self) -> int:
        """What may be used at most: the total less the slack."""
        return self.total_bytes - round(self.total_bytes * self.slack)
