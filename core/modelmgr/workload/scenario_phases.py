"""Read a scenario's traffic: phases of generated and of recorded requests."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from modelmgr.errors import InputError
from modelmgr.records.type_paths import keys_of
from modelmgr.records.validation import convert, nearest, shorten
from modelmgr.units import NS_PER_S
from modelmgr.workload.places import At
from modelmgr.workload.scenario import (
    Arrivals,
    MixPhase,
    Phase,
    ScenarioModel,
    TracePhase,
)
from modelmgr.workload.scenario_costs import read_time
from modelmgr.workload.scenario_entries import (
    AnyArrivals,
    BurstArrivals,
    ClosedArrivals,
    ConstantArrivals,
    DiurnalArrivals,
    GammaArrivals,
    MixEntry,
    ShapeEntry,
    TraceEntry,
)
from modelmgr.workload.service import Shape
from modelmgr.workload.traces import SUFFIXES, check_trace

_MAX_RATE_PER_S = 1e9  # one request a nanosecond
_MIN_RATE_PER_S = 1e-9  # one in thirty years
_LONGEST_NS = 100 * 365 * 86_400 * NS_PER_S
"""Of all phases together: beyond it, times would not fit into 64 bits."""


def read_phases(
    at: At, written: Sequence[dict[str, Any]], models: Sequence[ScenarioModel], folder: Path
) -> tuple[Phase, ...]:
    """Return the phases of a scenario, in its order.

    Args:
        at: where the list stands.
        written: its items, not yet checked.
        models: the scenario's.
        folder: what the paths of traces are relative to.

    Raises:
        InputError: naming the line; of a trace, the file.
    """
    by_tag = {model.tag: model for model in models}
    phases: list[Phase] = []
    for index, item in enumerate(written):
        place = at / index
        keys = keys_of(item)
        if "mix" in keys and "trace" in keys:
            raise (place / "trace").error(
                f"{place.name} has both 'mix' and 'trace'",
                hint="make two phases of them",
                on_key=True,
            )
        is_trace = "mix" not in keys and difflib.get_close_matches("trace", keys, n=1, cutoff=0.6)
        if is_trace:
            trace = convert(item, TraceEntry, place.document.error, base=place.path)
            phases.append(_trace(place, trace, by_tag, folder))
        else:
            mix = convert(item, MixEntry, place.document.error, base=place.path)
            phases.append(_mix(place, mix, by_tag))
    total_ns = 0
    for index, phase in enumerate(phases):
        total_ns += (phase.start_ns or 0) + (
            phase.duration_ns if isinstance(phase, MixPhase) else 0
        )
        if total_ns > _LONGEST_NS:
            key = "duration" if isinstance(phase, MixPhase) else "start"
            raise (at / index / key).wrong("the scenario is too long", hint="at most 100 years")
    return tuple(phases)


def check_tag(at: At, tag: str, by_tag: dict[str, ScenarioModel], *, on_key: bool = False) -> None:
    """Refuse the tag of a model that the scenario does not have."""
    if tag not in by_tag:
        raise at.error(
            f"there is no model {shorten(tag)!r}", hint=nearest(tag, by_tag), on_key=on_key
        )


def _mix(at: At, written: MixEntry, by_tag: dict[str, ScenarioModel]) -> MixPhase:
    for tag in written.mix:
        check_tag(at / "mix" / tag, tag, by_tag, on_key=True)
    if not any(written.mix.values()):
        raise (at / "mix").wrong("every weight is 0", hint="give at least one model a weight")
    if isinstance(written.arrivals, ClosedArrivals):
        _check_that_time_passes(at / "arrivals", written, by_tag)
    for tag in written.shapes:
        check_tag(at / "shapes" / tag, tag, by_tag, on_key=True)
        if tag not in written.mix:
            raise (at / "shapes" / tag).error(
                f"{(at / 'shapes').name}: {tag!r} is not in the mix",
                hint=nearest(tag, written.mix),
                on_key=True,
            )
    return MixPhase(
        mix=tuple((tag, float(weight)) for tag, weight in written.mix.items()),
        arrivals=_arrivals(at / "arrivals", written.arrivals),
        duration_ns=(at / "duration").positive_ns(written.duration),
        start_ns=(at / "start").duration_ns(written.start),
        shapes={
            tag: _shapes(at / "shapes" / tag, shapes, by_tag[tag])
            for tag, shapes in written.shapes.items()
        },
    )


def _check_that_time_passes(at: At, written: MixEntry, by_tag: dict[str, ScenarioModel]) -> None:
    """Refuse users who ask for ever in the same nanosecond."""
    think = written.arrivals.think if isinstance(written.arrivals, ClosedArrivals) else None
    if think is not None and read_time(at / "think", think).mean_ns > 0:
        return
    costs = [by_tag[tag].cost for tag, weight in written.mix.items() if weight]
    if all(
        cost is not None and not cost.service_by_shape and cost.service.mean_ns == 0
        for cost in costs
    ):
        raise at.error(
            f"{at.name}: its users neither think nor are served for any time, so none passes",
            hint="give them a 'think', or a model a 'service' of more than 0",
        )


def _shapes(
    at: At, written: Sequence[ShapeEntry], model: ScenarioModel
) -> tuple[tuple[Shape, float], ...]:
    measured = () if model.cost is None else tuple(model.cost.service_by_shape)
    found: list[tuple[Shape, float]] = []
    for index, entry in enumerate(written):
        shape = tuple(sorted(entry.shape.items()))
        if measured and shape not in measured:
            raise (at / index / "shape").wrong(
                f"{model.tag!r} was not measured in the shape {_words(shape)}",
                hint=f"measured: {'; '.join(_words(known) for known in measured)}",
            )
        found.append((shape, float(entry.weight)))
    if not any(weight for _, weight in found):
        raise at.wrong("every weight is 0", hint="give at least one shape a weight")
    return tuple(found)


def _words(shape: Shape) -> str:
    return ", ".join(f"{name} {size}" for name, size in shape)


def _arrivals(at: At, written: AnyArrivals) -> Arrivals:
    if isinstance(written, ClosedArrivals):
        think = None if written.think is None else read_time(at / "think", written.think)
        return Arrivals(pattern="closed", concurrency=written.concurrency, think=think)
    if isinstance(written, BurstArrivals):
        return _burst(at, written)
    rate = _rate(at / "rate", written.rate)
    if isinstance(written, GammaArrivals):
        return Arrivals(pattern="gamma", rate_per_s=rate, cv=written.cv)
    if isinstance(written, DiurnalArrivals):
        return Arrivals(
            pattern="diurnal",
            rate_per_s=rate,
            amplitude=(at / "amplitude").share(written.amplitude),
            period_ns=(at / "period").positive_ns(written.period),
        )
    return Arrivals(
        pattern="constant" if isinstance(written, ConstantArrivals) else "poisson", rate_per_s=rate
    )


def _burst(at: At, written: BurstArrivals) -> Arrivals:
    calm = (at / "rate").rate_per_s(written.rate)
    burst_ns = (at / "burst").positive_ns(written.burst)
    period_ns = (at / "period").positive_ns(written.period)
    if burst_ns > period_ns:
        raise (at / "burst").error(
            f"{(at / 'burst').name} ({written.burst}) is longer than its period ({written.period})"
        )
    return Arrivals(
        pattern="burst",
        rate_per_s=calm if calm == 0 else _rate(at / "rate", written.rate),  # silence is fine
        burst_rate_per_s=_rate(at / "burst_rate", written.burst_rate),
        burst_ns=burst_ns,
        period_ns=period_ns,
    )


def _rate(at: At, written: str) -> float:
    rate = at.positive_rate_per_s(written)
    if not _MIN_RATE_PER_S <= rate <= _MAX_RATE_PER_S:
        word = "small" if rate < 1 else "large"
        raise at.wrong(f"{written!r} is too {word}", hint="rates go from 1e-9/s to 1e9/s")
    return rate


def _trace(
    at: At, written: TraceEntry, by_tag: dict[str, ScenarioModel], folder: Path
) -> TracePhase:
    path = folder / written.trace
    if not written.trace.endswith(SUFFIXES):
        raise (at / "trace").wrong(
            f"{written.trace!r} is no kind of trace", hint=f"known: {', '.join(SUFFIXES)}"
        )
    if not path.is_file():
        raise (at / "trace").wrong(
            f"there is no file {written.trace!r}" + (" but a folder" if path.is_dir() else ""),
            hint="paths are relative to the scenario's folder",
        )
    from_ns = (at / "from").duration_ns(written.from_)
    until_ns = (at / "until").duration_ns(written.until)
    if until_ns is not None and until_ns <= from_ns:
        raise (at / "until").error(
            f"{(at / 'until').name} ({written.until}) is not after 'from' ({written.from_})"
        )
    if written.model is not None:
        check_tag(at / "model", written.model, by_tag)
        if written.columns.model is not None:
            raise (at / "columns" / "model").wrong("'model' names one model for every row already")
    columns = {
        ours: theirs
        for ours, theirs in msgspec.structs.asdict(written.columns).items()
        if theirs is not None
    }
    if not math.isfinite(written.speedup) or written.speedup < 1e-9:
        raise (at / "speedup").wrong(f"{written.speedup:g} is too small", hint="1 is real time")
    phase = TracePhase(
        path=path,
        columns=columns,
        speedup=float(written.speedup),
        from_ns=from_ns,
        until_ns=until_ns,
        top_models=written.top,
        model=written.model,
        start_ns=(at / "start").duration_ns(written.start),
    )
    try:
        check_trace(phase)
    except InputError as error:
        raise (at / "trace").wrong(str(error).partition("\n")[0], hint=error.hint) from error
    return phase
