"""What a scenario's models truly take: written inline, or from a cost database.

Owns the way from both to ``ScenarioCost`` and to what a manager would be told by default. Which
model takes which of the two is ``scenario_models``' work.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelmgr.errors import InputError
from modelmgr.records.costs import CostDatabase, ModelCost
from modelmgr.records.measured import MeasuredDuration
from modelmgr.records.validation import nearest
from modelmgr.workload.distributions import MAX_UNIFORM_CV
from modelmgr.workload.places import At
from modelmgr.workload.scenario import BelievedCost, Distribution, ScenarioCost
from modelmgr.workload.scenario_entries import CostEntry, DistributionEntry, Time
from modelmgr.workload.service import Shape

_WITH_CV = ("gamma", "lognormal", "uniform")


def inline_cost(at: At, written: CostEntry) -> ScenarioCost:
    """Return a cost that stands in the scenario itself.

    Raises:
        InputError: a size is 0, or they contradict each other.
    """
    resident, peak, load_peak = read_sizes(at, written.resident, written.peak, written.load_peak)
    return ScenarioCost(
        resident_bytes=resident,
        peak_bytes=peak,
        load_peak_bytes=load_peak,
        load=read_time(at / "load", written.load),
        unload=read_time(at / "unload", written.unload),
        service=read_time(at / "service", written.service),
        per_input_token_ns=(at / "service_per_input_token").duration_ns(
            written.service_per_input_token
        )
        or 0,
        per_output_token_ns=(at / "service_per_output_token").duration_ns(
            written.service_per_output_token
        )
        or 0,
    )


def read_sizes(
    at: At, resident: str, peak: str, load_peak: str | None
) -> tuple[int, int, int | None]:
    """Return a model's three sizes; refuse 0, and a peak below what it is a peak of."""
    resident_bytes = (at / "resident").positive_bytes(resident)
    peak_bytes = (at / "peak").positive_bytes(peak)
    load_peak_bytes = (at / "load_peak").bytes(load_peak)
    for key, value, text in (("peak", peak_bytes, peak), ("load_peak", load_peak_bytes, load_peak)):
        if value is not None and value < resident_bytes:
            raise (at / key).error(
                f"{(at / key).name} ({text}) is below resident ({resident})",
                hint="a peak includes what stays resident",
            )
    return resident_bytes, peak_bytes, load_peak_bytes


def read_time(at: At, written: Time) -> Distribution:
    """Return how long something takes: always the same, or a distribution.

    Raises:
        InputError: a distribution lacks what it needs, or has what it has no use for.
    """
    if isinstance(written, str):
        return Distribution(kind="constant", mean_ns=at.duration_ns(written))
    kind = written.distribution
    if kind == "empirical":
        return _empirical(at, written)
    if written.samples is not None:
        raise (at / "samples").wrong("only the empirical distribution has samples")
    if written.mean is None:
        raise at.wrong(f"the {kind} distribution has no 'mean'", hint="add 'mean: 35 ms'")
    mean_ns = (at / "mean").duration_ns(written.mean)
    if kind not in _WITH_CV:
        if written.cv is not None:
            raise (at / "cv").wrong(
                f"the {kind} distribution has no cv to set", hint=f"with one: {', '.join(_WITH_CV)}"
            )
        return Distribution(kind=kind, mean_ns=mean_ns)
    if written.cv is None:
        raise at.wrong(
            f"the {kind} distribution has no 'cv'",
            hint="add the coefficient of variation, for example 'cv: 0.5'",
        )
    if kind == "uniform" and written.cv > MAX_UNIFORM_CV:
        raise (at / "cv").wrong(
            f"a uniform distribution has a cv of at most {MAX_UNIFORM_CV:.4f}, not {written.cv:g}",
            hint="with a larger one it would have negative durations",
        )
    return Distribution(kind=kind, mean_ns=mean_ns, cv=written.cv)


def _empirical(at: At, written: DistributionEntry) -> Distribution:
    for key in ("mean", "cv"):
        if getattr(written, key) is not None:
            raise (at / key).wrong("the empirical distribution has only samples")
    if written.samples is None:
        raise at.wrong(
            "the empirical distribution has no 'samples'", hint="add 'samples: [10 ms, 12 ms]'"
        )
    samples = [(at / "samples" / i).duration_ns(text) for i, text in enumerate(written.samples)]
    return _of_samples(samples)


