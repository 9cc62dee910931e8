"""Simulated waits against the formulas of queueing theory.

Each claim runs independent replications with fixed seeds; the theory's mean has to lie within the
99 % interval (Student's t) of the replications' means, and that interval has to be narrow.
"""

from __future__ import annotations

import math
from statistics import fmean, stdev

import pytest
from scipy.stats import t

from modelmgr.simulation.simulate import simulate
from modelmgr.units import NS_PER_S
from modelmgr.workload.scenario import Distribution, ManagerOptions
from support.small_scenarios import MS, constant, exponential, make_model, make_scenario

MEAN_S = 0.01
REPLICATIONS = 16


def waits_s(service: Distribution, load: float, copies: int, seconds: float) -> list[float]:
    """Return the mean wait of each replication at a load (Erlang per copy)."""
    model = make_model("m", service=service, load=constant(0))
    means: list[float] = []
    for seed in range(REPLICATIONS):
        scenario = make_scenario(
            [model],
            rate_per_s=load * copies / MEAN_S,
            seconds=seconds,
            memory=copies * 1024**3,
            manager=ManagerOptions(max_copies=copies, wait_timeout_ns=None),
            seed=seed,
        )
        result = simulate(scenario).result
        assert result.wait_ns is not None
        assert result.loads == copies
        assert result.requests.completed == result.requests.total
        means.append(result.wait_ns.mean / NS_PER_S)
    return means


def assert_mean(means: list[float], expected: float) -> None:
    reach = float(t.ppf(0.995, len(means) - 1)) * stdev(means) / math.sqrt(len(means))
    assert abs(fmean(means) - expected) <= reach, f"{fmean(means)} ± {reach}, not {expected}"
    assert reach < 0.15 * expected, "an interval that wide says nothing"


def erlang_c_wait_s(load: float, copies: int) -> float:
    """Return M/M/c's mean wait (Erlang C; Kleinrock, Queueing Systems 1, 1975, 3.5)."""
    offered = load * copies
    last = offered**copies / math.factorial(copies) / (1 - load)
    waits = last / (sum(offered**k / math.factorial(k) for k in range(copies)) + last)
    return waits * MEAN_S / (copies * (1 - load))


def pollaczek_khinchine_s(load: float, cv: float) -> float:
    """Return M/G/1's mean wait (Kleinrock, Queueing Systems 1, 1975, 5.63)."""
    return load * MEAN_S * (1 + cv**2) / (2 * (1 - load))


@pytest.mark.slow
@pytest.mark.parametrize(("load", "copies"), [(0.5, 1), (0.7, 1), (0.7, 2), (0.75, 4)])
def test_exponential_service_waits_as_erlang_c_says(load: float, copies: int) -> None:
    means = waits_s(exponential(10 * MS), load, copies, seconds=50 / copies)
    assert_mean(means, erlang_c_wait_s(load, copies))


@pytest.mark.slow
@pytest.mark.parametrize(
    "service",
    [
        constant(10 * MS),
        Distribution(kind="gamma", mean_ns=10 * MS, cv=0.5),
        Distribution(kind="lognormal", mean_ns=10 * MS, cv=1.5),
        Distribution(kind="uniform", mean_ns=10 * MS, cv=0.4),
    ],
    ids=lambda service: str(service.kind),
)
def test_any_service_waits_as_pollaczek_and_khinchine_say(service: Distribution) -> None:
    cv = 0.0 if service.kind == "constant" else service.cv
    assert_mean(waits_s(service, 0.6, 1, seconds=50), pollaczek_khinchine_s(0.6, cv))
