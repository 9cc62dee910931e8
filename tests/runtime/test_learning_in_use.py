"""What the manager learns while models are in use: the truth, from traffic alone, and safely."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from modelmgr.devices.reading import MemoryReading
from modelmgr.estimation.estimator import ResourceEstimator
from modelmgr.estimation.own_use import ENOUGH_JOBS
from modelmgr.runtime.configuration import Configuration, OwnBytes, configuration_of
from modelmgr.runtime.learning import ENOUGH_WINDOWS, UseLearner
from modelmgr.runtime.shared_estimator import SharedEstimator
from modelmgr.scheduling.copies import ModelCosts
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.scheduling.settings import SchedulerSettings
from modelmgr.units import GIB, MIB

PID = 4242
TOTAL = 80 * GIB
NOISE_MB = 5.0


@dataclass
class Traffic:
    """A device whose models cost what they cost: resident and running megabytes, seeded noise."""

    costs: Mapping[str, tuple[float, float]]
    learner: UseLearner
    seed: int = 0
    device: int = 0
    foreign_mb: float = 700.0
    tells_processes: bool = False
    now_ns: int = 0
    loaded: dict[str, int] = field(default_factory=dict[str, int])
    active: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        self.draws = np.random.default_rng(self.seed)

    def change(self, loaded: Mapping[str, int], active: Mapping[str, int]) -> None:
        self.loaded, self.active = dict(loaded), dict(active)
        self.learner.changed(self.device)

    def used_mb(self) -> float:
        return sum(self.costs[tag][0] * count for tag, count in self.loaded.items()) + sum(
            self.costs[tag][1] * count for tag, count in self.active.items()
        )

    def now_reading(self) -> MemoryReading:
        self.now_ns += 1
        own_mb = 300.0 + self.used_mb() + self.draws.normal(0.0, NOISE_MB)
        processes = {PID: round(own_mb * MIB)} if self.tells_processes else None
        used_bytes = round((self.foreign_mb + own_mb) * MIB)
        return MemoryReading(self.now_ns, used_bytes, TOTAL, processes)

    def read(self, *, at_rest: bool = True, during: Callable[[], None] | None = None) -> None:
        """Read as a watch does; ``during`` happens while the device answers."""
        mark = self.learner.mark(self.device, self.now_ns)
        reading = self.now_reading()
        if during is not None:
            during()
        configuration = Configuration(dict(self.loaded), dict(self.active), at_rest=at_rest)
        self.learner.reading(self.device, reading, configuration, mark)

    def serve(self, windows: int, most: int = 2) -> None:
        """Go through random windows, each read three times."""
        for _ in range(windows):
            loaded = {tag: int(self.draws.integers(0, most + 1)) for tag in self.costs}
            active = {tag: int(self.draws.integers(0, count + 1)) for tag, count in loaded.items()}
            self.change(loaded, active)
            for _ in range(3):
                self.read()


def learner_for(estimator: ResourceEstimator, devices: int = 1) -> UseLearner:
    return UseLearner(estimator, devices, pid=PID)


COSTS = {"bert": (1200.0, 400.0), "gpt2": (3000.0, 1100.0), "whisper": (700.0, 50.0)}


def check(
    estimator: ResourceEstimator,
    costs: Mapping[str, tuple[float, float]] = COSTS,
    *,
    within: float = 0.02,
    tags: Iterable[str] | None = None,
) -> None:
    for tag in costs if tags is None else tags:
        estimate = estimator.estimate(tag)
        assert estimate is not None
        assert estimate.identified, estimate.reason
        resident, running = costs[tag]
        assert estimate.resident_bytes == pytest.approx(resident * MIB, rel=within)
        assert estimate.peak_bytes == pytest.approx((resident + running) * MIB, rel=within)


@pytest.mark.parametrize("tells_processes", [False, True])
def test_true_costs_are_learned_from_traffic_alone(tells_processes: bool) -> None:
    estimator = SharedEstimator()
    traffic = Traffic(COSTS, learner_for(estimator), seed=1, tells_processes=tells_processes)
    traffic.serve(150)
    assert set(traffic.learner.take()) == set(COSTS)
    check(estimator)


@pytest.mark.parametrize("tells_processes", [False, True])
def test_foreign_memory_that_moves_is_charged_to_no_model(tells_processes: bool) -> None:
    estimator = ResourceEstimator()
    traffic = Traffic(COSTS, learner_for(estimator), seed=2, tells_processes=tells_processes)
    traffic.serve(150)
    for gigabytes in (6, 1, 9, 0):
        traffic.foreign_mb = 700.0 + 1024.0 * gigabytes
        for _ in range(4):
            traffic.serve(25)
            traffic.learner.take()
            check(estimator, within=0.05)


def test_a_window_that_changed_half_way_is_thrown_away() -> None:
    """Otherwise what one job took would be charged to the next."""
    estimator = ResourceEstimator()
    traffic = Traffic(COSTS, learner_for(estimator), seed=3)
    for _ in range(200):
        traffic.change({"bert": 1}, {"bert": 1})
        for _ in range(4):
            traffic.read(during=lambda: traffic.change({"gpt2": 1}, {"gpt2": 1}))
            traffic.change({"bert": 1}, {"bert": 1})
    assert traffic.learner.take() == []
    assert estimator.estimate("gpt2") is None


def test_a_reading_that_is_older_than_its_window_is_thrown_away() -> None:
    """A monitor that polls in its own time answers with what it saw before."""
    estimator = ResourceEstimator()
    learner = learner_for(estimator)
    learner.changed(0)
    mark = learner.mark(0, now_ns=1_000)
    stale = MemoryReading(999, 5 * GIB, TOTAL)
    for _ in range(5):
        learner.reading(0, stale, Configuration({"bert": 1}, {}), mark)
    learner.changed(0)
    learner.reading(0, MemoryReading(2_000, 0, TOTAL), Configuration({}, {}), learner.mark(0, 1))
    assert learner.take() == []


def test_nothing_is_concluded_while_something_is_being_loaded() -> None:
    estimator = ResourceEstimator()
    traffic = Traffic(COSTS, learner_for(estimator))
    for _ in range(50):
        traffic.change({"bert": 1}, {"bert": 1})
        for _ in range(3):
            traffic.read(at_rest=False)
    assert traffic.learner.take() == []


def test_a_model_that_never_ran_alone_is_learned_where_combinations_identify_it() -> None:
    costs = {"A": (1000.0, 300.0), "B": (2500.0, 700.0), "C": (400.0, 100.0)}
    estimator = ResourceEstimator()
    traffic = Traffic(costs, learner_for(estimator), seed=4)
    pairs = [("A", "B"), ("A", "C"), ("B", "C"), ("A", "B", "C")]
    for number in range(240):
        together = pairs[number % len(pairs)]
        loaded = dict.fromkeys(together, 1)
        active = {tag: 1 for tag in together if traffic.draws.random() < 0.5}
        traffic.change(loaded, active)
        for _ in range(3):
            traffic.read()
    traffic.learner.take()
    check(estimator, costs, within=0.03)


def test_twins_that_always_run_together_say_so_and_keep_what_they_were_told() -> None:
    costs = {"A": (1000.0, 300.0), "B": (2500.0, 700.0)}
    estimator = ResourceEstimator()
    estimator.set_initial_estimate("A", 1111.0)
    traffic = Traffic(costs, learner_for(estimator), seed=5)
    for number in range(300):
        busy = number % 2
        traffic.change({"A": 1, "B": 1}, {"A": busy, "B": busy})
        for _ in range(3):
            traffic.read()
    changed = traffic.learner.take()
    told, other = estimator.estimate("A"), estimator.estimate("B")
    assert told is not None
    assert other is not None
    assert told.peak_bytes == 1111 * MIB
    assert not told.identified
    assert not other.identified
    assert "B" in (told.reason or "")
    assert "A" in (other.reason or "")
    assert estimator.is_unknown("B")
    current = ModelCosts(1111 * MIB, 1111 * MIB)
    assert all(traffic.learner.costs(tag, current) is None for tag in changed)


def test_a_job_that_is_seldom_looked_at_lowers_nothing() -> None:
    """A short peak between two readings is missed: what was told stands."""
    estimator = ResourceEstimator()
    estimator.set_initial_estimate("bert", 1600.0)
    traffic = Traffic({"bert": (1200.0, 0.0)}, learner_for(estimator), seed=6)
    for number in range(1000):
        traffic.change({"bert": number % 2}, {"bert": number % 2})
        traffic.read()
    traffic.learner.take()
    current = ModelCosts(1600 * MIB, 1600 * MIB)
    learned = traffic.learner.costs("bert", current)
    assert learned is None or learned.peak_bytes == 1600 * MIB


def test_a_preload_falls_after_enough_windows_that_were_watched() -> None:
    estimator = ResourceEstimator(smoothing_factor=1.0)
    for tag in COSTS:
        estimator.set_initial_estimate(tag, 9000.0)
    traffic = Traffic(COSTS, learner_for(estimator), seed=7)
    current = ModelCosts(9000 * MIB, 9000 * MIB, load_ns=7)
    traffic.serve(30)
    assert traffic.learner.take()
    for tag in COSTS:
        learned = traffic.learner.costs(tag, current)
        assert learned is None or learned.peak_bytes == 9000 * MIB
    traffic.serve(3 * ENOUGH_WINDOWS)
    assert traffic.learner.take()
    for tag, (resident, running) in COSTS.items():
        learned = traffic.learner.costs(tag, current)
        assert learned is not None
        assert learned.peak_bytes == pytest.approx((resident + running) * MIB, rel=0.05)
        assert learned.peak_bytes > (resident + running) * MIB
        assert learned.resident_bytes == pytest.approx(resident * MIB, rel=0.03)
        assert learned.load_ns == 7
        assert traffic.learner.costs(tag, learned) is None


def test_a_figure_measured_alone_three_times_is_lowered_by_no_aggregate() -> None:
    estimator = ResourceEstimator()
    for _ in range(3):
        estimator.record_isolation("whisper", 700 * MIB, 1500 * MIB)
    traffic = Traffic(COSTS, learner_for(estimator), seed=8)
    traffic.serve(400)
    traffic.learner.take()
    learned = traffic.learner.costs("whisper", ModelCosts(700 * MIB, 1500 * MIB))
    assert learned is None or learned.peak_bytes >= 1500 * MIB


def test_an_estimate_that_is_too_low_rises_on_evidence() -> None:
    estimator = ResourceEstimator()
    for tag in COSTS:
        estimator.set_initial_estimate(tag, 600.0)
    traffic = Traffic(COSTS, learner_for(estimator), seed=9)
    traffic.serve(60)
    traffic.learner.take()
    learned = traffic.learner.costs("gpt2", ModelCosts(600 * MIB, 600 * MIB))
    assert learned is not None
    assert learned.peak_bytes >= 4100 * MIB


# Copies in processes of their own ------------------------------------------------------------


def own_reading(
    learner: UseLearner, used: Mapping[int, tuple[str, int | None, int]], at_ns: int = 1
) -> None:
    """Read a device on which every copy tells its own bytes: copy to (tag, job, MB)."""
    loaded: dict[str, int] = {}
    active: dict[str, int] = {}
    for tag, job, _ in used.values():
        loaded[tag] = loaded.get(tag, 0) + 1
        if job is not None:
            active[tag] = active.get(tag, 0) + 1
    own = tuple(OwnBytes(copy, tag, job, mb * MIB) for copy, (tag, job, mb) in used.items())
    total = sum(mb for _, _, mb in used.values()) + 500
    learner.reading(
        0,
        MemoryReading(at_ns, total * MIB, TOTAL),
        Configuration(loaded, active, own),
        learner.mark(0, at_ns),
    )


def test_a_copy_seen_above_its_estimate_raises_it_at_once() -> None:
    estimator = ResourceEstimator()
    estimator.set_initial_estimate("bert", 1000.0)
    learner = learner_for(estimator)
    own_reading(learner, {1: ("bert", 1, 1300)})
    assert learner.take() == ["bert"]
    learned = learner.costs("bert", ModelCosts(900 * MIB, 1000 * MIB))
    assert learned == ModelCosts(900 * MIB, 1300 * MIB)


def test_a_resting_copy_seen_above_its_estimate_is_charged_what_it_holds() -> None:
    """A framework that keeps what a job took holds it at rest as well."""
    estimator = ResourceEstimator()
    estimator.set_initial_estimate("bert", 1000.0)
    learner = learner_for(estimator)
    own_reading(learner, {1: ("bert", None, 1400)})
    assert learner.take() == ["bert"]
    learned = learner.costs("bert", ModelCosts(600 * MIB, 1000 * MIB))
    assert learned == ModelCosts(1400 * MIB, 1400 * MIB)


def test_own_peaks_fall_only_after_enough_whole_jobs() -> None:
    estimator = ResourceEstimator()
    estimator.set_initial_estimate("bert", 5000.0)
    learner = learner_for(estimator)
    current = ModelCosts(5000 * MIB, 5000 * MIB)
    for job in range(ENOUGH_JOBS):
        learner.take()
        learned = learner.costs("bert", current)
        assert learned is None or learned.peak_bytes == 5000 * MIB
        for megabytes in (1100, 1500 + job % 7, 1200):
            own_reading(learner, {1: ("bert", job, megabytes)})
        own_reading(learner, {1: ("bert", None, 1000)})
    learner.take()
    assert learner.costs("bert", current) == ModelCosts(1000 * MIB, 1506 * MIB)


def test_a_job_that_was_glimpsed_once_is_no_whole_job() -> None:
    estimator = ResourceEstimator()
    estimator.set_initial_estimate("bert", 5000.0)
    learner = learner_for(estimator)
    for job in range(3 * ENOUGH_JOBS):
        own_reading(learner, {1: ("bert", job, 1100)})
    learner.take()
    learned = learner.costs("bert", ModelCosts(5000 * MIB, 5000 * MIB))
    assert learned is None


def test_own_bytes_tell_twins_apart() -> None:
    estimator = ResourceEstimator()
    learner = learner_for(estimator)
    for job in range(10):
        for megabytes in (100, 130, 120):
            used = {1: ("A", job, 1000 + megabytes), 2: ("B", job, 2000 + megabytes)}
            own_reading(learner, used)
        own_reading(learner, {1: ("A", None, 1000), 2: ("B", None, 2000)})
    assert learner.take() == ["A", "B"]
    for tag, megabytes in (("A", 1000), ("B", 2000)):
        estimate = estimator.estimate(tag)
        assert estimate is not None
        assert estimate.peak_bytes == (megabytes + 130) * MIB
        assert estimate.resident_bytes == megabytes * MIB
        assert estimate.source == "isolation"
        assert not estimator.is_unknown(tag)


def test_what_others_take_is_never_in_a_copys_own_figure() -> None:
    estimator = ResourceEstimator()
    learner = learner_for(estimator)
    for job in range(20):
        for _ in range(3):
            learner.reading(
                0,
                MemoryReading(1, (5 + job) * GIB, TOTAL),
                Configuration({"A": 1}, {"A": 1}, (OwnBytes(1, "A", job, 700 * MIB),)),
                learner.mark(0, 1),
            )
    learner.take()
    estimate = estimator.estimate("A")
    assert estimate is not None
    assert estimate.upper_bytes == 700 * MIB


def test_the_kernels_own_peak_counts_as_a_whole_job() -> None:
    estimator = ResourceEstimator()
    learner = learner_for(estimator)
    for _ in range(3):
        learner.job_measured("A", 500 * MIB, 800 * MIB)
    assert learner.take() == ["A"]
    assert learner.costs("A", None) == ModelCosts(500 * MIB, 800 * MIB)


# Several devices, failures, and odd readings ---------------------------------------------------


def test_each_devices_others_stay_its_own() -> None:
    """One column for the memory of others of two devices would charge the models for both."""
    estimator = ResourceEstimator()
    learner = learner_for(estimator, devices=2)
    first = Traffic(COSTS, learner, seed=10, device=0, foreign_mb=200.0)
    second = Traffic(COSTS, learner, seed=11, device=1, foreign_mb=30_000.0)
    for _ in range(15):
        first.serve(10)
        second.serve(10)
        learner.take()
    check(estimator)
    for tag, (resident, running) in COSTS.items():
        peak = learner.learned()[tag].peak_bytes
        assert peak == pytest.approx((resident + running) * MIB, rel=0.02)


def test_a_model_that_only_ran_on_another_device_is_learned_too() -> None:
    estimator = ResourceEstimator()
    learner = learner_for(estimator, devices=2)
    Traffic(COSTS, learner, seed=12, device=1).serve(150)
    learner.take()
    learned = learner.costs("bert", None)
    assert learned is not None
    assert learned.resident_bytes == pytest.approx(1200 * MIB, rel=0.02)


def test_running_out_of_memory_raises_what_is_charged_up_to_the_limit() -> None:
    current = ModelCosts(resident_bytes=500 * MIB, peak_bytes=800 * MIB)
    raised = current.after_out_of_memory(800 * MIB, 80 * GIB)
    assert (raised.resident_bytes, raised.peak_bytes) == (500 * MIB, 900 * MIB)
    assert raised.after_out_of_memory(900 * MIB, 950 * MIB).peak_bytes == 950 * MIB
    # What was not enough is never counted as less than it was.
    assert raised.after_out_of_memory(990 * MIB, 950 * MIB).peak_bytes == 990 * MIB


def test_readings_of_another_kind_are_not_mixed_in() -> None:
    """A driver that tells processes only now and then would mix two baselines."""
    estimator = ResourceEstimator()
    traffic = Traffic(COSTS, learner_for(estimator), seed=13, tells_processes=True)
    traffic.serve(100)
    traffic.tells_processes, traffic.foreign_mb = False, 20_000.0
    traffic.serve(100)
    traffic.learner.take()
    check(estimator)


def test_a_window_that_never_ends_teaches_once() -> None:
    estimator = ResourceEstimator()
    traffic = Traffic(COSTS, learner_for(estimator))
    traffic.change({"bert": 1}, {})
    for _ in range(500):
        traffic.read()
    traffic.change({}, {})
    traffic.read()
    traffic.learner.take()
    estimate = estimator.estimate("bert")
    assert estimate is None or estimate.observations == 1


def test_an_estimator_that_fails_does_not_end_the_watch() -> None:
    class Broken(ResourceEstimator):
        def observe(
            self,
            loaded: Mapping[str, int],
            active: Mapping[str, int],
            peak_bytes: int,
            *,
            resident_bytes: int | None = None,
        ) -> None:
            raise OSError(f"no disk for {loaded}, {active}, {peak_bytes}, {resident_bytes}")

    traffic = Traffic(COSTS, learner_for(Broken()))
    traffic.serve(10)
    assert traffic.learner.take() == []


def test_a_configuration_is_what_the_scheduler_has_on_the_device() -> None:
    scheduler = Scheduler([("d", TOTAL, TOTAL)], SchedulerSettings())
    scheduler.memory_reading(0, 1, at_ns=1, used_bytes=0)
    scheduler.set_costs("bert", ModelCosts(GIB, 2 * GIB), 1)
    scheduler.request("bert", 2)
    (number,) = scheduler.copies
    loading = configuration_of(scheduler.devices[0])
    assert loading == Configuration({}, {}, (), at_rest=False)
    scheduler.load_finished(number, 3)
    scheduler.memory_reading(0, 4, at_ns=4, used_bytes=GIB)
    lease = scheduler.copies[number].lease
    assert lease is not None
    working = configuration_of(scheduler.devices[0], {number: GIB, 99: 1})
    assert working == Configuration(
        {"bert": 1}, {"bert": 1}, (OwnBytes(number, "bert", lease, GIB),)
    )
    scheduler.release(number, lease, 5)
    resting = configuration_of(scheduler.devices[0], {number: GIB})
    assert resting == Configuration({"bert": 1}, {}, (OwnBytes(number, "bert", None, GIB),))
