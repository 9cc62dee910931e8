"""How fast a simulation is: requests a second through the whole scheduler, beside two peers.

    python results/benchmarks/simulation_speed.py --out results/simulation_speed.json

The peers are run in the same process, in turns with ours, and only ratios say something: an M/M/2
queue in SimPy with a ``Resource`` (``pip install simpy``), and the same queue in a bare loop over
``heapq`` that keeps nothing but times. Neither knows models, memory or policies.

Ours: 20 models of 2.25 GiB on one device that holds 17, Zipf popularity, Poisson arrivals, policy
queue-value: copies are evicted and loaded all the time. *hits* is the same where all fit. *log*
writes the decision log to a file. For growth, 98 % of the requests go to half of the models and the
others take turns in what room is left, so that the share of loads does not change with their
number; and a closed loop keeps so many requests queued for 20 models that fit; the cost of a
request is that of one more, from runs of which one is twice as long, as opening a thousand streams
is no request's.

Times are processor time of one core, the best of ``--repeats``; traffic is generated as the
simulation asks for it and is part of it, for the peers as well. The long run is a process of its
own, its memory the kernel's own peak (VmHWM, proc(5)).
"""

from __future__ import annotations

import argparse
import heapq
import importlib
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from modelmgr import __version__
from modelmgr.records.result import Result
from modelmgr.simulation.simulate import simulate
from modelmgr.units import GIB, NS_PER_S
from modelmgr.workload.scenario import (
    Arrivals,
    BelievedCost,
    Distribution,
    ManagerOptions,
    MixPhase,
    Scenario,
    ScenarioCost,
    ScenarioDevice,
    ScenarioModel,
)

MS = 1_000_000
RESIDENT_BYTES = 2 * GIB
PEAK_BYTES = RESIDENT_BYTES + GIB // 4
FOREVER_NS = 10**6 * NS_PER_S


def scenario(
    weights: list[float], copies: float, arrivals: Arrivals, *, max_copies: int | None = None
) -> Scenario:
    """Return a scenario of models with these weights on a device that runs so many copies."""
    load = Distribution(kind="constant", mean_ns=200 * MS)
    service = Distribution(kind="exponential", mean_ns=20 * MS)
    models = [
        ScenarioModel(
            tag=f"m{number:04}",
            cost=ScenarioCost(
                resident_bytes=RESIDENT_BYTES, peak_bytes=PEAK_BYTES, load=load, service=service
            ),
            believed=BelievedCost(
                resident_bytes=RESIDENT_BYTES, peak_bytes=PEAK_BYTES, load_ns=load.mean_ns
            ),
        )
        for number in range(len(weights))
    ]
    total_bytes = round(copies * PEAK_BYTES)
    return Scenario(
        name="speed",
        seed=1,
        devices=(ScenarioDevice(name="gpu0", kind="virtual", total_bytes=total_bytes, slack=0.0),),
        manager=ManagerOptions(max_copies=max_copies, wait_timeout_ns=None),
        models=tuple(models),
        workload=(
            MixPhase(
                mix=tuple((m.tag, w) for m, w in zip(models, weights, strict=True)),
                arrivals=arrivals,
                duration_ns=FOREVER_NS,
            ),
        ),
    )


def zipf(copies: float) -> Scenario:
    """Return the headline's scenario."""
    weights = [1 / (1 + place) for place in range(20)]
    return scenario(weights, copies, Arrivals(pattern="poisson", rate_per_s=100.0))


def many_models(count: int) -> Scenario:
    """Return one whose share of loads does not depend on the number of models."""
    half = count // 2
    weights = [0.98 / half] * half + [0.02 / (count - half)] * (count - half)
    return scenario(weights, 0.6 * count, Arrivals(pattern="poisson", rate_per_s=100.0))


def long_queue(queued: int) -> Scenario:
    """Return one in which so many requests are waiting all the time."""
    arrivals = Arrivals(
        pattern="closed",
        concurrency=queued + 20,
        think=Distribution(kind="constant", mean_ns=0),
    )
    return scenario([1.0] * 20, 21, arrivals, max_copies=1)


def simpy_queue(requests: int) -> None:
    """Run an M/M/2 queue in SimPy."""
    simpy: Any = importlib.import_module("simpy")  # a peer, needed here alone
    environment: Any = simpy.Environment()
    servers: Any = simpy.Resource(environment, capacity=2)
    draw = random.Random(1).expovariate  # noqa: S311 - a benchmark
    waits: list[float] = []

    def customer() -> Generator[Any, Any, None]:
        arrived = environment.now
        with servers.request() as turn:
            yield turn
            waits.append(environment.now - arrived)
            yield environment.timeout(draw(1.0))

    def arrivals() -> Generator[Any, Any, None]:
        for _ in range(requests):
            yield environment.timeout(draw(1.6))
            environment.process(customer())

    environment.process(arrivals())
    environment.run()
    assert len(waits) == requests  # noqa: S101 - a benchmark that does less is none


