"""A run's memory does not grow with its length."""

from __future__ import annotations

import pytest

from support.interpreters import run_python

# The kernel's own peak (proc(5), VmHWM) of a run of so many requests; few samples are kept exactly,
# so that what is only kept for long runs shows in a short one.
PEAK_KIB = """
import sys
from modelmgr.simulation import world
world.EXACT_SAMPLES = 5_000
from modelmgr.simulation.simulate import simulate
from support.small_scenarios import MS, exponential, make_model, make_scenario
models = [make_model(f"m{number}", service=exponential(MS)) for number in range(4)]
scenario = make_scenario(models, rate_per_s=500, seconds=1e6)
result = simulate(scenario, max_requests=int(sys.argv[1])).result
assert result.requests.completed == int(sys.argv[1])
assert result.wait_ns.relative_error is not None
status = open("/proc/self/status").read()
print(int(status.partition("VmHWM:")[2].split()[0]))
"""


def peak_kib(requests: int) -> int:
    return int(run_python("-c", PEAK_KIB, str(requests)))


@pytest.mark.slow
def test_ten_times_the_requests_take_no_more_memory() -> None:
    short, long = peak_kib(20_000), peak_kib(200_000)
    assert long < short + 4 * 1024
