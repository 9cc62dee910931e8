"""What the original's own test-suite asks of its behaviour, asked of ours in our own words.

Where the two differ on purpose, the test says what ours does instead.
"""

from __future__ import annotations

import random
from functools import partial

import pytest

from conformance.situations import database_of, loader_of, manager_of, serve_once, wait_for_queue
from modelmgr import (
    AcquireTimeoutError,
    GPUMonitor,
    ManagerClosedError,
    ModelManager,
    QueueTicket,
    ReadingError,
    ResourceEstimator,
)
from modelmgr.testing.fake_device import FakeDevice, FakeModel
from modelmgr.units import GIB
from support.parties import Party, wait_until
from support.scripted_reader import ScriptedReader

TOTAL_MB = 12_000.0


def _states(manager: ModelManager) -> list[str]:
    return sorted(copy.state for copy in manager.snapshot().copies)


# Acquiring and releasing -------------------------------------------------------------------------


def test_what_is_acquired_is_loaded_and_what_is_released_is_acquired_again() -> None:
    device = FakeDevice(TOTAL_MB)
    with manager_of(device, costs={"m": 1000.0}) as manager:
        model = manager.acquire_model("m", loader_of(device, 1000.0))
        assert model.infer("batch") == "batch"
        manager.release_model("m", model)
        assert manager.acquire_model("m", loader_of(device, 1000.0)) is model
        manager.release_model("m", model)
        assert device.loads == 1


def test_a_second_holder_gets_a_copy_of_its_own_where_there_is_room() -> None:
    device = FakeDevice(TOTAL_MB)
    with manager_of(device, costs={"m": 3000.0}) as manager:
        held = [manager.acquire_model("m", loader_of(device, 3000.0)) for _ in range(3)]
        assert len({id(model) for model in held}) == 3
        assert manager.all_models("m") == held
        for model in held:
            manager.release_model("m", model)


def test_a_request_beyond_capacity_waits_and_gets_what_is_released() -> None:
    device = FakeDevice(TOTAL_MB)
    with manager_of(device, costs={"m": 3000.0}) as manager:
        held = [manager.acquire_model("m", loader_of(device, 3000.0)) for _ in range(3)]
        fourth = Party(lambda: manager.acquire_model("m", loader_of(device, 3000.0)))
        wait_for_queue(manager, 1)
        assert not fourth.done
        released = held.pop()
        manager.release_model("m", released)
        assert fourth.result() is released
        assert device.loads == 3
        for model in [*held, released]:
            manager.release_model("m", model)


def test_many_waiters_time_out_and_the_manager_goes_on() -> None:
    device = FakeDevice(TOTAL_MB)
    with manager_of(device, wait_timeout_seconds=0.5) as manager:
        load = loader_of(device, TOTAL_MB * 0.8)
        held = manager.acquire_model("m", load)
        waiters = [Party(lambda: manager.acquire_model("m", load)) for _ in range(100)]
        for waiter in waiters:
            with pytest.raises(RuntimeError, match="Timeout waiting to acquire model") as caught:
                waiter.result()
            assert isinstance(caught.value, AcquireTimeoutError)
        manager.release_model("m", held)
        assert serve_once(manager, "m", load) is held
        assert manager.snapshot().queue == ()


def test_known_models_that_fit_are_held_together() -> None:
    device = FakeDevice(TOTAL_MB, foreign_mb=1000.0)
    costs = {"a": 1000.0, "b": 1000.0}
    with manager_of(device, costs=costs) as manager:
        held = {tag: manager.acquire_model(tag, loader_of(device, costs[tag])) for tag in costs}
        assert _states(manager) == ["active", "active"]
        for tag, model in held.items():
            manager.release_model(tag, model)
        assert _states(manager) == ["idle", "idle"]


def test_a_loader_that_fails_leaves_nothing_behind() -> None:
    device = FakeDevice(TOTAL_MB)

    def crash() -> FakeModel:
        raise RuntimeError("the framework's own words")

    with manager_of(device, costs={"m": 1000.0}) as manager:
        with pytest.raises(RuntimeError, match=r"^the framework's own words$"):
            manager.acquire_model("m", crash)
        seen = manager.snapshot()
        assert (seen.copies, seen.queue) == ((), ())
        assert seen.devices[0].reserved_bytes == 0
        assert not serve_once(manager, "m", loader_of(device, 1000.0)).closed


# Unknown models ----------------------------------------------------------------------------------


