"""The cost database's content: what each model costs, by measurement (``kind: modelmgr.costs``).

These are the frozen types only. Reading, migrating and writing them is ``records.codec``'s work,
comparing and merging ``records.merge``'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from modelmgr.records.measured import Amount, MeasuredBytes, MeasuredDuration


class ToolInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The program that wrote a file."""

    name: str
    version: str


class DeviceInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The device that a database was measured on.

    Attributes:
        kind: ``cuda`` or ``host``.
        name: the product, or what ``--device`` calls it.
        total_bytes: all memory of the device; for ``host`` the machine's.
        driver: its version, None where there is none.
        budget_bytes: what the models of the newest run might use of it, None where that was not
            limited or is not known. It decides what fits and no figure of what did.
    """

    kind: str
    name: str | None
    total_bytes: Amount | None
    driver: str | None = None
    budget_bytes: Amount | None = None


class MachineInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine that a database was measured on; ``packages`` maps a name to its version."""

    os: str
    cpu: str | None
    python: str
    packages: dict[str, str]
    device: DeviceInfo


class Ledger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the peak goes, bytes; the five lines add up to ``peak_bytes``. None is unknown.

    Attributes:
        runtime_bytes: the process with its framework (and device context) before the model.
        weights_bytes: parameters and buffers.
        activation_bytes: what the largest measured shape takes on top while it runs.
        cache_bytes: what the allocator keeps or wastes beyond live tensors.
        unaccounted_bytes: the rest; may be negative where lines overlap.
    """

    runtime_bytes: Amount | None
    weights_bytes: Amount | None
    activation_bytes: Amount | None
    cache_bytes: Amount | None
    unaccounted_bytes: Amount | None


class ShapeCost(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one input shape costs. In the file the dimensions stand beside the figures.

    Attributes:
        dims: dimension name to size, e.g. ``{"batch_size": 4, "sequence_length": 128}``.
        activation_bytes: peak minus resident while this shape runs.
        latency_ns: one batch, nanoseconds.
        throughput_per_s: items (``batch_size``, else 1) a second at the median latency.
    """

    dims: dict[str, int]
    activation_bytes: MeasuredBytes | None
    latency_ns: MeasuredDuration | None
    throughput_per_s: float | None


class Copies(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What more copies of the same model cost."""

    second_copy_bytes: MeasuredBytes | None = None


class Unload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long until the memory is back (ns), and what stays behind (bytes)."""

    reclaim_ns: MeasuredDuration | None = None
    residue_bytes: Amount | None = None


class CostError(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a model could not be measured; ``kind`` is the error class's name."""

    kind: str
    message: str


class ModelCost(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False
):
    """What one model costs. Every figure but ``initial_estimate_bytes`` may be None: unknown.

    Attributes:
        initial_estimate_bytes: what a manager preloads: one copy at its largest measured shape, an
            upper figure, bytes. None only where ``error`` says why.
        estimate: the first guess without loading, for comparison: ``{"weights_bytes": …,
            "activation_bytes": …, "method": …}``; None where there was none.
        fingerprint: ``sha256:…`` of weights or config, dtype, device, driver, framework versions.
    """

    initial_estimate_bytes: Amount | None = None
    resident_bytes: MeasuredBytes | None = None
    peak_bytes: MeasuredBytes | None = None
    load_peak_bytes: MeasuredBytes | None = None
    ledger: Ledger | None = None
    copies: Copies | None = None
    shapes: tuple[ShapeCost, ...] = ()
    load_ns: MeasuredDuration | None = None
    unload: Unload | None = None
    method: Literal["isolation", "aggregate"] = "isolation"
    interval_95_bytes: tuple[Amount, Amount] | None = None
    observations: Amount = 0
    fingerprint: str | None = None
    estimate: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    error: CostError | None = None


class EvictionCandidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A copy that could have been evicted; ``value`` is what the policy says losing it costs."""

    tag: str
    copy: int
    value: float
    size_bytes: int


class Eviction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One eviction, explained (FORMATS: E).

    Attributes:
        at_ns: nanoseconds since the manager started.
        device: the device's name.
        tag: the model of the evicted copy.
        copy: the evicted copy's number.
        reason: ``make-room``, ``isolation``, ``reset``, ``shutdown``, ``holder-lost`` or
            ``out-of-memory``.
        requested_by: the tag that needed the room, None where nobody did.
        freed_bytes: what the ledger got back.
        candidates: every idle copy that the policy could choose from; of more than 32 on a device,
            a simulation names only those that its choice can be among.
        chosen: the copy numbers of the whole chosen set.
        instead: by policy, what each other built-in policy would have taken.
    """

    at_ns: int
    device: str
    tag: str
    copy: int
    reason: str
    requested_by: str | None
    freed_bytes: int
    candidates: tuple[EvictionCandidate, ...] = ()
    chosen: tuple[int, ...] = ()
    instead: dict[str, tuple[int, ...]] = {}


class RunInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One invocation that wrote to the database; ``started_at`` is RFC 3339 in UTC."""

    command: str
    scenario: str | None
    seed: int | None
    started_at: str


class CostDatabase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that was measured, on one machine and device (``kind: modelmgr.costs``)."""

    KIND: ClassVar[str] = "modelmgr.costs"
    SCHEMA_VERSION: ClassVar[int] = 1

    created_at: str
    tool: ToolInfo
    machine: MachineInfo
    models: dict[str, ModelCost]
    evictions: tuple[Eviction, ...] = ()
    runs: tuple[RunInfo, ...] = ()
    schema_version: int = SCHEMA_VERSION
    kind: str = KIND

    @classmethod
    def load(cls, path: str | Path) -> CostDatabase:
        """Read a database from a file; InputError says what is wrong with it and where.

        A model that cannot be read has an ``error``; it does not hide the others.
        """
        from modelmgr.records.codec import load_costs  # noqa: PLC0415 - codec imports this module

        return load_costs(path)

    def save(self, path: str | Path) -> None:
        """Write the database to a file, atomically; UsageError where that is not possible."""
        from modelmgr.records.codec import save_costs  # noqa: PLC0415 - codec imports this module

        save_costs(self, path)
