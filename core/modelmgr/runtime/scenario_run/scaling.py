"""A scenario made smaller, so that a machine can hold it: every size times one factor.

What fits beside what, and so what the scheduler decides, stays as it is; only bytes change.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from modelmgr.errors import UsageError
from modelmgr.workload.scenario import (
    BelievedCost,
    Fault,
    Scenario,
    ScenarioCost,
    ScenarioDevice,
    ScenarioModel,
)


def scale_memory(scenario: Scenario, factor: Fraction) -> Scenario:
    """Return a scenario whose devices, models and faults have ``factor`` times their sizes.

    Raises:
        UsageError: the factor is not above 0; a model is loaded for real, or a device is a GPU:
            their sizes are what they are.
    """
    if factor <= 0:
        raise UsageError(f"memory cannot be scaled by {factor}")
    for model in scenario.models:
        if model.spec is not None:
            raise UsageError(
                f"model {model.tag!r} is loaded for real (loader: {model.spec.loader}), so its "
                "memory cannot be scaled"
            )
    for device in scenario.devices:
        if device.kind == "cuda":
            raise UsageError(f"device {device.name!r} is a GPU: its memory cannot be scaled")
    return replace(
        scenario,
        devices=tuple(_device(device, factor) for device in scenario.devices),
        models=tuple(_model(model, factor) for model in scenario.models),
        faults=tuple(_fault(fault, factor) for fault in scenario.faults),
    )


def _device(device: ScenarioDevice, factor: Fraction) -> ScenarioDevice:
    return replace(device, total_bytes=_scaled(device.total_bytes, factor))


def _model(model: ScenarioModel, factor: Fraction) -> ScenarioModel:
    cost: ScenarioCost | None = model.cost
    belief: BelievedCost | None = model.believed
    if cost is not None:
        cost = replace(
            cost,
            resident_bytes=_scaled(cost.resident_bytes, factor),
            peak_bytes=_scaled(cost.peak_bytes, factor),
            load_peak_bytes=_scaled_if_known(cost.load_peak_bytes, factor),
        )
    if belief is not None:
        belief = replace(
            belief,
            resident_bytes=_scaled(belief.resident_bytes, factor),
            peak_bytes=_scaled(belief.peak_bytes, factor),
            load_peak_bytes=_scaled_if_known(belief.load_peak_bytes, factor),
        )
    return replace(model, cost=cost, believed=belief)


def _fault(fault: Fault, factor: Fraction) -> Fault:
    return replace(fault, size_bytes=_scaled_if_known(fault.size_bytes, factor))


def _scaled(size_bytes: int, factor: Fraction) -> int:
    return max(1, round(size_bytes * factor))


def _scaled_if_known(size_bytes: int | None, factor: Fraction) -> int | None:
    return None if size_bytes is None else _scaled(size_bytes, factor)