def test_an_unknown_model_runs_isolated_once_and_is_known_after() -> None:
    device = FakeDevice(TOTAL_MB)
    with manager_of(device, isolation="exclusive") as manager:
        assert manager.estimator.is_unknown("m")
        model = manager.acquire_model("m", loader_of(device, 2000.0))
        assert manager.snapshot().devices[0].isolating == "m"
        assert _states(manager) == ["active"]
        manager.release_model("m", model)
        assert manager.snapshot().devices[0].isolating is None
        assert manager.estimator.get_estimate("m") == pytest.approx(2000.0, rel=0.01)


def test_exclusive_isolation_clears_the_device_first() -> None:
    device = FakeDevice(TOTAL_MB)
    with manager_of(
        device, costs={"a": 2000.0}, isolation="exclusive", slack_percentage=0.0
    ) as manager:
        resident = serve_once(manager, "a", loader_of(device, 2000.0))
        with manager.lease("x", loader_of(device, 10_000.0)):
            assert resident.closed
            assert manager.all_models("a") == []
            assert manager.snapshot().devices[0].isolating == "x"


def test_a_mixed_workload_from_many_threads_learns_the_true_costs() -> None:
    device = FakeDevice(TOTAL_MB)
    costs = {"small": 1500.0, "medium": 3000.0}
    workload = [*costs] * 15
    random.Random(3).shuffle(workload)

    def work(manager: ModelManager, share: list[str]) -> None:
        for tag in share:
            with manager.lease(tag, loader_of(device, costs[tag])) as model:
                model.infer(0)

    with manager_of(device) as manager:
        parties = [Party(partial(work, manager, workload[start::8])) for start in range(8)]
        for party in parties:
            party.result()
        for tag, size_mb in costs.items():
            assert manager.estimator.get_estimate(tag) == pytest.approx(size_mb, abs=100.0)
        assert device.highest_mb <= TOTAL_MB * 0.9


def test_noise_around_a_models_use_does_not_move_its_cost_far() -> None:
    device = FakeDevice(TOTAL_MB)
    draw = random.Random(42)
    with manager_of(device) as manager:
        load = loader_of(device, 3000.0)
        serve_once(manager, "m", load)
        assert manager.estimator.get_estimate("m") == pytest.approx(3000.0, rel=0.01)
        for _ in range(30):
            held = [manager.acquire_model("m", load) for _ in range(draw.randint(1, 3))]
            noise_mb = draw.uniform(-300.0, 300.0)
            device.take(noise_mb)
            device.give_back(noise_mb)
            for model in held:
                manager.release_model("m", model)
        assert manager.estimator.get_estimate("m") == pytest.approx(3000.0, abs=100.0)


# Evicting ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["lru", "gdsf", "demand-tiers", "queue-value"])
def test_the_model_that_was_not_used_again_has_to_go(policy: str) -> None:
    device = FakeDevice(TOTAL_MB)
    sizes = {"a": 4000.0, "b": 4000.0, "c": 5000.0}
    # All load equally long: what a load of a fake takes is chance, and some policies weigh by it.
    costs = database_of({tag: (size, 1.0) for tag, size in sizes.items()})
    with manager_of(device, costs=costs, policy=policy, slack_percentage=0.0) as manager:
        for tag in ("a", "b", "a"):
            serve_once(manager, tag, loader_of(device, sizes[tag]))
        held = manager.acquire_model("c", loader_of(device, sizes["c"]))
        assert manager.all_models("b") == []
        assert len(manager.all_models("a")) == 1
        manager.release_model("c", held)


def test_as_many_go_as_are_needed_and_no_more() -> None:
    device = FakeDevice(TOTAL_MB)
    small = {f"small {number}": 3000.0 for number in range(4)}
    with manager_of(
        device, costs={**small, "big": 8000.0}, policy="lru", slack_percentage=0.0
    ) as manager:
        models = [serve_once(manager, tag, loader_of(device, size)) for tag, size in small.items()]
        serve_once(manager, "big", loader_of(device, 8000.0))
        assert [model.closed for model in models] == [True, True, True, False]


def test_a_model_in_use_stays_and_an_idle_one_goes() -> None:
    device = FakeDevice(TOTAL_MB)
    costs = {"a": 6000.0, "b": 4000.0, "c": 4000.0}
    with manager_of(device, costs=costs, slack_percentage=0.0) as manager:
        used = manager.acquire_model("a", loader_of(device, 6000.0))
        idle = serve_once(manager, "b", loader_of(device, 4000.0))
        new = manager.acquire_model("c", loader_of(device, 4000.0))
        assert idle.closed
        assert not used.closed
        manager.release_model("a", used)
        manager.release_model("c", new)


