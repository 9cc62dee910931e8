"""What a run of a scenario came to, simulated or real (``kind: modelmgr.result``).

These are the frozen types only; reading and writing them is ``records.result_codec``'s work.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from modelmgr.records.costs import Eviction, MachineInfo, ToolInfo
from modelmgr.records.measured import Amount

Mode = Literal["simulate", "run"]


class DurationFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sample of durations, nanoseconds. A percentile that it is too small for is None.

    Attributes:
        count: how many; never 0, as no sample has no figures.
        mean: exact.
        relative_error: the percentiles are at most this share off, as they come from a sketch; None
            where they come from every single value.
        samples: every value in order, where there are few; empty otherwise.
    """

    count: Amount
    mean: Amount
    median: Amount | None
    p95: Amount | None
    p99: Amount | None
    min: Amount
    max: Amount
    relative_error: float | None = None
    samples: tuple[Amount, ...] = ()


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How requests ended; the endings add up to ``total``.

    Attributes:
        total: requests that came.
        completed: served to the end.
        timed_out: waited for as long as they might.
        refused: never to be served: too large for every device, or the manager was closed.
        failed: the load, the copy or its holder was lost.
        cancelled: still waiting or in service when the run ended.
    """

    total: Amount
    completed: Amount
    timed_out: Amount
    refused: Amount
    failed: Amount
    cancelled: Amount


class DeviceUse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """True use of one device's memory, foreign use included; the mean is over time."""

    limit_bytes: Amount
    peak_bytes: Amount
    mean_bytes: Amount


class StatedTime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a scenario states that something takes, and what a stand-in took for it.

    Attributes:
        count: how often it was done.
        stated_ns: on average, as drawn.
        taken_ns: on average; longer where the machine needs longer to give or take back the memory.
        most_over_ns: by how much it took longer at most.
    """

    count: Amount
    stated_ns: Amount
    taken_ns: Amount
    most_over_ns: Amount


class ModelUse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one model came to.

    Attributes:
        requests: that came for it.
        loads: loads of it that ended well.
        hits: requests that were given a copy that was loaded already.
        evictions: copies of it that went to make room or for an isolated measurement.
        wait_ns: from the scheduled arrival to the copy; None where nobody got one.
        stated_times: of a real run's stand-in, by ``load``, ``service`` and ``unload``: whether it
            took the stated times.
    """

    requests: Amount
    loads: Amount
    hits: Amount
    evictions: Amount
    wait_ns: DurationFigures | None
    stated_times: dict[str, StatedTime] = msgspec.field(default_factory=dict[str, StatedTime])


class Bound(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The least reload cost that any policy could have reached on the served schedule.

    Attributes:
        reload_cost_ns: a cost that no eviction and prefetch policy can go below.
        ratio: what the run took over it; None where the bound is 0.
        method: how it was found.
        certificate: the file that proves it, None where none was written.
    """

    reload_cost_ns: Amount
    ratio: float | None
    method: str
    certificate: str | None = None


class LearnedCost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the run's estimator learned of one model; ``upper_bytes`` is what admission uses."""

    resident_bytes: Amount | None
    peak_bytes: Amount
    upper_bytes: Amount
    interval_95: tuple[int, int] | None
    source: str
    observations: Amount


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run of a scenario.

    Attributes:
        mode: ``simulate`` (virtual time) or ``run`` (real).
        scenario: its name.
        started_at: RFC 3339 in UTC; None where nobody looked at a clock.
        machine: where it ran; None where that changes nothing (a simulation).
        duration_ns: the scenario's time that passed.
        partial: it was interrupted: everything is up to then.
        loads: loads that ended well.
        failed_loads: loads that did not.
        hits: requests that were given a copy that was loaded already.
        evictions: copies that went to make room or for an isolated measurement.
        oom_events: times that memory ran out on a device: a load failed or a running copy died.
        reload_cost_ns: the time of all loads that ended well, the first of a model included.
        first_load_cost_ns: of that, the time of each model's first load.
        decisions: how many the scheduler took.
        decisions_sha256: ``sha256:`` and the hash of the decision log's bytes.
        learned: what the estimator learned, by model; preloaded figures are not in it.
        evictions_trace: every eviction explained, or the decision log that has them all; None where
            there were too many to keep and no log was written.
    """

    KIND: ClassVar[str] = "modelmgr.result"
    SCHEMA_VERSION: ClassVar[int] = 1

    mode: Mode
    scenario: str
    seed: int
    policy: str
    started_at: str | None
    tool: ToolInfo
    machine: MachineInfo | None
    duration_ns: Amount
    requests: RequestCounts
    loads: Amount
    hits: Amount
    evictions: Amount
    oom_events: Amount
    reload_cost_ns: Amount
    wait_ns: DurationFigures | None
    latency_ns: DurationFigures | None
    devices: dict[str, DeviceUse]
    models: dict[str, ModelUse]
    decisions_sha256: str
    partial: bool = False
    failed_loads: Amount = 0
    first_load_cost_ns: Amount = 0
    decisions: Amount = 0
    bound: Bound | None = None
    learned: dict[str, LearnedCost] = msgspec.field(default_factory=dict[str, LearnedCost])
    evictions_trace: tuple[Eviction, ...] | str | None = None
    schema_version: int = SCHEMA_VERSION
    kind: str = KIND

    @classmethod
    def load(cls, path: str | Path) -> Result:
        """Read a result from a file; InputError says what is wrong with it and where."""
        from modelmgr.records.result_codec import load_result  # noqa: PLC0415 - it imports this

        return load_result(path)

    def save(self, path: str | Path) -> None:
        """Write the result to a file, atomically; UsageError where that is not possible."""
        from modelmgr.records.result_codec import save_result  # noqa: PLC0415 - it imports this

        save_result(self, path)
