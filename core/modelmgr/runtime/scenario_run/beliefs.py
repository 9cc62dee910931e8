"""What a real run's manager is told beforehand: a scenario's beliefs as a cost database."""

from __future__ import annotations

import sys

from modelmgr._version import __version__
from modelmgr.records.costs import CostDatabase, DeviceInfo, MachineInfo, ModelCost, ToolInfo
from modelmgr.records.measured import MeasuredBytes, MeasuredDuration
from modelmgr.workload.scenario import BelievedCost, Scenario


def beliefs(scenario: Scenario) -> CostDatabase:
    """Return what the manager is told beforehand, as it is told in production."""
    models: dict[str, ModelCost] = {}
    for model in scenario.models:
        if model.believed is not None:
            models[model.tag] = _as_record(model.believed)
    nowhere = MachineInfo(
        os="scenario",
        cpu=None,
        python=sys.version.partition(" ")[0],
        packages={},
        device=DeviceInfo(kind="virtual", name=scenario.name, total_bytes=None),
    )
    return CostDatabase(
        created_at="1970-01-01T00:00:00+00:00",
        tool=ToolInfo(name="modelmgr", version=__version__),
        machine=nowhere,
        models=models,
    )


def _as_record(belief: BelievedCost) -> ModelCost:
    return ModelCost(
        initial_estimate_bytes=belief.peak_bytes,
        resident_bytes=MeasuredBytes(value=belief.resident_bytes, evidence="exact"),
        load_peak_bytes=(
            None
            if belief.load_peak_bytes is None
            else MeasuredBytes(value=belief.load_peak_bytes, evidence="exact")
        ),
        load_ns=(
            None
            if belief.load_ns is None
            else MeasuredDuration(
                median=belief.load_ns, p95=None, min=belief.load_ns, max=belief.load_ns
            )
        ),
    )