def test_under_pressure_the_devices_use_is_that_of_the_loaded_models() -> None:
    device = FakeDevice(TOTAL_MB)
    tags = [f"model {number}" for number in range(5)]

    def work(manager: ModelManager, number: int) -> None:
        for turn in range(6):
            tag = tags[(number + turn) % len(tags)]
            serve_once(manager, tag, loader_of(device, 4000.0))

    with manager_of(device, slack_percentage=0.0) as manager:
        for party in [Party(partial(work, manager, number)) for number in range(8)]:
            party.result()
        wait_until(
            lambda: device.get_stats()[0] == 4000.0 * len(manager.snapshot().copies),
            "the last unload ended",
        )
        assert device.highest_mb <= TOTAL_MB


def test_demand_for_one_model_does_not_starve_another() -> None:
    device = FakeDevice(TOTAL_MB)
    with manager_of(device, costs={"a": TOTAL_MB}, slack_percentage=0.0) as manager:
        first = manager.acquire_model("a", loader_of(device, TOTAL_MB))
        cycle = [
            Party(lambda: serve_once(manager, "a", loader_of(device, TOTAL_MB))) for _ in range(5)
        ]
        wait_for_queue(manager, 5)
        other = Party(lambda: serve_once(manager, "b", loader_of(device, 4000.0)))
        wait_for_queue(manager, 6)
        manager.release_model("a", first)
        assert not other.result().closed
        assert first.closed
        for party in cycle:
            party.result()


# Resetting, shutting down ------------------------------------------------------------------------


def test_a_reset_gives_every_idle_copys_resources_back_whatever_kind_of_object_it_is() -> None:
    device = FakeDevice(TOTAL_MB)
    gone: list[object] = []
    with manager_of(device, costs={"text": 10.0, "m": 10.0}, unload=gone.append) as manager:
        kept = [serve_once(manager, "text", lambda: "a name"), serve_once(manager, "m", object)]
        manager.force_reset()
        wait_until(lambda: len(gone) == 2, "both are unloaded")
        assert set(map(id, gone)) == set(map(id, kept))


def test_a_reset_after_a_failed_load_leaves_a_manager_that_works() -> None:
    device = FakeDevice(TOTAL_MB)

    def crash() -> FakeModel:
        device.take(1000.0)
        device.give_back(1000.0)
        raise RuntimeError("half way")

    with manager_of(device) as manager:
        first = serve_once(manager, "m", loader_of(device, 1000.0))
        held = manager.acquire_model("m", loader_of(device, 1000.0))
        with pytest.raises(RuntimeError, match="half way"):
            manager.acquire_model("m", crash)
        manager.release_model("m", held)
        manager.force_reset()
        wait_until(lambda: first.closed, "the idle copy is unloaded")
        wait_until(lambda: manager.snapshot().copies == (), "its memory was seen to be back")
        assert manager.snapshot().devices[0].reserved_bytes == 0
        assert manager.snapshot().devices[0].isolating is None
        assert serve_once(manager, "m", loader_of(device, 1000.0)) is not first


def test_a_shutdown_unloads_everything_and_stops_the_monitor() -> None:
    told: list[str] = []

    class Started(FakeDevice):
        def start(self) -> None:
            told.append("start")

        def stop(self) -> None:
            told.append("stop")

    device = Started(TOTAL_MB)
    manager = manager_of(device, costs={"m": 1000.0})
    assert told == ["start"]
    model = serve_once(manager, "m", loader_of(device, 1000.0))
    manager.shutdown()
    assert model.closed
    assert told == ["start", "stop"]
    assert device.get_stats()[0] == 0.0
    with pytest.raises(ManagerClosedError):
        manager.acquire_model("m", loader_of(device, 1000.0))


def test_how_many_copies_are_loaded_can_be_asked_at_any_time() -> None:
    """The original tells it as a metric; the estimates do not move by it."""
    device = FakeDevice(TOTAL_MB)
    with manager_of(device, costs={"a": 1000.5, "b": 2000.9}) as manager:
        held: list[tuple[str, FakeModel]] = []
        for tag, size_mb in (("a", 1000.0), ("a", 1000.0), ("b", 2000.0)):
            held.append((tag, manager.acquire_model(tag, loader_of(device, size_mb))))
        tags = [copy.tag for copy in manager.snapshot().copies]
        assert (tags.count("a"), tags.count("b")) == (2, 1)
        for tag, model in held:
            manager.release_model(tag, model)
        assert manager.estimator.get_estimate("a") == pytest.approx(1000.5, rel=0.01)
        assert manager.estimator.get_estimate("b") == pytest.approx(2000.9, rel=0.01)


# The monitor -------------------------------------------------------------------------------------


