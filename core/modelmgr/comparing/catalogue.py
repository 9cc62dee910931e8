"""Every figure that can be compared and gated, by its name, for each kind of file.

Owns the names that people write behind ``--fail-on``, what each is counted in, which direction is
the bad one, and the limits that hold where nobody gave any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from modelmgr.comparing.limits import Unit
from modelmgr.records.costs import CostDatabase
from modelmgr.records.result import Result

Compared = Literal["costs", "result"]
Nature = Literal["memory", "time", "count"]
Good = Literal["lower", "higher", "neither"]

DECISIONS = "decisions"
"""The decision logs as a whole: equal or not, there is no limit between."""

KINDS: Mapping[Compared, str] = {"costs": CostDatabase.KIND, "result": Result.KIND}


@dataclass(frozen=True, slots=True)
class Known:
    """One figure that can be gated.

    Attributes:
        name: as people write it; of a shape, a device or a model without saying of which.
        unit: of its values and limits.
        nature: what another machine or noise does to it.
        good: the direction of a better value; ``neither`` where any move is only a move.
        told_above: it is told, and not judged, where it moves by more than this.
    """

    name: str
    unit: Unit
    nature: Nature
    good: Good = "lower"
    told_above: str = "5%"


def _memory(*names: str, told_above: str = "5%+256KiB") -> list[Known]:
    return [Known(name, "bytes", "memory", told_above=told_above) for name in names]


def _times(*names: str, statistics: Iterable[str], told_above: str) -> list[Known]:
    return [
        Known(f"{name}{statistic}", "ns", "time", told_above=told_above)
        for name in names
        for statistic in statistics
    ]


def _counts(*names: str, good: Good = "lower") -> list[Known]:
    return [Known(name, "count", "count", good) for name in names]


MEASURED_STATISTICS = ("", ".median", ".p95", ".min", ".max")
RUN_STATISTICS = ("", ".mean", ".median", ".p95", ".p99", ".min", ".max")

_COSTS = (
    *_memory("peak_bytes", "resident_bytes", "load_peak_bytes", "copies.second_copy_bytes"),
    *_memory("shapes.activation_bytes", "unload.residue_bytes", "initial_estimate_bytes"),
    *_memory(
        *(f"ledger.{line}_bytes" for line in ("runtime", "weights", "activation", "cache")),
        "ledger.unaccounted_bytes",
        told_above="10%+1MiB",
    ),
    *_times("shapes.latency_ns", statistics=MEASURED_STATISTICS, told_above="10%+20us"),
    *_times("load_ns", "unload.reclaim_ns", statistics=MEASURED_STATISTICS, told_above="25%+10ms"),
)
_REQUESTS = ("timed_out", "refused", "failed", "cancelled")
_RESULT = (
    *_counts("requests.total", good="neither"),
    *_counts("requests.completed", good="higher"),
    *_counts(*(f"requests.{name}" for name in _REQUESTS)),
    *_counts("loads", "failed_loads", "evictions", "oom_events"),
    *_counts("hits", good="higher"),
    *_times("reload_cost_ns", "first_load_cost_ns", statistics=("",), told_above="1%"),
    Known("bound.ratio", "ratio", "count", told_above="1%"),
    *_times("wait_ns", "latency_ns", statistics=RUN_STATISTICS, told_above="5%"),
    *_memory("devices.peak_bytes", "devices.mean_bytes"),
    *_counts("models.requests", good="neither"),
    *_counts("models.loads", "models.evictions"),
    *_counts("models.hits", good="higher"),
    *_times("models.wait_ns", statistics=RUN_STATISTICS, told_above="5%"),
)

CATALOGUE: Mapping[Compared, Mapping[str, Known]] = {
    "costs": {known.name: known for known in _COSTS},
    "result": {known.name: known for known in _RESULT},
}

DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "costs": {
        "peak_bytes": "5%+256KiB",
        "resident_bytes": "5%+256KiB",
        "load_peak_bytes": "10%+256KiB",
        "copies.second_copy_bytes": "5%+256KiB",
        "shapes.activation_bytes": "5%+256KiB",
        "unload.residue_bytes": "1MiB",
        "shapes.latency_ns": "10%+20us",
        "load_ns": "25%+10ms",
    },
    "simulate": {
        "requests.timed_out": "0",
        "requests.refused": "0",
        "requests.failed": "0",
        "oom_events": "0",
        "failed_loads": "0",
        "reload_cost_ns": "1%",
        "wait_ns.mean": "5%",
        "wait_ns.p95": "5%",
        "latency_ns.mean": "5%",
        "latency_ns.p95": "5%",
        "devices.peak_bytes": "5%",
    },
    "run": {
        "requests.refused": "0",
        "requests.failed": "0",
        "oom_events": "0",
        "failed_loads": "0",
        "wait_ns.median": "25%+5ms",
        "latency_ns.median": "25%+5ms",
    },
}
"""What fails where no threshold is given: by ``costs``, or a result's mode."""

# What a second run of the same thing never changes, whatever the clock does.
FACTS = frozenset({"requests.refused", "requests.failed", "oom_events", "failed_loads"})


def full_name(name: str, compared: Compared) -> str | None:
    """Return a known figure's name, given it or the end of exactly one; None where there is none.

    ``latency_ns`` means ``shapes.latency_ns`` in a cost database.
    """
    known = CATALOGUE[compared]
    if name in known:
        return name
    ends = [each for each in known if each.endswith(f".{name}")]
    return ends[0] if len(ends) == 1 else None
