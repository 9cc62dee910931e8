"""What the scheduler keeps of each copy, each model and each device. Plain mutable records."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from modelmgr.scheduling.ledger import Ledger
from modelmgr.scheduling.states import (
    HELD,
    LOADED,
    MOVES,
    WHEN_GRANTED,
    WHEN_RELEASED,
    CopyEvent,
    CopyState,
    Move,
    after,
)

_GRANTED: Final = CopyEvent.GRANTED
_RELEASED: Final = CopyEvent.RELEASED


@dataclass(frozen=True, slots=True)
class ModelCosts:
    """What one copy of a model costs, as admission uses it.

    Attributes:
        resident_bytes: loaded and idle.
        peak_bytes: loaded and running, an upper figure.
        load_peak_bytes: while it loads; None means no more than ``peak_bytes``.
        load_ns: how long a load takes; None is unknown.
        hold_ns: how long a holder keeps it, on average; None is unknown.
        needed_bytes: what has to be reserved before a load may start; follows from the others.
    """

    resident_bytes: int
    peak_bytes: int
    load_peak_bytes: int | None = None
    load_ns: int | None = None
    hold_ns: int | None = None
    needed_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        """Refuse figures that no ledger could carry."""
        if not 0 <= self.resident_bytes <= self.peak_bytes:
            raise ValueError(
                "a model needs 0 <= resident <= peak, "
                f"not {self.resident_bytes} and {self.peak_bytes}"
            )

        object.__setattr__(self, "needed_bytes", max(self.peak_bytes, self.load_peak_bytes or 0))

    def after_out_of_memory(self, charged_bytes: int, most_bytes: int) -> ModelCosts:
        """Return what to count once a copy ran out of memory with so much charged to it.

        An eighth more than what was not enough, within ``most_bytes``: with a whole device to
        itself the model may still fit, so it must not become one that never does.
        """
        at_least = max(min(charged_bytes + charged_bytes // 8, most_bytes), charged_bytes)
        return replace(self, peak_bytes=max(self.peak_bytes, at_least))


class Model:
    """What is known of a model."""

    __slots__ = (
        "changes",
        "coming",
        "copies",
        "costs",
        "free",
        "granted_ns",
        "hold_ns_seen",
        "load_ns_seen",
        "max_copies",
        "min_copies",
        "pinned",
        "staying",
        "tag",
    )

    def __init__(self, tag: str, min_copies: int, max_copies: int | None) -> None:
        self.tag = tag
        self.min_copies = min_copies
        self.max_copies = max_copies
        self.pinned = False
        self.costs: ModelCosts | None = None
        self.load_ns_seen: int | None = None
        self.hold_ns_seen: int | None = None
        # When a copy was last granted.
        self.granted_ns = 0
        # Live copies by number, in order of birth.
        self.copies: dict[int, Copy] = {}
        # How many of them are there or coming; those on their way out are not counted.
        self.staying = 0
        # How many of these are still to be loaded.
        self.coming = 0
        # How many are loaded and nobody's.
        self.free = 0
        # Counts up with everything that can change what its tickets may do.
        self.changes = 0

    @property
    def reload_ns(self) -> int:
        """What another load would take: as stated, else as last seen, else one second."""
        if self.costs is not None and self.costs.load_ns is not None:
            return self.costs.load_ns
        return self.load_ns_seen if self.load_ns_seen is not None else 1_000_000_000

    @property
    def hold_ns(self) -> int | None:
        """How long a holder keeps a copy: as last seen, else as stated, else unknown."""
        if self.hold_ns_seen is not None:
            return self.hold_ns_seen
        return self.costs.hold_ns if self.costs is not None else None

    def saw_hold(self, hold_ns: int) -> None:
        """Take one more hold into the running average (an eighth of the new one)."""
        seen = self.hold_ns_seen
        self.hold_ns_seen = hold_ns if seen is None else (7 * seen + hold_ns) // 8

    def loaded(self) -> int:
        """Return how many copies are loaded (on their way out not counted)."""
        return sum(copy.state in LOADED for copy in self.copies.values())


class Copy:
    """One copy of a model."""

    __slots__ = (
        "condemned_for",
        "device",
        "granted_ns",
        "idle_serial",
        "isolated",
        "last_used_ns",
        "lease",
        "load_started_ns",
        "model",
        "number",
        "patience_ns",
        "reserved_bytes",
        "state",
        "ticket",
    )

    def __init__(self, number: int, model: Model, device: int, reserved_bytes: int) -> None:
        self.number = number
        self.model = model
        self.device = device
        self.reserved_bytes = reserved_bytes
        self.state = CopyState.RESERVED
        model.staying += 1
        model.coming += 1
        self.isolated = False
        self.ticket: int | None = None
        self.lease: int | None = None
        self.last_used_ns = 0
        self.idle_serial = 0
        self.load_started_ns = 0
        self.granted_ns = 0
        self.patience_ns: int | None = None
        self.condemned_for: str | None = None

    @property
    def tag(self) -> str:
        """The model's tag."""
        return self.model.tag

    @property
    def held(self) -> bool:
        """Whether somebody has it."""
        return self.state in HELD

    def take(self, event: CopyEvent) -> None:
        """Move along the state table."""
        self._follow(MOVES[self.state].get(event), event)

    def hand_out(self) -> None:
        """Take ``GRANTED``: every request does, so it has a table of its own."""
        self._follow(WHEN_GRANTED.get(self.state), _GRANTED)

    def take_back(self) -> None:
        """Take ``RELEASED``: as ``hand_out``."""
        self._follow(WHEN_RELEASED.get(self.state), _RELEASED)

    def _follow(self, move: Move | None, event: CopyEvent) -> None:
        """Enter the next state, and keep up the model's counts; None is a refused pair."""
        if move is None:
            after(self.state, event)  # raises
            return
        self.state, free, staying, coming = move
        model = self.model
        model.changes += 1
        model.free += free
        model.staying += staying
        model.coming += coming


class Device:
    """One device: its ledger, the copies on it, and what is kept free on it."""

    __slots__ = (
        "copies",
        "index",
        "isolating",
        "isolation_quiet",
        "kept_for",
        "leaving",
        "ledger",
        "left_ns",
        "lost_ns",
    )

    def __init__(self, index: int, ledger: Ledger) -> None:
        self.index = index
        self.ledger = ledger
        self.copies: dict[int, Copy] = {}
        # How many of them are being unloaded.
        self.leaving = 0
        # When the last of them was gone.
        self.left_ns = 0
        # When a worker was lost on it, or a load failed, for the last time.
        self.lost_ns = -1
        # The unknown model's copy that is being profiled here; nothing else loads meanwhile.
        self.isolating: int | None = None
        # Hits wait as well: only an aggregate reading can measure the isolated copy.
        self.isolation_quiet = False
        # The ticket for which the device is being emptied; later tickets keep off.
        self.kept_for: int | None = None

    @property
    def name(self) -> str:
        """The device's name."""
        return self.ledger.name