def test_a_monitor_that_was_started_polls_until_it_is_stopped() -> None:
    reader = ScriptedReader(4 * GIB)
    monitor = GPUMonitor(reader=reader, poll_interval=0.001)
    monitor.start()
    reader.wait_for(3)
    assert monitor.get_stats() == (4096.0, 4096.0, 8192.0)
    monitor.stop()
    stopped_at = reader.read_times
    assert monitor.get_stats() == (4096.0, 4096.0, 8192.0)
    assert reader.read_times == stopped_at


def test_the_peak_stays_until_it_is_reset() -> None:
    monitor = GPUMonitor(reader=ScriptedReader(7 * GIB, 2 * GIB))
    monitor.refresh()
    monitor.refresh()
    assert monitor.get_stats()[:2] == (2048.0, 7168.0)
    monitor.reset_peak()
    assert monitor.get_stats()[:2] == (2048.0, 2048.0)


def test_without_a_gpu_the_fallback_is_the_most_that_is_used_and_nothing_read_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The original takes the fallback for a GPU's size and its use for 0."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monitor = GPUMonitor(fallback_memory_mb=256.0)
    with pytest.raises(ReadingError):
        monitor.get_stats()
    monitor.refresh()
    assert monitor.get_stats()[2] <= 256.0
    monitor.close()


# The estimator -----------------------------------------------------------------------------------


def test_an_unknown_model_has_the_default_and_a_preloaded_one_its_own() -> None:
    estimator = ResourceEstimator()
    assert estimator.is_unknown("m")
    assert estimator.get_estimate("m") == 4000.0
    assert estimator.get_estimate("m", 123.0) == 123.0
    estimator.set_initial_estimate("m", 1000.5)
    assert not estimator.is_unknown("m")
    assert estimator.get_estimate("m", 123.0) == 1000.5


def test_nothing_is_concluded_from_fewer_readings_than_were_asked_for() -> None:
    estimator = ResourceEstimator(min_data_points=5)
    for active in ({"a": 1}, {"b": 1}, {"a": 1, "b": 1}, {"a": 1}):
        estimator.add_observation(active, 100.0 + 400.0 * len(active))
        assert estimator.is_unknown("a")
    estimator.add_observation({"b": 1}, 500.0)
    assert estimator.get_estimate("a") == pytest.approx(400.0, rel=0.01)


def test_nothing_is_concluded_from_fewer_combinations_than_there_are_unknowns() -> None:
    estimator = ResourceEstimator()
    for _ in range(5):
        estimator.add_observation({"a": 1, "b": 1}, 800.0)
    for _ in range(5):
        estimator.add_observation({"c": 1}, 400.0)
    assert all(estimator.is_unknown(tag) for tag in "abc")
    for _ in range(3):
        estimator.add_observation({"a": 1}, 300.0)
        estimator.add_observation({"b": 1}, 600.0)
    assert estimator.get_estimate("a") == pytest.approx(200.0, rel=0.02)
    assert estimator.get_estimate("b") == pytest.approx(500.0, rel=0.02)
    assert estimator.get_estimate("c") == pytest.approx(300.0, rel=0.02)


def test_costs_are_learned_from_readings_of_combinations_and_others_memory_is_the_bias() -> None:
    estimator = ResourceEstimator()
    draw = random.Random(4)
    costs = {"a": 700.0, "b": 2500.0, "c": 4100.0}
    for _ in range(60):
        active = {tag: draw.randint(0, 2) for tag in costs}
        if any(active.values()):
            use = 1200.0 + sum(costs[tag] * count for tag, count in active.items())
            estimator.add_observation(active, use + draw.gauss(0.0, 5.0))
    for tag, cost in costs.items():
        assert estimator.get_estimate(tag) == pytest.approx(cost, rel=0.02)


# The queue ---------------------------------------------------------------------------------------


def test_tickets_are_ordered_by_priority_and_then_by_number() -> None:
    tickets = [QueueTicket(1, 1, "a"), QueueTicket(0, 3, "b"), QueueTicket(0, 2, "c")]
    assert [ticket.tag for ticket in sorted(tickets)] == ["c", "b", "a"]
    assert QueueTicket(0, 9, "z") < QueueTicket(1, 1, "a")


def test_equals_are_served_in_the_order_in_which_they_came() -> None:
    device = FakeDevice(TOTAL_MB)
    served: list[int] = []

    def serve(manager: ModelManager, number: int) -> None:
        with manager.lease("m", loader_of(device, 8000.0)):
            served.append(number)

    with manager_of(device, costs={"m": 8000.0}) as manager:
        held = manager.lease("m", loader_of(device, 8000.0))
        parties: list[Party[None]] = []
        for number in range(6):
            parties.append(Party(partial(serve, manager, number)))
            wait_for_queue(manager, number + 1)
        held.release()
        for party in parties:
            party.result()
        assert served == list(range(6))
