"""The offline bound is the least cost there is: found by trying everything, on small schedules."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmgr.errors import UsageError
from modelmgr.simulation.bound import ratio, reload_bound, total
from modelmgr.simulation.gaps import find_gaps
from modelmgr.simulation.schedule import (
    ModelFigures,
    ScheduleRecorder,
    ServedJob,
    ServedSchedule,
    by_device,
    pooled,
)
from support.served_schedules import draw_schedule, least_cost_ns

SEEDS = range(300)


def _schedule(
    jobs: list[tuple[str, int, int]], sizes: dict[str, tuple[int, int, int]], capacity: int
) -> ServedSchedule:
    return ServedSchedule(
        device="gpu0",
        capacity_bytes=capacity,
        models={
            tag: ModelFigures(resident_bytes=idle, peak_bytes=peak, reload_cost_ns=cost)
            for tag, (idle, peak, cost) in sizes.items()
        },
        jobs=[ServedJob(*job) for job in jobs],
    )


@pytest.mark.parametrize("equal_sizes", [True, False])
def test_the_bound_is_what_trying_everything_finds(equal_sizes: bool) -> None:
    for seed in SEEDS:
        schedule = draw_schedule(seed, equal_sizes=equal_sizes)
        bound = reload_bound(schedule)

        assert bound.reload_cost_ns == least_cost_ns(schedule), seed
        assert bound.method == "exact"
        assert bound.best_ns == bound.reload_cost_ns


def test_loading_ahead_does_not_beat_the_bound() -> None:
    for seed in range(60):
        schedule = draw_schedule(seed, jobs=6, models=3, capacity=16)

        assert reload_bound(schedule).reload_cost_ns == least_cost_ns(schedule, prefetch=True), seed


def test_costs_without_a_common_divisor_are_bound_from_below_to_the_last_digits() -> None:
    for seed in range(150):
        schedule = draw_schedule(seed, odd_costs=True)
        bound = reload_bound(schedule)
        least = least_cost_ns(schedule)

        assert bound.reload_cost_ns <= least <= bound.best_ns, seed
        assert (least - bound.reload_cost_ns) * 10**8 <= least, seed
        assert bound.method == "exact"


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(1000, 10**9),
    jobs=st.integers(1, 9),
    capacity=st.integers(14, 40),
    window=st.integers(1, 8),
)
def test_windows_and_certificates_are_never_above_the_least_cost(
    seed: int, jobs: int, capacity: int, window: int
) -> None:
    schedule = draw_schedule(seed, jobs=jobs, capacity=capacity)
    least = least_cost_ns(schedule)
    whole = reload_bound(schedule)
    cut = reload_bound(schedule, window=window)

    assert whole.reload_cost_ns == least
    assert whole.certified_ns <= least
    assert cut.certified_ns <= cut.reload_cost_ns <= least <= cut.best_ns


def test_a_window_is_a_bound_for_long_schedules_too() -> None:
    for seed in range(12):
        schedule = draw_schedule(seed, jobs=220, span=400)
        exact = reload_bound(schedule)
        cut = reload_bound(schedule, window=20)

        assert exact.method == "exact"
        assert exact.certified_ns <= exact.reload_cost_ns
        assert cut.certified_ns <= cut.reload_cost_ns <= exact.reload_cost_ns <= cut.best_ns
        assert cut.reload_cost_ns >= 0.9 * exact.reload_cost_ns


def test_a_solver_without_time_still_gives_a_bound() -> None:
    schedule = draw_schedule(3, jobs=400, span=700)
    hurried = reload_bound(schedule, time_limit_s=1e-9)
    exact = reload_bound(schedule)

    assert hurried.certified_ns <= hurried.reload_cost_ns <= exact.reload_cost_ns
    assert hurried.best_ns >= exact.reload_cost_ns


def test_a_second_copy_needs_a_second_load() -> None:
    jobs = [("a", 0, 10), ("a", 5, 15), ("a", 20, 30), ("a", 21, 22)]
    roomy = _schedule(jobs, {"a": (4, 4, 100)}, capacity=8)

    assert reload_bound(roomy).reload_cost_ns == 200


def test_the_latest_release_is_used_again() -> None:
    jobs = [("a", 0, 1), ("a", 0, 2), ("b", 3, 4), ("a", 5, 6), ("b", 7, 8), ("a", 9, 10)]
    tight = _schedule(jobs, {"a": (4, 4, 100), "b": (4, 4, 10)}, capacity=8)

    gaps = find_gaps(tight)
    assert [tight.tags[model] for model in gaps.models] == ["a", "b", "a"]
    assert reload_bound(tight).reload_cost_ns == 210


def test_a_job_that_ends_makes_room_for_one_that_starts_then() -> None:
    jobs = [("a", 0, 5), ("b", 5, 9), ("a", 9, 12)]
    sizes = {"a": (6, 6, 100), "b": (6, 6, 100)}

    assert reload_bound(_schedule(jobs, sizes, capacity=6)).reload_cost_ns == 300
    assert reload_bound(_schedule(jobs, sizes, capacity=12)).reload_cost_ns == 200


def test_jobs_of_no_length_follow_one_another() -> None:
    jobs = [("a", 0, 0), ("b", 0, 0), ("a", 0, 0), ("c", 0, 0), ("a", 1, 1)]
    sizes = {"a": (5, 5, 100), "b": (5, 5, 30), "c": (5, 5, 30)}

    assert reload_bound(_schedule(jobs, sizes, capacity=10)).reload_cost_ns == 160
    assert reload_bound(_schedule(jobs, sizes, capacity=5)).reload_cost_ns == 360


def test_an_idle_copy_takes_less_than_a_running_one() -> None:
    jobs = [("a", 0, 1), ("b", 2, 3), ("a", 4, 5), ("b", 6, 7)]
    same_time = _schedule(jobs, {"a": (4, 8, 100), "b": (4, 8, 100)}, capacity=12)
    too_tight = _schedule(jobs, {"a": (4, 9, 100), "b": (4, 9, 100)}, capacity=12)

    assert reload_bound(same_time).reload_cost_ns == 200
    assert reload_bound(too_tight).reload_cost_ns == 400


def test_a_pool_bounds_whatever_served_the_jobs_elsewhere() -> None:
    one = draw_schedule(1, jobs=30, span=40)
    models = dict(zip(one.tags, one.figures, strict=True))
    other = ServedSchedule(
        device="gpu1", capacity_bytes=24, models=models, jobs=list(one.jobs())[::2]
    )
    apart = total([reload_bound(one), reload_bound(other)])

    assert reload_bound(pooled([one, other])).reload_cost_ns <= apart.reload_cost_ns
    assert apart.method == "exact"


def test_nothing_served_costs_nothing() -> None:
    empty = _schedule([], {"a": (1, 1, 100)}, capacity=4)
    bound = reload_bound(empty)

    assert (bound.reload_cost_ns, bound.certified_ns, bound.best_ns) == (0, 0, 0)
    assert (bound.ratio(0), bound.ratio(7)) == (1.0, None)
    assert ratio(30, 20) == 1.5


def test_what_was_recorded_is_bound_and_what_still_runs_ends_with_the_record() -> None:
    figures = ModelFigures(resident_bytes=4, peak_bytes=6, reload_cost_ns=100)
    recorder = ScheduleRecorder({"gpu0": 10, "gpu1": 10}, {"b": figures, "a": figures})
    recorder.granted(1, "gpu0", "a", 0)
    recorder.granted(2, "gpu1", "b", 1)
    recorder.released(1, 5)
    recorder.released(99, 5)
    recorder.granted(3, "gpu0", "a", 7)
    first, second = recorder.schedules(9)

    assert list(first.jobs()) == [ServedJob("a", 0, 5), ServedJob("a", 7, 9)]
    assert list(second.jobs()) == [ServedJob("b", 1, 9)]
    assert reload_bound(first).reload_cost_ns == 100
    assert first.cost_of_ns({"a": 2, "b": 5}) == 200


def test_jobs_as_they_ended_make_a_schedule_for_each_device() -> None:
    models = {"a": ModelFigures(resident_bytes=4, peak_bytes=6, reload_cost_ns=100)}
    served = [("a", "gpu0", 0, 0), ("a", "gpu1", 0, 3), ("a", "gpu0", 0, 5), ("a", "gpu0", 2, 4)]
    first, second, idle = by_device(served, {"gpu0": 12, "gpu1": 6, "gpu2": 6}, models)

    assert list(first.jobs()) == [
        ServedJob("a", 0, 0),
        ServedJob("a", 0, 5),
        ServedJob("a", 2, 4),
    ]
    assert (len(second), len(idle)) == (1, 0)
    assert reload_bound(first).reload_cost_ns == 200
    with pytest.raises(UsageError, match="'gpu1', whose capacity"):
        by_device(served, {"gpu0": 12}, models)


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        ([("a", 5, 6), ("a", 4, 6)], "starts before job 0"),
        ([("a", 5, 4)], "lasts from 5 to 4 ns"),
        ([("z", 5, 6)], "no figures"),
        ([("a", 0, 9), ("a", 1, 9), ("a", 2, 9)], "no policy could have served that"),
    ],
)
def test_what_is_no_schedule_is_refused(jobs: list[tuple[str, int, int]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        reload_bound(_schedule(jobs, {"a": (4, 5, 100)}, capacity=10))


def test_a_model_that_runs_in_less_than_it_idles_is_refused() -> None:
    with pytest.raises(UsageError, match="resident <= peak"):
        ModelFigures(resident_bytes=5, peak_bytes=4, reload_cost_ns=1)


@pytest.mark.parametrize("arguments", [{"window": 0}, {"time_limit_s": 0.0}])
def test_no_window_and_no_time_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="makes no sense"):
        reload_bound(draw_schedule(1), **arguments)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # one of each