def _of_samples(samples: Sequence[int]) -> Distribution:
    if len(set(samples)) == 1:
        return Distribution(kind="constant", mean_ns=samples[0])
    mean_ns = round(sum(samples) / len(samples))
    return Distribution(kind="empirical", mean_ns=mean_ns, samples_ns=tuple(samples))


def synthetic_cost(options: dict[str, Any], largest_batch: int) -> ScenarioCost:
    """Return what a model of the ``synthetic`` loader takes: its options say it."""
    resident: int = options["resident_bytes"]
    return ScenarioCost(
        resident_bytes=resident,
        peak_bytes=resident + options["activation_bytes"] * largest_batch,
        load_peak_bytes=options["load_peak_bytes"],
        load=Distribution(kind="constant", mean_ns=options["load_ns"]),
        service=Distribution(kind="constant", mean_ns=options["service_ns"]),
    )


def true_belief(cost: ScenarioCost) -> BelievedCost:
    """Return what a manager would be told that knows the truth."""
    return BelievedCost(
        resident_bytes=cost.resident_bytes,
        peak_bytes=cost.peak_bytes,
        load_peak_bytes=cost.load_peak_bytes,
        load_ns=cost.load.mean_ns,
    )


class CostFiles:
    """The cost databases that a scenario names, each read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, CostDatabase] = {}

    def cost(self, at: At, written: str, tag: str) -> tuple[ScenarioCost, BelievedCost]:
        """Return what a database says a model takes, and what a manager would preload of it.

        A request of a shape takes one of the latencies measured of that shape, each equally likely;
        one of no particular shape takes any of the measured ones.

        Raises:
            InputError: no such file, no such model in it, or figures are missing.
        """
        model = self._model(at, written, tag)
        if model.initial_estimate_bytes is None or model.error is not None:
            reason = "no figures" if model.error is None else model.error.message.partition("\n")[0]
            raise at.wrong(
                f"{written} has no usable cost of {tag!r}: {reason}",
                hint="measure it again with 'modelmgr profile', or write its 'cost' here",
            )
        upper = model.initial_estimate_bytes
        resident = upper if model.resident_bytes is None else model.resident_bytes.value
        peak = upper if model.peak_bytes is None else model.peak_bytes.value
        load_peak = None if model.load_peak_bytes is None else model.load_peak_bytes.value
        load = _measured(model.load_ns)
        by_shape: dict[Shape, Distribution] = {}
        every: list[int] = []
        for shape in model.shapes:
            if shape.latency_ns is not None:
                samples = shape.latency_ns.samples or (shape.latency_ns.median,)
                by_shape[tuple(sorted(shape.dims.items()))] = _of_samples(samples)
                every += samples
        if load is None or not every:
            missing = "load time" if load is None else "latency of any shape"
            raise at.wrong(
                f"{written} has no {missing} of {tag!r}",
                hint="measure it again with 'modelmgr profile', or write its 'cost' here",
            )
        reclaim = None if model.unload is None else _measured(model.unload.reclaim_ns)
        cost = ScenarioCost(
            resident_bytes=min(resident, peak),
            peak_bytes=peak,
            load_peak_bytes=load_peak,
            load=load,
            unload=reclaim or Distribution(kind="constant", mean_ns=0),
            service=_of_samples(every),
            service_by_shape=by_shape,
        )
        belief = BelievedCost(
            resident_bytes=min(resident, upper),
            peak_bytes=upper,
            load_peak_bytes=load_peak,
            load_ns=None if model.load_ns is None else model.load_ns.median,
        )
        return cost, belief

    def _model(self, at: At, written: str, tag: str) -> ModelCost:
        path = self._folder / written
        database = self._read.get(path)
        if database is None:
            try:
                database = CostDatabase.load(path)
            except InputError as error:
                raise at.wrong(str(error).partition("\n")[0], hint=error.hint) from error
            self._read[path] = database
        model = database.models.get(tag)
        if model is None:
            raise at.wrong(
                f"{written} has no model {tag!r}",
                hint=nearest(tag, database.models) if database.models else "it has no models",
            )
        return model


def _measured(duration: MeasuredDuration | None) -> Distribution | None:
    if duration is None:
        return None
    return _of_samples(duration.samples or (duration.median,))
