"""Any cost database that may stand in a file, for property tests."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import strategies as st

from modelmgr.records.costs import (
    Copies,
    CostDatabase,
    CostError,
    DeviceInfo,
    Eviction,
    EvictionCandidate,
    Ledger,
    MachineInfo,
    ModelCost,
    RunInfo,
    ShapeCost,
    ToolInfo,
    Unload,
)
from modelmgr.records.measured import MeasuredBytes, MeasuredDuration

_BIG = 2**63 - 1
# Any Unicode text but lone surrogates, which no file can hold.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SIZES = st.integers(-_BIG, _BIG)
COUNTS = st.integers(0, _BIG)
FIGURES = ("activation_bytes", "latency_ns", "throughput_per_s")


@st.composite
def intervals(draw: st.DrawFn) -> tuple[int, int]:
    low, high = sorted((draw(SIZES), draw(SIZES)))
    return low, high


@st.composite
def measured_bytes(draw: st.DrawFn) -> MeasuredBytes:
    samples = tuple(draw(st.lists(COUNTS, max_size=3)))
    return MeasuredBytes(
        value=draw(st.integers(min(samples), max(samples)) if samples else COUNTS),
        evidence=draw(st.sampled_from(["exact", "sampled", "estimated"])),
        interval_95=draw(st.none() | intervals()),
        samples=samples,
    )


@st.composite
def measured_durations(draw: st.DrawFn) -> MeasuredDuration:
    low, middle, high = sorted(draw(st.lists(COUNTS, min_size=3, max_size=3)))
    return MeasuredDuration(
        median=middle,
        p95=draw(st.none() | COUNTS),
        min=low,
        max=high,
        samples=draw(st.permutations([low, middle, high]).map(tuple) | st.just(())),
    )


@st.composite
def shape_costs(draw: st.DrawFn) -> ShapeCost:
    names = TEXTS.filter(lambda name: name not in FIGURES)
    return ShapeCost(
        dims=draw(st.dictionaries(names, st.integers(1, _BIG), max_size=3)),
        activation_bytes=draw(st.none() | measured_bytes()),
        latency_ns=draw(st.none() | measured_durations()),
        throughput_per_s=draw(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
    )


@st.composite
def model_costs(draw: st.DrawFn) -> ModelCost:
    error = draw(st.none() | st.builds(CostError, kind=TEXTS, message=TEXTS))
    estimates = st.integers(1, _BIG)
    line = st.none() | SIZES
    return ModelCost(
        initial_estimate_bytes=draw(estimates if error is None else st.none() | estimates),
        resident_bytes=draw(st.none() | measured_bytes()),
        peak_bytes=draw(st.none() | measured_bytes()),
        load_peak_bytes=draw(st.none() | measured_bytes()),
        ledger=draw(
            st.none()
            | st.builds(
                Ledger,
                runtime_bytes=line,
                weights_bytes=line,
                activation_bytes=line,
                cache_bytes=line,
                unaccounted_bytes=st.none(),  # known, it would have to close the sum on the peak
            )
        ),
        copies=draw(st.none() | st.builds(Copies, second_copy_bytes=st.none() | measured_bytes())),
        shapes=tuple(draw(st.lists(shape_costs(), max_size=2))),
        load_ns=draw(st.none() | measured_durations()),
        unload=draw(
            st.none()
            | st.builds(Unload, reclaim_ns=st.none() | measured_durations(), residue_bytes=line)
        ),
        method=draw(st.sampled_from(["isolation", "aggregate"])),
        interval_95_bytes=draw(st.none() | intervals()),
        observations=draw(COUNTS),
        fingerprint=draw(st.none() | TEXTS),
        estimate=draw(st.none() | st.dictionaries(TEXTS, st.none() | SIZES | TEXTS, max_size=2)),
        notes=tuple(draw(st.lists(TEXTS, max_size=2))),
        error=error,
    )


_EVICTIONS = st.builds(
    Eviction,
    at_ns=COUNTS,
    device=TEXTS,
    tag=TEXTS,
    copy=COUNTS,
    reason=TEXTS,
    requested_by=st.none() | TEXTS,
    freed_bytes=SIZES,
    candidates=st.lists(
        st.builds(
            EvictionCandidate,
            tag=TEXTS,
            copy=COUNTS,
            value=st.floats(allow_nan=False, allow_infinity=False),
            size_bytes=SIZES,
        ),
        max_size=2,
    ).map(tuple),
    chosen=st.lists(COUNTS, max_size=2).map(tuple),
    instead=st.sampled_from([{}, {"lru": (1, 2)}, {"lru": (2,), "gdsf": ()}]),
)
_MACHINES = st.builds(
    MachineInfo,
    os=TEXTS,
    cpu=st.none() | TEXTS,
    python=TEXTS,
    packages=st.dictionaries(TEXTS, TEXTS, max_size=2),
    device=st.builds(
        DeviceInfo,
        kind=st.sampled_from(["host", "cuda"]),
        name=st.none() | TEXTS,
        total_bytes=st.none() | COUNTS,
        driver=st.none() | TEXTS,
    ),
)
_TIMES = st.datetimes(
    datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone itself
    timezones=st.just(UTC),
).map(lambda time: time.isoformat().replace("+00:00", "Z"))
# Few tags, so that databases overlap.
TAGS = st.sampled_from(["bert", "gpt2", "vit"]) | TEXTS

DATABASES = st.builds(
    CostDatabase,
    created_at=_TIMES,
    tool=st.builds(ToolInfo, name=TEXTS, version=TEXTS),
    machine=_MACHINES,
    models=st.dictionaries(TAGS, model_costs(), max_size=3),
    evictions=st.lists(_EVICTIONS, max_size=2).map(tuple),
    runs=st.lists(
        st.builds(
            RunInfo,
            command=TEXTS,
            scenario=st.none() | TEXTS,
            seed=st.none() | SIZES,
            started_at=_TIMES,
        ),
        max_size=2,
    ).map(tuple),
)
