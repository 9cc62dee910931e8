"""Generated traffic keeps its rate and its spread, and each model's is its own."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmgr.errors import UsageError
from modelmgr.units import NS_PER_S
from modelmgr.workload.arrivals import poisson_times
from modelmgr.workload.raw_requests import DRAWN_LATER, NOBODY
from modelmgr.workload.requests import RequestSource
from modelmgr.workload.scenario import Arrivals, Distribution, MixPhase, Request
from modelmgr.workload.streams import open_stream
from support.traffic import mix, of_model, scenario, traffic

_RATE = 20.0
_PATTERNS = (
    Arrivals(pattern="constant", rate_per_s=_RATE),
    Arrivals(pattern="poisson", rate_per_s=_RATE),
    Arrivals(pattern="gamma", rate_per_s=_RATE, cv=0.3),
    Arrivals(pattern="gamma", rate_per_s=_RATE, cv=3.0),
    Arrivals(
        pattern="burst",
        rate_per_s=10.0,
        burst_rate_per_s=110.0,
        burst_ns=2 * NS_PER_S,
        period_ns=20 * NS_PER_S,
    ),
    Arrivals(pattern="diurnal", rate_per_s=_RATE, amplitude=0.9, period_ns=100 * NS_PER_S),
)
"""Each of 20 requests a second on average."""


def _name(arrivals: Arrivals) -> str:
    return f"{arrivals.pattern}-{arrivals.cv}"


_each_pattern = pytest.mark.parametrize("arrivals", _PATTERNS, ids=_name)


@_each_pattern
def test_the_same_seed_gives_the_same_traffic_and_another_another(arrivals: Arrivals) -> None:
    phase = mix({"a": 3, "b": 1}, arrivals, seconds=200)
    assert traffic([phase]) == traffic([phase])
    assert traffic([phase], seed=2) != traffic([phase])


@_each_pattern
def test_requests_come_in_time_order_within_the_phase(arrivals: Arrivals) -> None:
    requests = traffic([mix({"a": 3, "b": 1, "c": 2}, arrivals, seconds=300)])
    times = [request[0] for request in requests]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] < 300 * NS_PER_S


@_each_pattern
def test_a_model_comes_at_its_share_of_the_rate(arrivals: Arrivals) -> None:
    seconds = 10_000
    requests = traffic([mix({"a": 3, "b": 1, "c": 0}, arrivals, seconds=seconds)])
    for tag, share in ((0, 0.75), (1, 0.25)):
        expected = _RATE * seconds * share
        # Five standard deviations of a renewal process's count: cv * sqrt(n).
        spread = 5 * max(1.0, arrivals.cv) * math.sqrt(expected)
        assert len(of_model(requests, tag)) == pytest.approx(expected, abs=spread)
    assert of_model(requests, 2) == []


@pytest.mark.parametrize("arrivals", _PATTERNS[:4], ids=_name)
def test_intervals_vary_as_much_as_the_pattern_says(arrivals: Arrivals) -> None:
    requests = traffic([mix({"a": 1}, arrivals, seconds=10_000)])
    intervals = np.array([later[0] - earlier[0] for earlier, later in pairwise(requests)])
    cv = 0.0 if arrivals.pattern == "constant" else arrivals.cv
    assert intervals.std() / intervals.mean() == pytest.approx(cv, rel=0.05, abs=1e-6)


def test_a_mix_of_poisson_traffic_is_poisson_traffic() -> None:
    requests = traffic(
        [mix({"a": 3, "b": 1, "c": 2}, Arrivals(pattern="poisson", rate_per_s=20.0), seconds=5000)]
    )
    intervals = np.array([later[0] - earlier[0] for earlier, later in pairwise(requests)])
    assert intervals.std() / intervals.mean() == pytest.approx(1, rel=0.02)


def test_bursts_come_at_the_beginning_of_every_period() -> None:
    requests = traffic([mix({"a": 1}, _PATTERNS[4], seconds=2000)])
    in_burst = sum(request[0] % (20 * NS_PER_S) < 2 * NS_PER_S for request in requests)
    calm = len(requests) - in_burst
    assert in_burst == pytest.approx(110 * 200, abs=5 * math.sqrt(110 * 200))
    assert calm == pytest.approx(10 * 1800, abs=5 * math.sqrt(10 * 1800))


def test_silence_between_bursts_is_silence() -> None:
    arrivals = Arrivals(
        pattern="burst", burst_rate_per_s=50.0, burst_ns=NS_PER_S, period_ns=10 * NS_PER_S
    )
    requests = traffic([mix({"a": 1}, arrivals)])
    assert requests
    assert all(request[0] % (10 * NS_PER_S) <= NS_PER_S for request in requests)


def test_a_day_is_busy_in_its_first_half() -> None:
    requests = traffic([mix({"a": 1}, _PATTERNS[5], seconds=10_000)])
    first = sum(request[0] % (100 * NS_PER_S) < 50 * NS_PER_S for request in requests)
    # The mean of a sine over half its period is 2/pi.
    expected = _RATE * 5000 * (1 + 0.9 * 2 / math.pi)
    assert first == pytest.approx(expected, abs=5 * math.sqrt(expected))


@_each_pattern
@given(weight=st.integers(1, 50))
@settings(max_examples=10)
def test_changing_one_models_weight_moves_no_request_of_another(
    arrivals: Arrivals, weight: int
) -> None:
    """Weight and rate change together, so that the others' own rates stay as they are."""
    before = traffic([mix({"a": 3, "b": 1}, arrivals, seconds=50)])
    factor = (weight + 1) / 4
    louder = Arrivals(
        pattern=arrivals.pattern,
        rate_per_s=arrivals.rate_per_s * factor,
        cv=arrivals.cv,
        burst_rate_per_s=arrivals.burst_rate_per_s * factor,
        burst_ns=arrivals.burst_ns,
        period_ns=arrivals.period_ns,
        amplitude=arrivals.amplitude,
    )
    after = traffic([mix({"a": weight, "b": 1}, louder, seconds=50)])
    assert of_model(after, 1) == of_model(before, 1)


