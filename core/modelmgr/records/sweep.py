"""What a sweep came to (``kind: modelmgr.sweep``): one scenario, simulated for many values.

Owns the frozen types and their way into a file and back. Nothing in it depends on how the rows were
computed: the same sweep gives the same bytes, however many processes shared the work.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from modelmgr.records.atomic_files import write_atomically
from modelmgr.records.costs import ToolInfo
from modelmgr.records.input_files import read_input
from modelmgr.records.result import Bound, DeviceUse, DurationFigures, RequestCounts
from modelmgr.records.versioned_json import decode_record, encode_record
from modelmgr.units import MIB

MAX_FILE_BYTES = 512 * MIB
_WHAT = "sweep"
_HINT = "'modelmgr simulate --sweep' makes sweeps"

Quantity = Literal["bytes", "ns", "per_s", "share", "number", "text"]
"""What an amount counts: bytes, nanoseconds, events a second, a share of 1, a bare number; text has
no amount."""


class SweepValue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One value of a key: as written, and its amount in the key's quantity, None for text."""

    text: str
    amount: float | int | None = None


class SweepKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key of the scenario and the values that it is given, in their order."""

    key: str
    quantity: Quantity
    values: tuple[SweepValue, ...]


class SweepFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one simulation came to; every figure as a result has it (``records.result``).

    Attributes:
        bound: None where it was not asked for, or there is none.
        no_bound: why there is none although it was asked for.
    """

    duration_ns: int
    requests: RequestCounts
    loads: int
    hits: int
    evictions: int
    oom_events: int
    failed_loads: int
    reload_cost_ns: int
    first_load_cost_ns: int
    wait_ns: DurationFigures | None
    latency_ns: DurationFigures | None
    devices: dict[str, DeviceUse]
    decisions_sha256: str
    bound: Bound | None = None
    no_bound: str | None = None


class SweepError(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a row has no figures."""

    kind: str
    message: str


class SweepRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One combination of values.

    Attributes:
        number: its place among all combinations, from 0, the last key's values changing fastest.
        values: as written, by key.
        memory_bytes: of all devices together, slack included; None where the scenario is refused.
        figures: None where the row failed.
        error: why it did.
    """

    number: int
    values: dict[str, str]
    memory_bytes: int | None
    figures: SweepFigures | None = None
    error: SweepError | None = None


class SweepCurve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows that differ in memory alone, by ascending memory: reload cost over memory."""

    values: dict[str, str]
    rows: tuple[int, ...]
    memory_bytes: tuple[int, ...]
    reload_cost_ns: tuple[int, ...]


class SloAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which device meets the goals.

    Attributes:
        goals: as written; ``implied`` are those that nobody wrote.
        meets: the numbers of the rows that meet all of them.
        smallest: of these, the one with the least memory (then the least reload cost).
        closest: where none meets them, the row that comes closest; None where one does.
        misses: what the closest row misses, in words.
        complete: every planned row was asked; False where the sweep was interrupted: all of this is
            then of the rows that were done, and a missing one may be smaller or meet the goals.
    """

    goals: tuple[str, ...]
    implied: tuple[str, ...]
    meets: tuple[int, ...]
    smallest: int | None
    closest: int | None
    misses: tuple[str, ...]
    complete: bool = True


class Sweep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole sweep.

    Attributes:
        scenario: its name.
        keys: what was changed.
        planned: how many combinations there are.
        rows: those that were simulated or failed, by number.
        curves: reload cost over memory, one for each combination of the other keys.
        pareto: the rows, by number, that no other one beats in memory, reload cost, 95th percentile
            of the wait and unserved share at once.
        slo: None where no goal was given.
        partial: it was interrupted: rows are missing.
    """

    KIND: ClassVar[str] = "modelmgr.sweep"
    SCHEMA_VERSION: ClassVar[int] = 1

    tool: ToolInfo
    scenario: str
    keys: tuple[SweepKey, ...]
    planned: int
    rows: tuple[SweepRow, ...]
    curves: tuple[SweepCurve, ...]
    pareto: tuple[int, ...]
    slo: SloAnswer | None = None
    partial: bool = False
    schema_version: int = SCHEMA_VERSION
    kind: str = KIND

    @classmethod
    def load(cls, path: str | Path) -> Sweep:
        """Read a sweep from a file; InputError says what is wrong with it and where."""
        content = read_input(path, limit_bytes=MAX_FILE_BYTES, what=_WHAT)
        return decode_sweep(content, path=os.fspath(path))

    def save(self, path: str | Path) -> None:
        """Write the sweep, atomically; UsageError where that is not possible."""
        write_atomically(path, encode_sweep(self))


def encode_sweep(sweep: Sweep) -> bytes:
    """Return the file's bytes: equal sweeps give equal bytes.

    Raises:
        UsageError: a text in it is not Unicode.
    """
    return encode_record(sweep, what=_WHAT, indent=2)


def decode_sweep(content: bytes, *, path: str | None = None) -> Sweep:
    """Return the sweep that a file's bytes hold; ``path`` is for messages.

    Raises:
        InputError: it is no sweep that this version can read.
    """
    return decode_record(content, Sweep, path=path, what=_WHAT, hint=_HINT)
