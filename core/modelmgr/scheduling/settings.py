"""How a scheduler decides: its settings, validated when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modelmgr.errors import UsageError
from modelmgr.scheduling.policies import EvictionPolicy

IsolationMode = Literal["exclusive", "beside"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSettings:
    """How the scheduler decides.

    Attributes:
        policy: an eviction policy or the name of one.
        isolation: ``exclusive`` (an unknown model's device drains first) or ``beside``.
        max_bypass: how often a waiting ticket may be passed over.
        min_copies: copies of a model that scaling up another may not evict.
        max_copies: most copies of a model, None for no ceiling.
        cooldown_ns: how long after its last use scaling up another may not evict a copy.
        explain: say with each eviction what the other built-in policies would have taken.
        patience_ns: how long unloaded memory may stay unseen before it is booked as foreign.
    """

    policy: str | EvictionPolicy = "queue-value"
    isolation: IsolationMode = "beside"
    max_bypass: int = 8
    min_copies: int = 1
    max_copies: int | None = None
    cooldown_ns: int = 10_000_000_000
    patience_ns: int = 5_000_000_000
    explain: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that make no sense."""
        if self.isolation not in ("exclusive", "beside"):
            raise UsageError(f"isolation must be 'exclusive' or 'beside', not {self.isolation!r}")
        for name in ("max_bypass", "min_copies", "cooldown_ns", "patience_ns"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must not be negative: {getattr(self, name)}")
        if self.max_copies is not None and self.max_copies < max(1, self.min_copies):
            raise UsageError(
                f"max_copies must be at least 1 and min_copies ({self.min_copies}), "
                f"not {self.max_copies}"
            )
