"""A scenario as people write it: the types that its reader checks and its JSON Schema shows.

``scenario_reader`` and its neighbours turn these into ``scenario``'s plain data; nothing here reads
a file. What a model, a phase or an arrival pattern may say depends on what it is, so each kind has
a struct of its own and a key of another kind is an unknown one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol, get_args

import msgspec
from msgspec import Meta, field

from modelmgr.workload.model_entries import (
    AnyEntry,
    Bytes,
    DimensionName,
    Duration,
    ModelEntry,
    Size,
    Tag,
)
from modelmgr.workload.scenario import DeviceKind, FaultKind

SCHEMA_VERSION = 1
MAX_SEED = 2**63 - 1

Rate = Annotated[
    str,
    Meta(
        description="a rate with its unit of time such as '5/s'",
        examples=["5/s"],
        # Only for editors: `units.parse_rate_per_s` is what checks it, with better words.
        extra_json_schema={
            "pattern": r"^\s*\+?[0-9.]+([eE][+-]?[0-9]+)?\s*/\s*([nuµmNUM]?[sS]|min|h|d)\s*$"
        },
    ),
]
Share = (
    Annotated[
        str,
        Meta(
            description="a share such as '10%'",
            examples=["10%"],
            extra_json_schema={"pattern": r"^\s*[0-9.]+\s*%?\s*$"},
        ),
    ]
    | Annotated[float, Meta(ge=0, le=1)]
)
Weight = Annotated[float, Meta(ge=0, le=1e9, description="a number of at least 0")]
Cv = Annotated[float, Meta(ge=0, le=100, description="a number from 0 to 100")]
Count = Annotated[int, Meta(ge=1, le=10_000, description="a whole number from 1 to 10000")]
Path = Annotated[str, Meta(min_length=1, description="a path, from the scenario's folder")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]


class _Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what stands in a scenario."""


class DeviceEntry(_Written, frozen=True, kw_only=True):
    """One device; without ``memory`` a real one has what the machine has."""

    name: Name
    kind: DeviceKind = "virtual"
    memory: Bytes | None = None
    slack: Share = "10%"


class ManagerEntry(_Written, frozen=True, kw_only=True):
    """The manager's settings; ``wait_timeout: null`` waits for ever."""

    policy: Name = "queue-value"
    isolation: Literal["exclusive", "beside"] = "beside"
    max_bypass: Annotated[int, Meta(ge=0)] = 8
    min_copies: Annotated[int, Meta(ge=0)] = 1
    max_copies: Annotated[int, Meta(ge=1)] | None = None
    eviction_cooldown: Duration = "10 s"
    wait_timeout: Duration | None = "300 s"


class DistributionEntry(_Written, frozen=True, kw_only=True):
    """How long something takes, when that is not always the same."""

    distribution: Literal["constant", "exponential", "gamma", "lognormal", "uniform", "empirical"]
    mean: Duration | None = None
    cv: Cv | None = None
    samples: Annotated[list[Duration], Meta(min_length=1)] | None = None


Time = Duration | DistributionEntry


class CostEntry(_Written, frozen=True, kw_only=True):
    """What a model truly takes."""

    resident: Bytes
    peak: Bytes
    load: Time
    service: Time
    load_peak: Bytes | None = None
    unload: Time = "0 s"
    service_per_input_token: Duration | None = None
    service_per_output_token: Duration | None = None


class BelievedEntry(_Written, frozen=True, kw_only=True):
    """What the manager is told beforehand, where that is not the truth."""

    resident: Bytes
    peak: Bytes
    load_peak: Bytes | None = None
    load: Duration | None = None


class ScenarioKeys(Protocol):
    """What every model of a scenario may say, whatever loads it."""

    tag: str
    cost: CostEntry | None
    costs: str | None
    known: bool
    believed: BelievedEntry | None
    pinned: bool
    priority: int


_Priority = Annotated[int, Meta(ge=-1_000_000, le=1_000_000)]


class StandInEntry(_Written, frozen=True, kw_only=True):
    """A model without a loader: simulated, or in a real run a stand-in of its size and times."""

    tag: Tag
    cost: CostEntry | None = None
    costs: Path | None = None
    known: bool = True
    believed: BelievedEntry | None = None
    pinned: bool = False
    priority: _Priority = 0


def _with_loader(entry: type[ModelEntry]) -> Any:  # noqa: ANN401 - a type made at run time
    """Return a model list's entry with a scenario's keys on top."""
    return msgspec.defstruct(
        f"Scenario{entry.__name__}",
        [
            ("cost", CostEntry | None, None),
            ("costs", Path | None, None),
            ("known", bool, True),
            ("believed", BelievedEntry | None, None),
            ("pinned", bool, False),
            ("priority", _Priority, 0),
        ],
        bases=(entry,),
        namespace={"__doc__": entry.__doc__},
        tag_field="loader",
        tag=entry.__struct_config__.tag,
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )


