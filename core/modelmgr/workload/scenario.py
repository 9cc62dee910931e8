"""A scenario: devices, manager settings, models, traffic and faults, as validated plain data.

What ``workload.scenario_reader`` makes of a YAML file and what ``simulation`` and ``modelmgr run``
drive. Everything is in bytes and nanoseconds; nothing here reads a file, draws a number or decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from modelmgr.workload.model_spec import ModelSpec

DeviceKind = Literal["virtual", "cuda", "host"]
DistributionKind = Literal["constant", "exponential", "gamma", "lognormal", "uniform", "empirical"]
ArrivalPattern = Literal["constant", "poisson", "gamma", "closed", "burst", "diurnal"]
FaultKind = Literal[
    "worker-killed",
    "holder-lost",
    "load-failed",
    "load-hangs",
    "out-of-memory",
    "late-free",
    "reading-failed",
    "reading-wrong",
    "foreign-memory",
    "device-lost",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """How long something takes.

    Attributes:
        kind: of distribution; ``empirical`` draws from ``samples_ns``.
        mean_ns: its mean, 0 or more.
        cv: coefficient of variation (standard deviation over mean) of gamma and lognormal; of
            uniform, whose half-width is ``cv * sqrt(3) * mean``, at most ``1 / sqrt(3)``.
        samples_ns: what empirical draws from, each equally likely.
    """

    kind: DistributionKind
    mean_ns: int
    cv: float = 1.0
    samples_ns: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioDevice:
    """One device: ``limit_bytes`` is what the manager may use, slack taken off."""

    name: str
    kind: DeviceKind
    total_bytes: int
    slack: float

    @property
    def limit_bytes(self) -> int:
        """What may be used at most."""
        return self.total_bytes - round(self.total_bytes * self.slack)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerOptions:
    """The manager's settings; ``policy`` is a name that ``find_policy`` knows."""

    policy: str = "queue-value"
    isolation: Literal["exclusive", "beside"] = "beside"
    max_bypass: int = 8
    min_copies: int = 1
    max_copies: int | None = None
    cooldown_ns: int = 10_000_000_000
    wait_timeout_ns: int | None = 300_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioCost:
    """What a model truly takes.

    Attributes:
        resident_bytes: loaded and idle.
        peak_bytes: loaded and running.
        load_peak_bytes: while it loads, None for no more than ``peak_bytes``.
        load: how long a load takes.
        unload: how long an unload takes until the memory is back.
        service: how long a request holds a copy.
        service_by_shape: the same by shape, where a trace or a mix names shapes; keys are
            ``(("batch_size", 4), ("sequence_length", 128))``, sorted by name.
        per_input_token_ns: what each input token of a trace's row adds to ``service``.
        per_output_token_ns: the same for each output token.
    """

    resident_bytes: int
    peak_bytes: int
    load: Distribution
    service: Distribution
    load_peak_bytes: int | None = None
    unload: Distribution = field(default_factory=lambda: Distribution(kind="constant", mean_ns=0))
    service_by_shape: Mapping[tuple[tuple[str, int], ...], Distribution] = field(
        default_factory=dict[tuple[tuple[str, int], ...], Distribution]
    )
    per_input_token_ns: int = 0
    per_output_token_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BelievedCost:
    """What the manager is told of a model beforehand."""

    resident_bytes: int
    peak_bytes: int
    load_peak_bytes: int | None = None
    load_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioModel:
    """One model of a scenario.

    Attributes:
        tag: unique.
        cost: what it truly takes, inline or from a cost database; ``run`` needs none for a model
            that it can load, ``simulate`` always needs one.
        believed: what the manager preloads; None where it is to measure the model itself
            (``known: false``). By default the truth, its upper figure.
        spec: how ``run`` loads it; None gives a synthetic model of the stated size.
        pinned: its copies are never evicted.
        priority: of its requests, lower is served first.
    """

    tag: str
    cost: ScenarioCost | None
    believed: BelievedCost | None
    spec: ModelSpec | None = None
    pinned: bool = False
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """When requests come.

    Attributes:
        pattern: ``constant``, ``poisson``, ``gamma`` (intervals of that ``cv``), ``closed``
            (``concurrency`` users, each asks again ``think`` after it was served), ``burst``
            (``rate_per_s`` and, for ``burst_ns`` of every ``period_ns``, ``burst_rate_per_s``),
            ``diurnal`` (Poisson whose rate is a sine of ``period_ns`` around ``rate_per_s`` with
            relative ``amplitude``).
    """

    pattern: ArrivalPattern
    rate_per_s: float = 0.0
    cv: float = 1.0
    concurrency: int = 0
    think: Distribution | None = None
    burst_rate_per_s: float = 0.0
    burst_ns: int = 0
    period_ns: int = 0
    amplitude: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MixPhase:
    """Generated traffic: a weighted mix of models.

    Attributes:
        mix: ``(tag, weight)`` in the file's order, at least one weight above 0.
        arrivals: when requests come; the rate is that of the whole mix.
        duration_ns: how long.
        start_ns: when it begins; None for when the phase before it ends.
        shapes: by tag, ``(shape, weight)`` where requests name shapes.
    """

    mix: tuple[tuple[str, float], ...]
    arrivals: Arrivals
    duration_ns: int
    start_ns: int | None = None
    shapes: Mapping[str, tuple[tuple[tuple[tuple[str, int], ...], float], ...]] = field(
        default_factory=dict[str, tuple[tuple[tuple[tuple[str, int], ...], float], ...]]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TracePhase:
    """Recorded traffic, streamed from a file.

    Attributes:
        path: CSV, CSV.gz, JSONL or JSONL.gz.
        columns: our names (``t_s``, ``model``, ``duration_s``, ``input_tokens``,
            ``output_tokens``) to the file's.
        speedup: time in the file over time here.
        from_ns: only rows at or after this time of the file.
        until_ns: only rows before this time of the file, None for all.
        top_models: keep only so many most frequent models, None for all.
        model: what every row asks for, whatever the file says.
        start_ns: when it begins; None for when the phase before it ends.
    """

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    speedup: float = 1.0
    from_ns: int = 0
    until_ns: int | None = None
    top_models: int | None = None
    model: str | None = None
    start_ns: int | None = None


Phase = MixPhase | TracePhase


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong, once at a time or again and again at a rate.

    Attributes:
        kind: what.
        at_ns: when, None where it comes at a rate.
        rate_per_s: Poisson rate, None where it comes once.
        until_ns: when a rate ends, None for never.
        model: whose copy, None for any.
        device: which device, None for the first that applies.
        duration_ns: how long it lasts (a hang, late freeing, failing readings, foreign memory).
        size_bytes: how much (foreign memory, a wrong reading's error).
    """

    kind: FaultKind
    at_ns: int | None = None
    rate_per_s: float | None = None
    until_ns: int | None = None
    model: str | None = None
    device: str | None = None
    duration_ns: int | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A whole scenario.

    Phases without a start follow one another; one with a start begins a line of its own.
    """

    name: str
    seed: int
    devices: tuple[ScenarioDevice, ...]
    manager: ManagerOptions
    models: tuple[ScenarioModel, ...]
    workload: tuple[Phase, ...]
    faults: tuple[Fault, ...] = ()

    def model(self, tag: str) -> ScenarioModel:
        """Return a model by its tag; KeyError where there is none."""
        for model in self.models:
            if model.tag == tag:
                return model
        raise KeyError(tag)

    @property
    def traffic_ends_ns(self) -> int | None:
        """When the last phase ends; None where only a trace knows."""
        ends_ns = now_ns = 0
        for phase in self.workload:
            if not isinstance(phase, MixPhase):
                return None
            now_ns = (now_ns if phase.start_ns is None else phase.start_ns) + phase.duration_ns
            ends_ns = max(ends_ns, now_ns)
        return ends_ns


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the traffic.

    Attributes:
        at_ns: when it is scheduled to come.
        tag: the model.
        service_ns: how long it holds a copy where the trace says so; None draws from the model.
        shape: which shape it has, None for no particular one.
        user: the closed loop's user that waits for it, None where nobody does.
    """

    at_ns: int
    tag: str
    service_ns: int | None = None
    shape: tuple[tuple[str, int], ...] | None = None
    user: int | None = None
