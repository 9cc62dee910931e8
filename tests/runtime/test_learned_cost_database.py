"""What is written back after learning: nothing that was measured better is lost."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from modelmgr import ModelManager, UsageError
from modelmgr.estimation.cost_estimate import CostEstimate
from modelmgr.estimation.estimator import ResourceEstimator
from modelmgr.records.costs import CostDatabase, CostError, DeviceInfo, MachineInfo, ModelCost
from modelmgr.records.measured import MeasuredBytes, MeasuredDuration
from modelmgr.runtime.learned_costs import LEARNED_NOTE, RAISED_NOTE, learned_costs
from modelmgr.testing.fake_device import FakeDevice
from modelmgr.units import MIB

NOW = "2026-01-02T03:04:05Z"
MACHINE = MachineInfo(
    os="Linux",
    cpu=None,
    python="3.11",
    packages={},
    device=DeviceInfo(kind="cuda", name="gpu0", total_bytes=16_000 * MIB),
)


def aggregate(
    peak: int, *, upper: int | None = None, seen: int | None = None, identified: bool = True
) -> CostEstimate:
    """Make an estimate, MB."""
    return CostEstimate(
        resident_bytes=(peak - 100) * MIB,
        peak_bytes=peak * MIB,
        upper_bytes=(upper or peak + 50) * MIB,
        interval_95=((peak - 10) * MIB, (peak + 10) * MIB),
        source="aggregate",
        observations=40,
        identified=identified,
        reason=None,
        seen_bytes=None if seen is None else seen * MIB,
    )


def isolated(initial: int) -> ModelCost:
    return ModelCost(
        initial_estimate_bytes=initial * MIB,
        peak_bytes=MeasuredBytes(value=initial * MIB, evidence="exact"),
        load_ns=MeasuredDuration(median=5, p95=None, min=4, max=6),
        observations=3,
    )


def database(**models: ModelCost) -> CostDatabase:
    return learned_costs(
        {}, msgspec.structs.replace(empty(), models=models), created_at="2025-01-01T00:00:00Z"
    )


def empty() -> CostDatabase:
    return learned_costs({}, None, created_at=NOW, machine=MACHINE)


def test_a_new_model_is_written_with_its_interval_and_observations() -> None:
    after = learned_costs({"m": aggregate(1000)}, empty(), created_at=NOW)
    cost = after.models["m"]
    assert cost.method == "aggregate"
    assert cost.initial_estimate_bytes == 1050 * MIB
    assert cost.interval_95_bytes == (990 * MIB, 1010 * MIB)
    assert cost.observations == 40
    assert cost.peak_bytes == MeasuredBytes(
        value=1000 * MIB, evidence="estimated", interval_95=(990 * MIB, 1010 * MIB)
    )
    assert cost.notes == (LEARNED_NOTE,)
    assert after.created_at == NOW


def test_what_was_measured_alone_is_never_lowered_and_not_touched_without_evidence() -> None:
    before = database(m=isolated(1000))
    for estimate in (aggregate(400), aggregate(1005)):
        after = learned_costs({"m": estimate}, before, created_at=NOW)
        assert after.models == before.models


@pytest.mark.parametrize("estimate", [aggregate(1500), aggregate(900, upper=1550, seen=1400)])
def test_what_was_measured_too_low_is_raised_and_says_so(estimate: CostEstimate) -> None:
    before = database(m=isolated(1000))
    cost = learned_costs({"m": estimate}, before, created_at=NOW).models["m"]
    assert cost.initial_estimate_bytes == 1550 * MIB
    assert cost.notes == (RAISED_NOTE,)
    assert cost.method == "isolation"
    assert cost.peak_bytes == before.models["m"].peak_bytes
    assert cost.load_ns == before.models["m"].load_ns


def test_what_was_learned_before_is_learned_anew() -> None:
    before = learned_costs({"m": aggregate(1000)}, empty(), created_at=NOW)
    after = learned_costs({"m": aggregate(600)}, before, created_at=NOW)
    assert after.models["m"].initial_estimate_bytes == 650 * MIB
    assert after.models["m"].notes == (LEARNED_NOTE,)


def test_a_model_that_could_not_be_measured_gets_what_was_learned() -> None:
    before = database(m=ModelCost(error=CostError(kind="WorkerError", message="died")))
    cost = learned_costs({"m": aggregate(1000)}, before, created_at=NOW).models["m"]
    assert cost.error is None
    assert cost.initial_estimate_bytes == 1050 * MIB


def test_what_could_not_be_told_apart_is_not_written() -> None:
    after = learned_costs({"m": aggregate(1000, identified=False)}, empty(), created_at=NOW)
    assert after.models == {}


def test_others_models_stay() -> None:
    before = database(other=isolated(700))
    after = learned_costs({"m": aggregate(1000)}, before, created_at=NOW)
    assert after.models["other"] == before.models["other"]


def test_a_new_database_needs_a_machine() -> None:
    with pytest.raises(UsageError, match="machine"):
        learned_costs({}, None, created_at=NOW)


def test_what_was_learned_is_preloaded_by_the_next_manager(tmp_path: Path) -> None:
    estimator = ResourceEstimator()
    for _ in range(8):
        estimator.record_own_use(
            "m", peak_bytes=1200 * MIB, resident_bytes=900 * MIB, whole_job=True
        )
    path = tmp_path / "costs.json"
    learned_costs(estimator.learned(), None, created_at=NOW, machine=MACHINE).save(path)
    with ModelManager(FakeDevice(), costs=path) as manager:
        assert not manager.estimator.is_unknown("m")
        assert manager.estimator.get_estimate("m") == 1200.0