def bare_queue(requests: int) -> None:
    """Run an M/M/2 queue in a bare loop over heapq."""
    draw = random.Random(1).expovariate  # noqa: S311 - a benchmark
    push, pop = heapq.heappush, heapq.heappop
    waiting: deque[float] = deque()
    waits: list[float] = []
    free, serial, left = 2, 1, requests - 1
    heap: list[tuple[float, int, bool]] = [(draw(1.6), 0, True)]
    while heap:
        now, _, arrives = pop(heap)
        if arrives:
            if left:
                left -= 1
                push(heap, (now + draw(1.6), serial, True))
                serial += 1
            waiting.append(now)
        else:
            free += 1
        while free and waiting:
            free -= 1
            waits.append(now - waiting.popleft())
            push(heap, (now + draw(1.0), serial, False))
            serial += 1
    assert len(waits) == requests  # noqa: S101 - a benchmark that does less is none


def ours(what: Scenario, requests: int, log: Path | None = None) -> Result:
    """Simulate so many requests."""
    if log is None:
        result = simulate(what, max_requests=requests).result
    else:
        with log.open("wb") as file:
            result = simulate(what, max_requests=requests, log=file.write).result
    assert result.requests.completed == requests  # noqa: S101 - a benchmark that does less is none
    return result


def rate_per_s(run: Callable[[], object], requests: int) -> float:
    """Return the requests a second of processor time."""
    began = time.process_time()
    run()
    return requests / (time.process_time() - began)


def long_run(requests: int) -> dict[str, Any]:
    """Simulate in a process of its own; return its rate and its peak memory."""
    answer = subprocess.run(  # noqa: S603 - this interpreter, this file
        [sys.executable, __file__, "--only-long", str(requests)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def _only_long(requests: int) -> None:
    rate = rate_per_s(lambda: ours(zipf(17), requests), requests)
    status = Path("/proc/self/status").read_text("ascii")
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])
    answer = {"requests": requests, "per_s": round(rate), "peak_mib": round(peak_kib / 1024, 1)}
    sys.stdout.write(json.dumps(answer))


def measure(requests: int, repeats: int, *, peers: bool, long: int) -> dict[str, Any]:
    """Run everything; return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "decisions.jsonl"
        runs: dict[str, Callable[[], object]] = {
            "evictions": lambda: ours(zipf(17), requests),
            "evictions_with_log": lambda: ours(zipf(17), requests, log),
            "hits": lambda: ours(zipf(40), requests),
        }
        if peers:
            runs["simpy_mm2"] = lambda: simpy_queue(requests)
        runs["heapq_mm2"] = lambda: bare_queue(requests)
        best = dict.fromkeys(runs, 0.0)
        for _ in range(repeats):
            for name, run in runs.items():
                best[name] = max(best[name], rate_per_s(run, requests))
    loads = ours(zipf(17), requests).loads
    growth = max(2_000, requests // 5)
    return {
        "requests_per_s": {name: round(rate) for name, rate in best.items()},
        "loads_share": round(loads / requests, 4),
        "us_by_models": {
            count: _cost_us(many_models(count), growth, repeats) for count in (20, 100, 1000)
        },
        "us_by_queued": {
            queued: _cost_us(long_queue(queued), growth + queued, repeats)
            for queued in (10, 100, 1000, 10_000)
        },
        "long_run": long_run(long) if long else None,
    }


def _cost_us(what: Scenario, requests: int, repeats: int) -> float:
    costs: list[float] = []
    for _ in range(repeats):
        began = time.process_time()
        ours(what, requests)
        middle = time.process_time()
        ours(what, 2 * requests)
        costs.append((time.process_time() - middle) - (middle - began))
    return round(1e6 * min(costs) / requests, 2)


def main() -> None:
    """Run everything, print it, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--long", type=int, default=10_000_000, help="0 leaves the long run out")
    parser.add_argument("--no-simpy", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only-long", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only_long:
        _only_long(args.only_long)
        return
    figures = measure(args.requests, args.repeats, peers=not args.no_simpy, long=args.long)
    content = {
        "tool": {"name": "modelmgr", "version": __version__},
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "requests": args.requests,
        **figures,
    }
    text = json.dumps(content, indent=2) + "\n"
    sys.stdout.write(text)
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
