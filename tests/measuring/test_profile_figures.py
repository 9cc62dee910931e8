"""What a run measures of a model: real workers of stated sizes, into a real database."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelmgr.devices.host_available import total_host_bytes
from modelmgr.measuring.ledger import ledger_total_bytes, model_growth_bytes
from modelmgr.measuring.profile import profile_models
from modelmgr.measuring.settings import ProfileOutcome
from modelmgr.records.codec import load_costs
from modelmgr.records.costs import ModelCost
from modelmgr.units import GIB, MIB
from support.profile_observer import RecordingObserver
from support.profile_runs import host, stated, value


class Finished:
    """One run over a large and a small model, measured once for many claims."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "costs.json"
        self.observer = RecordingObserver()
        self.outcome: ProfileOutcome = profile_models(
            [
                stated(
                    "large",
                    resident_bytes="100 MiB",
                    activation_bytes="10 MiB",
                    load_peak_bytes="150 MiB",
                    service_ns="2 ms",
                ),
                stated("small", resident_bytes="20 MiB", activation_bytes="1 MiB"),
            ],
            host(self.out, command="profile test"),
            self.observer,
        )

    def cost(self, tag: str) -> ModelCost:
        return self.outcome.database.models[tag]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(tmp_path_factory.mktemp("profile"))


@pytest.mark.parametrize(("tag", "size"), [("large", 100 * MIB), ("small", 20 * MIB)])
def test_what_a_model_holds_at_rest_is_its_true_size(
    finished: Finished, tag: str, size: int
) -> None:
    cost = finished.cost(tag)
    assert cost.ledger is not None
    assert cost.ledger.weights_bytes == size
    growth = model_growth_bytes(cost.ledger, value(cost.resident_bytes))
    assert growth is not None
    assert abs(growth - size) < MIB  # the kernel's counters lag by up to 256 KiB a core
    assert cost.resident_bytes is not None
    assert cost.resident_bytes.evidence == "exact"


def test_every_shapes_activation_is_its_true_peak(finished: Finished) -> None:
    shapes = finished.cost("large").shapes
    assert [shape.dims for shape in shapes] == [{"batch_size": 1}, {"batch_size": 4}]
    for shape, size in zip(shapes, (10 * MIB, 40 * MIB), strict=True):
        assert abs(value(shape.activation_bytes) - size) < MIB
        assert shape.latency_ns is not None
        assert len(shape.latency_ns.samples) >= 6  # two processes, three batches each at least
        assert shape.latency_ns.min >= 2_000_000
        assert shape.throughput_per_s is not None


def test_the_ledger_adds_up_to_the_peak_and_explains_nearly_all_of_it(finished: Finished) -> None:
    for tag in ("large", "small"):
        cost = finished.cost(tag)
        assert cost.ledger is not None
        assert ledger_total_bytes(cost.ledger) == value(cost.peak_bytes)
        unaccounted = cost.ledger.unaccounted_bytes
        assert unaccounted is not None
        assert abs(unaccounted) <= max(8 * MIB, 0.03 * value(cost.peak_bytes))


def test_the_load_peak_is_seen_although_it_passed(finished: Finished) -> None:
    cost = finished.cost("large")
    assert abs(value(cost.load_peak_bytes) - value(cost.resident_bytes) - 50 * MIB) < 2 * MIB


def test_the_estimate_to_preload_is_an_upper_figure(finished: Finished) -> None:
    for cost in finished.outcome.database.models.values():
        assert cost.peak_bytes is not None
        assert cost.initial_estimate_bytes is not None
        assert cost.initial_estimate_bytes >= max(cost.peak_bytes.samples)


def test_a_second_copy_costs_its_own_pages_and_not_the_shared_ones(finished: Finished) -> None:
    cost = finished.cost("large")
    assert cost.copies is not None
    second = value(cost.copies.second_copy_bytes)
    assert 100 * MIB <= second < value(cost.resident_bytes)


def test_an_unload_is_timed_until_the_memory_is_back(finished: Finished) -> None:
    unload = finished.cost("large").unload
    assert unload is not None
    assert unload.reclaim_ns is not None
    assert unload.reclaim_ns.min > 0
    assert unload.residue_bytes == 0


def test_a_models_isolation_evicts_the_model_before_and_says_why(finished: Finished) -> None:
    evictions = finished.outcome.database.evictions
    flushed = [eviction for eviction in evictions if eviction.requested_by == "small"]
    assert {eviction.tag for eviction in flushed} == {"large"}
    assert all(eviction.reason == "isolation" for eviction in flushed)


def test_the_guess_stands_beside_the_measurement(finished: Finished) -> None:
    estimate = finished.cost("large").estimate
    assert estimate is not None
    assert estimate["weights_bytes"] == 100 * MIB
    assert estimate["activation_bytes"] == 40 * MIB


def test_the_file_holds_what_the_outcome_says_and_no_journal_is_left(finished: Finished) -> None:
    assert load_costs(finished.out) == finished.outcome.database
    assert [path.name for path in finished.out.parent.iterdir()] == ["costs.json"]
    [run] = finished.outcome.database.runs
    assert run.command == "profile test"
    assert finished.outcome.failed == ()
    assert finished.outcome.did_not_fit == ()
    assert not finished.outcome.interrupted


def test_the_observer_hears_of_every_planned_step(finished: Finished) -> None:
    observer = finished.observer
    assert observer.started == ("large", "small")
    for tag in observer.started:
        assert len(observer.steps[tag]) == observer.planned_steps[tag]
    assert observer.steps["small"][:3] == ["estimate", "load 1/2", "batch_size=1 memory 1/2"]
    assert observer.finished == dict(finished.outcome.database.models)
    assert observer.limit_bytes == round(0.9 * 2 * GIB)
    assert {limit for _, limit in observer.readings} == {2 * GIB}
    assert max(used for used, _ in observer.readings) > 100 * MIB


def test_the_devices_memory_is_told_apart_from_the_budget(finished: Finished) -> None:
    device = finished.outcome.database.machine.device
    assert device.total_bytes == total_host_bytes()
    assert device.budget_bytes == 2 * GIB