def test_a_model_that_joins_in_a_line_of_its_own_moves_no_request_of_another() -> None:
    alone = mix({"a": 3, "b": 1}, _PATTERNS[1], seconds=100)
    guest = mix({"c": 1}, _PATTERNS[3], seconds=80, start_s=5)
    without, beside = traffic([alone]), traffic([alone, guest])
    assert of_model(beside, 2)
    assert [request for request in beside if request[1] != 2] == without


def test_phases_follow_one_another_and_one_with_a_start_begins_a_line_of_its_own() -> None:
    phases = [
        mix({"a": 1}, _PATTERNS[0], seconds=10),
        mix({"b": 1}, _PATTERNS[1], seconds=20),
        mix({"c": 1}, _PATTERNS[2], seconds=5, start_s=3),
        mix({"a": 1}, _PATTERNS[0], seconds=5),
    ]
    requests = traffic(phases)
    times = [request[0] / NS_PER_S for request in requests]
    assert times == sorted(times)
    tags = [request[1] for request in requests]
    spans = {
        tag: (min(at), max(at))
        for tag in range(3)
        if (at := [request[0] / NS_PER_S for request in requests if request[1] == tag])
    }
    assert 0 <= spans[0][0] < 1
    assert 9 < spans[0][1] < 13.1
    assert 10 <= spans[1][0] < spans[1][1] < 30
    assert 3 <= spans[2][0] < spans[2][1] < 8
    # The last phase follows the third, from 8 to 13 s: 20 a second of it beyond the first's end.
    assert sum(tag == 0 and at >= 10 for at, tag in zip(times, tags, strict=True)) == 60


