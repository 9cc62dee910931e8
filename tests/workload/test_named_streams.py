"""A stream is what its names say, on every machine and in every portion."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmgr.workload.distributions import make_sampler, standard_gamma, standard_normal
from modelmgr.workload.exact_math import exp, log
from modelmgr.workload.scenario import Distribution
from modelmgr.workload.streams import exponential, open_stream
from support.interpreters import outputs_under_hash_seeds

_NAMES = st.lists(st.text(max_size=5) | st.integers(0, 99), max_size=4)
_DISTRIBUTIONS = (
    Distribution(kind="constant", mean_ns=10**9),
    Distribution(kind="exponential", mean_ns=10**9),
    Distribution(kind="gamma", mean_ns=10**9, cv=0.4),
    Distribution(kind="gamma", mean_ns=10**9, cv=2.0),
    Distribution(kind="lognormal", mean_ns=10**9, cv=0.7),
    Distribution(kind="uniform", mean_ns=10**9, cv=0.5),
    Distribution(kind="empirical", mean_ns=10**9, samples_ns=(5 * 10**8, 5 * 10**8, 2 * 10**9)),
)
_PRINT_DRAWS = """
from modelmgr.workload.streams import open_stream
print(open_stream(7, "arrivals", "bert").take(5).tolist())
"""


def test_a_stream_is_these_very_numbers() -> None:
    # Written down, so that a numpy or Python that draws others is noticed: every seed would change.
    stream = open_stream(1, "phase", 0, "arrivals", "bert")
    assert [stream().hex() for _ in range(3)] == [
        "0x1.f1d9b9c201e6dp-1",
        "0x1.5e8cd7c950f20p-6",
        "0x1.3fb32f12ddf40p-3",
    ]


def test_the_hash_seed_changes_nothing() -> None:
    assert len(outputs_under_hash_seeds("-c", _PRINT_DRAWS)) == 1


@given(_NAMES, _NAMES)
def test_other_names_give_another_stream(one: list[str | int], other: list[str | int]) -> None:
    same = [str(name) for name in one] == [str(name) for name in other]
    assert (open_stream(1, *one)() == open_stream(1, *other)()) == same


def test_another_seed_gives_another_stream() -> None:
    assert open_stream(1, "a")() != open_stream(2, "a")()


@given(st.lists(st.integers(0, 700), min_size=1, max_size=8))
@pytest.mark.parametrize("distribution", _DISTRIBUTIONS, ids=lambda d: f"{d.kind}-{d.cv}")
def test_the_portions_in_which_durations_are_drawn_do_not_matter(
    distribution: Distribution, portions: list[int]
) -> None:
    whole = make_sampler(distribution, open_stream(1, "x"))(sum(portions))
    sampler = make_sampler(distribution, open_stream(1, "x"))
    assert [value for count in portions for value in sampler(count)] == whole
    one_by_one = make_sampler(distribution, open_stream(1, "x"))
    assert [one_by_one.one() for _ in whole[:50]] == whole[:50]


@pytest.mark.parametrize("distribution", _DISTRIBUTIONS, ids=lambda d: f"{d.kind}-{d.cv}")
def test_a_distribution_has_the_mean_and_the_spread_that_it_states(
    distribution: Distribution,
) -> None:
    count = 200_000
    values = np.array(make_sampler(distribution, open_stream(3, "moments"))(count)) / 1e9
    cv = {
        "constant": 0.0,
        "exponential": 1.0,
        "empirical": math.sqrt(2) * 0.5,  # of 1/2, 1/2 and 2
    }.get(distribution.kind, distribution.cv)
    assert values.min() >= 0
    # Five standard errors; the seed is fixed, so it holds always or never.
    assert values.mean() == pytest.approx(1, abs=5 * cv / math.sqrt(count) + 1e-12)
    assert values.std() == pytest.approx(cv, rel=0.04)


def test_normal_and_gamma_numbers_follow_their_distributions() -> None:
    from scipy import stats  # noqa: PLC0415 - slow to import, needed by this claim only

    count = 20_000
    for values, name, arguments in (
        (standard_normal(open_stream(1, "n")).take(count), "norm", ()),
        (standard_gamma(0.2, open_stream(1, "g")).take(count), "gamma", (0.2,)),
        (standard_gamma(7.5, open_stream(1, "h")).take(count), "gamma", (7.5,)),
        (exponential(open_stream(1, "e")).take(count), "expon", ()),
    ):
        assert stats.kstest(values, name, args=arguments).pvalue > 0.001, (name, arguments)


@given(st.floats(1e-300, 1e300))
def test_the_logarithm_is_the_logarithm(x: float) -> None:
    assert log(np.array([x]))[0] == pytest.approx(math.log(x), rel=4e-16, abs=1e-300)


@given(st.floats(-699, 699))
def test_the_exponential_is_the_exponential(x: float) -> None:
    assert exp(np.array([x]))[0] == pytest.approx(math.exp(x), rel=4e-16)
