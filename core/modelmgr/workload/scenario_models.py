"""Read a scenario's models: what they take, what the manager is told of them, what loads them."""

from __future__ import annotations

from typing import Any, cast

from modelmgr.records.type_paths import fields_of
from modelmgr.records.validation import convert
from modelmgr.workload.model_entries import AnyEntry, Defaults
from modelmgr.workload.model_list import model_spec
from modelmgr.workload.model_spec import ModelSpec
from modelmgr.workload.places import At
from modelmgr.workload.scenario import BelievedCost, ScenarioCost, ScenarioModel
from modelmgr.workload.scenario_costs import (
    CostFiles,
    inline_cost,
    read_sizes,
    synthetic_cost,
    true_belief,
)
from modelmgr.workload.scenario_entries import (
    AnyLoadedEntry,
    BelievedEntry,
    ScenarioKeys,
    StandInEntry,
)


def read_models(
    at: At, written: list[dict[str, Any]], files: CostFiles, *, simulated: bool
) -> tuple[ScenarioModel, ...]:
    """Return the models of a scenario, in its order.

    Args:
        at: where the list stands.
        written: its items, not yet checked.
        files: reads the cost databases that they name.
        simulated: refuse a model that only a real run can know the cost of.

    Raises:
        InputError: naming the line.
    """
    models: list[ScenarioModel] = []
    first: dict[str, int] = {}
    for index, item in enumerate(written):
        model = _read_model(at / index, item, files, simulated=simulated)
        earlier = first.setdefault(model.tag, index)
        if earlier != index:
            line = (at / earlier / "tag").line
            raise (at / index / "tag").error(
                f"the tag {model.tag!r} is taken by the model in line {line}",
                hint="give each model a tag of its own",
            )
        models.append(model)
    return tuple(models)


def _read_model(
    at: At, item: dict[str, Any], files: CostFiles, *, simulated: bool
) -> ScenarioModel:
    spec: ModelSpec | None = None
    entry: ScenarioKeys
    if "loader" in (fields_of(item) or {}):
        loaded = convert(item, AnyLoadedEntry, at.document.error, base=at.path)
        spec = model_spec(at.document, at.path, cast("AnyEntry", loaded), Defaults())
        entry = cast("ScenarioKeys", loaded)
    else:
        stand_in = convert(item, StandInEntry, at.document.error, base=at.path)
        entry = cast(
            "ScenarioKeys", stand_in
        )  # a protocol's attributes cannot be said to be frozen
    cost, belief = _cost(at, entry, spec, files)
    if cost is None and (simulated or spec is None):
        raise at.error(
            f"model {entry.tag!r} has neither 'cost' nor 'costs'",
            hint="write its sizes and times, or name a cost database that 'modelmgr profile' wrote",
        )
    if entry.believed is not None:
        if not entry.known:
            raise (at / "believed").wrong(
                "an unknown model ('known: false') is believed nothing of"
            )
        belief = _believed(at / "believed", entry.believed, belief)
    return ScenarioModel(
        tag=entry.tag,
        cost=cost,
        believed=belief if entry.known else None,
        spec=spec,
        pinned=entry.pinned,
        priority=entry.priority,
    )


def _cost(
    at: At, entry: ScenarioKeys, spec: ModelSpec | None, files: CostFiles
) -> tuple[ScenarioCost | None, BelievedCost | None]:
    if entry.cost is not None and entry.costs is not None:
        raise (at / "costs").error(
            f"model {entry.tag!r} has both 'cost' and 'costs'", hint="keep one", on_key=True
        )
    if entry.costs is not None:
        return files.cost(at / "costs", entry.costs, entry.tag)
    if entry.cost is not None:
        cost = inline_cost(at / "cost", entry.cost)
    elif spec is not None and spec.loader == "synthetic":
        cost = synthetic_cost(spec.options, max(spec.input.get("batch_size", (1,))))
    else:
        return None, None
    return cost, true_belief(cost)


def _believed(at: At, written: BelievedEntry, truth: BelievedCost | None) -> BelievedCost:
    resident, peak, load_peak = read_sizes(at, written.resident, written.peak, written.load_peak)
    load_ns = (at / "load").duration_ns(written.load)
    if load_ns is None and truth is not None:
        load_ns = truth.load_ns
    return BelievedCost(
        resident_bytes=resident, peak_bytes=peak, load_peak_bytes=load_peak, load_ns=load_ns
    )