@given(
    st.lists(
        st.tuples(st.sampled_from(_PATTERNS), st.integers(1, 40), st.none() | st.integers(0, 60)),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=40, deadline=None)
def test_any_phases_give_one_ordered_stream_that_ends(
    phases: list[tuple[Arrivals, int, int | None]],
) -> None:
    written = [
        mix({"a": 1, "b": 2}, arrivals, seconds=seconds, start_s=start)
        for arrivals, seconds, start in phases
    ]
    times = [request[0] for request in traffic(written)]
    assert times == sorted(times)


def test_the_rarest_traffic_ends_too() -> None:
    arrivals = Arrivals(pattern="poisson", rate_per_s=1e-9)
    assert traffic([mix({"a": 1, "b": 1}, arrivals, seconds=86_400 * 365)]) == []


def test_service_times_come_with_the_requests_and_only_where_they_are_wanted() -> None:
    phases = [mix({"a": 1}, _PATTERNS[1])]
    services = [request[2] for request in traffic(phases)]
    assert np.mean(services) == pytest.approx(35e6, rel=0.03)
    source = RequestSource(scenario(phases, ["a"]), draw_service=False)
    assert {request[2] for request in source.next_batch()} == {DRAWN_LATER}


def test_shapes_are_drawn_by_weight() -> None:
    small, large = (("batch_size", 1),), (("batch_size", 8),)
    phase = MixPhase(
        mix=(("a", 1.0), ("b", 1.0)),
        arrivals=_PATTERNS[1],
        duration_ns=1000 * NS_PER_S,
        shapes={"a": ((small, 3.0), (large, 1.0))},
    )
    source = RequestSource(scenario([phase], ["a", "b"]))
    requests = list(source)
    assert all(isinstance(request, Request) for request in requests)
    shapes = [request.shape for request in requests if request.tag == "a"]
    assert shapes.count(small) / len(shapes) == pytest.approx(0.75, abs=0.03)
    assert set(shapes) == {small, large}
    assert {request.shape for request in requests if request.tag == "b"} == {None}


def _closed(users: int, think_s: float | None, seconds: float = 100) -> MixPhase:
    think = None
    if think_s is not None:
        think = Distribution(kind="exponential", mean_ns=round(think_s * NS_PER_S))
    arrivals = Arrivals(pattern="closed", concurrency=users, think=think)
    return mix({"a": 1, "b": 3}, arrivals, seconds=seconds)


def test_a_user_asks_again_only_after_the_answer_and_the_thought() -> None:
    source = RequestSource(scenario([_closed(3, None)], ["a", "b"]))
    first = source.next_batch()
    assert [(request[0], request[4]) for request in first] == [(0, 0), (0, 1), (0, 2)]
    assert source.next_batch() == []
    following = source.served(1, 5 * NS_PER_S)
    assert following is not None
    assert (following[0], following[4]) == (5 * NS_PER_S, 1)
    assert source.served(1, 100 * NS_PER_S) is None


def test_users_think_as_long_as_they_say() -> None:
    source = RequestSource(scenario([_closed(50, 2.0, seconds=10_000)], ["a", "b"]))
    thoughts: list[int] = []
    for request in source.next_batch():
        now_ns, user = request[0], request[4]
        for _ in range(100):
            following = source.served(user, now_ns + NS_PER_S)
            assert following is not None
            thoughts.append(following[0] - now_ns - NS_PER_S)
            now_ns = following[0]
    assert np.mean(thoughts) == pytest.approx(2e9, rel=5 / math.sqrt(len(thoughts)))


def test_how_fast_a_user_is_served_changes_only_when_it_asks() -> None:
    def asked(service_s: int) -> list[tuple[int, int]]:
        source = RequestSource(scenario([_closed(2, 1.0, seconds=10_000)], ["a", "b"]))
        (request, _) = source.next_batch()
        found: list[tuple[int, int]] = []
        for _ in range(20):
            found.append((request[1], request[2]))
            following = source.served(request[4], request[0] + service_s * NS_PER_S)
            assert following is not None
            request = following
        return found

    assert asked(1) == asked(30)


def test_nobody_is_no_user() -> None:
    source = RequestSource(scenario([_closed(1, None)], ["a", "b"]))
    with pytest.raises(UsageError, match="no closed-loop user"):
        source.served(NOBODY, 0)


def test_faults_at_a_rate_come_at_that_rate() -> None:
    times = poisson_times(2.0, open_stream(1, "fault"), start_ns=7)
    found = [next(times) for _ in range(10_000)]
    assert found == sorted(found)
    assert found[0] >= 7
    assert found[-1] / 1e9 == pytest.approx(5000, rel=0.05)