def _union(kinds: Sequence[Any]) -> Any:  # noqa: ANN401 - a type made at run time
    union = kinds[0]
    for kind in kinds[1:]:
        union |= kind
    return union


LOADED_ENTRIES: tuple[Any, ...] = tuple(_with_loader(entry) for entry in get_args(AnyEntry))
"""One struct a loader: its keys of a model list, and those of ``ScenarioKeys``."""
AnyLoadedEntry: Any = _union(LOADED_ENTRIES)
"""Whichever of them the key ``loader`` says."""


class _Arrivals(_Written, frozen=True, kw_only=True, tag_field="pattern"):
    """Base of the arrival patterns."""


class ConstantArrivals(_Arrivals, frozen=True, kw_only=True, tag="constant"):
    """Equal intervals."""

    rate: Rate


class PoissonArrivals(_Arrivals, frozen=True, kw_only=True, tag="poisson"):
    """Requests that know nothing of each other."""

    rate: Rate


class GammaArrivals(_Arrivals, frozen=True, kw_only=True, tag="gamma"):
    """Intervals with a coefficient of variation: 1 is poisson, more is burstier."""

    rate: Rate
    cv: Cv


class ClosedArrivals(_Arrivals, frozen=True, kw_only=True, tag="closed"):
    """So many users; each asks again after it was served and has thought."""

    concurrency: Count
    think: Time | None = None


class BurstArrivals(_Arrivals, frozen=True, kw_only=True, tag="burst"):
    """Poisson at ``rate``, but at ``burst_rate`` for the first ``burst`` of each ``period``."""

    rate: Rate
    burst_rate: Rate
    burst: Duration
    period: Duration


class DiurnalArrivals(_Arrivals, frozen=True, kw_only=True, tag="diurnal"):
    """Poisson whose rate is a sine around ``rate``: up first, then down, by ``amplitude``."""

    rate: Rate
    amplitude: Share
    period: Duration = "24 h"


AnyArrivals = (
    ConstantArrivals
    | PoissonArrivals
    | GammaArrivals
    | ClosedArrivals
    | BurstArrivals
    | DiurnalArrivals
)


class ShapeEntry(_Written, frozen=True, kw_only=True):
    """A shape that requests of a model have, this often in proportion."""

    shape: Annotated[dict[DimensionName, Size], Meta(min_length=1)]
    weight: Weight = 1.0


class MixEntry(_Written, frozen=True, kw_only=True):
    """Generated traffic: models by weight."""

    mix: Annotated[dict[Tag, Weight], Meta(min_length=1)]
    arrivals: AnyArrivals
    duration: Duration
    start: Duration | None = None
    shapes: dict[Tag, Annotated[list[ShapeEntry], Meta(min_length=1)]] = {}


class ColumnsEntry(_Written, frozen=True, kw_only=True):
    """What the file calls our columns, where it calls them otherwise."""

    t_s: Name | None = None
    model: Name | None = None
    duration_s: Name | None = None
    input_tokens: Name | None = None
    output_tokens: Name | None = None


class TraceEntry(_Written, frozen=True, kw_only=True):
    """Recorded traffic: CSV or JSON lines, plain or gzip."""

    trace: Path
    columns: ColumnsEntry = ColumnsEntry()
    speedup: Annotated[float, Meta(gt=0, le=1e9, description="a number above 0")] = 1.0
    from_: Duration = field(name="from", default="0 s")
    until: Duration | None = None
    top: Annotated[int, Meta(ge=1)] | None = None
    model: Tag | None = None
    start: Duration | None = None


class FaultEntry(_Written, frozen=True, kw_only=True):
    """Something that goes wrong: once (``at``), or again and again (``rate``)."""

    kind: FaultKind
    at: Duration | None = None
    rate: Rate | None = None
    until: Duration | None = None
    model: Tag | None = None
    device: Name | None = None
    duration: Duration | None = None
    memory: Bytes | None = None


class ScenarioFile(_Written, frozen=True, kw_only=True):
    """A scenario: devices, settings, models, traffic and faults (``simulate`` and ``run``).

    ``models`` and ``workload`` are read item by item: which keys one may have, another of its keys
    decides (``loader``; ``mix`` or ``trace``).
    """

    schema_version: int
    name: Name
    devices: Annotated[list[DeviceEntry], Meta(min_length=1)]
    models: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    workload: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED)] = 1
    manager: ManagerEntry = ManagerEntry()
    faults: list[FaultEntry] = []
