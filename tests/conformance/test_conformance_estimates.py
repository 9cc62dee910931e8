"""Rows 9, 10, 11, 33, 36, 37, 38: what is learned is true, or it is not claimed to be known."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable
from types import FrameType

import pytest

from conformance.situations import CountedDevice, PolledMonitor, loader_of, manager_of, serve_once
from modelmgr import ResourceEstimator
from modelmgr.testing.fake_device import FakeDevice, FakeModel
from support.parties import wait_until


def test_a_job_shorter_than_the_poll_interval_teaches_its_true_size() -> None:
    device = FakeDevice()
    interval_s = 0.05
    monitor = PolledMonitor(device, interval_s)
    with manager_of(monitor, poll_interval=interval_s) as manager:
        serve_once(manager, "brief", loader_of(device, 3000.0))
        assert manager.estimator.get_estimate("brief") == pytest.approx(3000.0, rel=0.01)


def test_models_that_readings_cannot_tell_apart_are_not_guessed_apart() -> None:
    estimator = ResourceEstimator()
    for count in (1, 2, 3) * 10:
        estimator.add_observation({"a": count, "b": count}, 500.0 + 5000.0 * count)
    for tag, other in (("a", "b"), ("b", "a")):
        assert estimator.get_estimate(tag) > 1000.0
        assert estimator.is_unknown(tag)
        estimate = estimator.estimate(tag)
        assert estimate is not None
        assert not estimate.identified
        assert estimate.interval_95 is None
        assert other in (estimate.reason or "")


def test_a_preloaded_cost_of_a_model_that_does_not_run_stays_to_the_bit() -> None:
    estimator = ResourceEstimator()
    estimator.set_initial_estimate("rare", 3000.3)
    draw = random.Random(1)
    for _ in range(300):
        a, b = draw.randint(0, 3), draw.randint(1, 3)
        estimator.add_observation({"a": a, "b": b}, 700.0 + 1000.0 * a + 2000.0 * b)
        assert estimator.get_estimate("rare") == 3000.3
    assert estimator.get_estimate("a") == pytest.approx(1000.0, rel=0.01)


def _calls(action: Callable[[], None]) -> int:
    """Count the calls that an action makes: its cost in a unit that no other program moves."""
    count = 0

    def profile(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(before)
    return count


def test_an_observation_costs_the_same_however_many_there_were() -> None:
    estimator = ResourceEstimator()
    costs = [300.0 * (place + 1) for place in range(5)]
    configurations = list(itertools.product(range(5), repeat=5))[1:]
    random.Random(2).shuffle(configurations)

    def observe(first: int, last: int) -> None:
        for counts in configurations[first:last]:
            use = 500.0 + sum(c * cost for c, cost in zip(counts, costs, strict=True))
            snapshot = {f"m{place}": c for place, c in enumerate(counts) if c}
            estimator.add_observation(snapshot, use)
            estimator.get_estimate("m0")

    observe(0, 300)
    early = _calls(lambda: observe(300, 600))
    observe(600, 2700)
    late = _calls(lambda: observe(2700, 3000))
    assert late <= 1.5 * early
    assert estimator.kept_readings <= estimator.most_kept_readings
    assert estimator.get_estimate("m0") == pytest.approx(300.0, rel=0.01)


def test_a_peak_of_earlier_is_charged_to_nobody_who_runs_later() -> None:
    device = FakeDevice()
    with manager_of(device, costs={"small": 500.0}) as manager:
        device.take(7000.0)  # somebody's spike, still in the monitor's window
        device.give_back(7000.0)
        assert device.get_stats()[1] == 7000.0
        for copies in (1, 2, 1, 2, 3, 1):
            held = [manager.acquire_model("small", loader_of(device, 500.0)) for _ in range(copies)]
            for instance in held:
                manager.release_model("small", instance)
        assert manager.estimator.get_estimate("small") == pytest.approx(500.0, rel=0.02)
        serve_once(manager, "unknown", loader_of(device, 800.0))
        assert manager.estimator.get_estimate("unknown") == pytest.approx(800.0, rel=0.02)


def test_what_was_there_before_is_never_part_of_what_a_model_costs() -> None:
    device = FakeDevice(total_mb=20_000.0, foreign_mb=2000.0)
    with manager_of(device, min_data_points=1) as manager:
        for copies in (1, 2, 1, 3, 2, 1, 3, 2):
            held = [manager.acquire_model("m", loader_of(device, 3000.0)) for _ in range(copies)]
            for instance in held:
                manager.release_model("m", instance)
            assert manager.estimator.get_estimate("m") == pytest.approx(3000.0, rel=0.01)


def test_one_spike_while_a_model_is_measured_is_forgotten_by_its_later_jobs() -> None:
    device = CountedDevice()
    with manager_of(device) as manager:
        first = manager.acquire_model("m", loader_of(device, 500.0))
        spike = FakeModel(device, 6000.0)  # not ours
        before = device.readings
        wait_until(lambda: device.readings >= before + 3, "the spike was seen")
        spike.close()
        manager.release_model("m", first)
        for _ in range(4):
            serve_once(manager, "m", loader_of(device, 500.0))
        assert manager.estimator.get_estimate("m") == pytest.approx(500.0, rel=0.02)
