"""How fast a simulation is: requests a second through the whole scheduler, beside two peers.

    python results/benchmarks/simulation_speed.py --out results/simulation_speed.json

The peers are an M/M/2 queue in SimPy with a ``Resource`` (``pip install simpy``), and the same
queue in a bare loop over ``heapq`` that keeps nothing but times. Neither knows models, memory or
policies. Ours is run as plain Python and as the wheel that ``MODELMGR_COMPILE=1`` builds.

*evictions*: 20 models of 2.25 GiB on one device that holds 17, Zipf popularity, Poisson arrivals,
policy queue-value: copies are evicted and loaded all the time, and most requests wait for one.
*hits* is the same where all fit. *log* writes the decision log to a file.

Every run is a process of its own, and all of them take turns: a round runs each once, its ratios
are those of one round, and the median over the rounds is what counts. A rate is requests over
processor time of one core; traffic is generated as it is asked for and is part of it, for the peers
as well.

For growth, 98 % of the requests go to half of the models and the others take turns in what room is
left, so that the share of loads does not change with their number; and so many requests are queued
at once for 20 models that fit, after which one comes for each that ends. The cost of a request is
that of one more, from two runs of which one is twice as long: making models is no request's.

The long runs' memory is the kernel's own peak (VmHWM, proc(5)); ``trace`` reads its requests from a
file of so many rows that is written first.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import importlib
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import deque
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Literal

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
    Phase,
    Scenario,
    ScenarioCost,
    ScenarioDevice,
    ScenarioModel,
    TracePhase,
)

ROOT = Path(__file__).parents[2]
MS = 1_000_000
RESIDENT_BYTES = 2 * GIB
PEAK_BYTES = RESIDENT_BYTES + GIB // 4
FOREVER_NS = 10**6 * NS_PER_S


def scenario(
    weights: list[float],
    copies: float,
    traffic: Arrivals | Phase,
    *,
    max_copies: int | None = None,
    service: Literal["constant", "exponential"] = "exponential",
) -> Scenario:
    """Return a scenario of models with these weights on a device that runs so many copies."""
    load = Distribution(kind="constant", mean_ns=200 * MS)
    served = Distribution(kind=service, mean_ns=20 * MS)
    models = [
        ScenarioModel(
            tag=f"m{number:04}",
            cost=ScenarioCost(
                resident_bytes=RESIDENT_BYTES, peak_bytes=PEAK_BYTES, load=load, service=served
            ),
            believed=BelievedCost(
                resident_bytes=RESIDENT_BYTES, peak_bytes=PEAK_BYTES, load_ns=load.mean_ns
            ),
        )
        for number in range(len(weights))
    ]
    total_bytes = round(copies * PEAK_BYTES)
    if isinstance(traffic, Arrivals):
        mix = tuple((m.tag, w) for m, w in zip(models, weights, strict=True))
        traffic = MixPhase(mix=mix, arrivals=traffic, duration_ns=FOREVER_NS)
    return Scenario(
        name="speed",
        seed=1,
        devices=(ScenarioDevice(name="gpu0", kind="virtual", total_bytes=total_bytes, slack=0.0),),
        manager=ManagerOptions(max_copies=max_copies, wait_timeout_ns=None),
        models=tuple(models),
        workload=(traffic,),
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
    """Return one in which so many requests are waiting all the time.

    They come at once at the start; from then on one comes for each that ends.
    """
    one_each_20_ms = Arrivals(pattern="constant", rate_per_s=20 * 50.0)
    at_once = Arrivals(pattern="constant", rate_per_s=(queued + 20) * 1_000.0)
    what = scenario([1.0] * 20, 21, one_each_20_ms, max_copies=1, service="constant")
    (steady,) = what.workload
    assert isinstance(steady, MixPhase)  # noqa: S101 - as scenario() makes it
    first = dataclasses.replace(steady, arrivals=at_once, duration_ns=MS, start_ns=0)
    return dataclasses.replace(what, workload=(first, dataclasses.replace(steady, start_ns=MS)))


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


def traced(requests: int, folder: Path) -> Scenario:
    """Return one like ``zipf`` whose requests are read from a file that is written here."""
    path = folder / "trace.csv"
    draw = random.Random(1)  # noqa: S311 - a benchmark
    weights = [1 / (1 + place) for place in range(20)]
    at_s = 0.0
    with path.open("w", encoding="ascii") as file:
        file.write("t_s,model,duration_s\n")
        for left in range(requests, 0, -10_000):
            for place in draw.choices(range(20), weights, k=min(left, 10_000)):
                at_s += draw.expovariate(100.0)
                file.write(f"{at_s:.6f},m{place:04},{draw.expovariate(50.0):.6f}\n")
    return scenario(weights, 17, TracePhase(path=path))


def timed(run: Callable[[], object]) -> float:
    """Return a run's processor time, seconds."""
    began = time.process_time()
    run()
    return time.process_time() - began


def peak_mib() -> float:
    """Return the most memory that this process ever had."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def one_more_us(what: Scenario, requests: int) -> float:
    """Return what one more request costs, microseconds."""
    once = timed(lambda: ours(what, requests))
    twice = timed(lambda: ours(what, 2 * requests))
    return 1e6 * (twice - once) / requests


def part(name: str, requests: int) -> dict[str, float]:
    """Measure one thing in this process; ``run_part`` starts it."""
    kind, _, size = name.partition(":")
    if kind == "models":
        return {"us": one_more_us(many_models(int(size)), requests)}
    if kind == "queued":
        return {"us": one_more_us(long_queue(int(size)), requests + int(size))}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "decisions.jsonl"
        if kind == "trace":
            what = traced(requests, Path(folder))
            return {"s": timed(lambda: ours(what, requests)), "peak_mib": peak_mib()}
        runs: dict[str, Callable[[], object]] = {
            "evictions": lambda: ours(zipf(17), requests),
            "evictions_with_log": lambda: ours(zipf(17), requests, log),
            "hits": lambda: ours(zipf(40), requests),
            "simpy": lambda: simpy_queue(requests),
            "heapq": lambda: bare_queue(requests),
        }
        return {"s": timed(runs[kind]), "peak_mib": peak_mib()}


def run_part(name: str, requests: int, packages: Path) -> dict[str, float]:
    """Measure one thing in a process of its own, with the library of a folder."""
    done = subprocess.run(  # noqa: S603 - this interpreter, this file
        [sys.executable, __file__, "--part", name, "--requests", str(requests)],
        env={**os.environ, "PYTHONPATH": str(packages)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def compiled_wheel(folder: Path) -> Path:
    """Build the compiled wheel: two minutes of processor time."""
    subprocess.run(  # noqa: S603 - this interpreter, our own build
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        env={**os.environ, "MODELMGR_COMPILE": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


OURS = ("hits", "evictions", "evictions_with_log")


def measure_rates(
    libraries: dict[str, Path], requests: int, rounds: int, *, simpy: bool
) -> dict[str, Any]:
    """Run everything in turns; return rates, and ratios within a round."""
    peers = (["simpy"] if simpy else []) + ["heapq"]
    names = [(peer, peer, libraries["plain"]) for peer in peers]
    names += [(f"{lib} {run}", run, at) for lib, at in libraries.items() for run in OURS]
    seconds: dict[str, list[float]] = {name: [] for name, _, _ in names}
    for _ in range(rounds):
        for name, run, library in names:
            seconds[name].append(run_part(run, requests, library)["s"])
    rates = {name: round(requests / statistics.median(took)) for name, took in seconds.items()}
    ratios = {
        f"{name} over {peer}": round(
            statistics.median(
                theirs / took for theirs, took in zip(seconds[peer], seconds[name], strict=True)
            ),
            2,
        )
        for peer in peers
        for name in seconds
        if name not in peers
    }
    for lib in libraries:
        pairs = zip(seconds[f"{lib} evictions"], seconds[f"{lib} evictions_with_log"], strict=True)
        ratios[f"{lib} with log over without"] = round(
            statistics.median(without / with_log for without, with_log in pairs), 2
        )
    return {
        "requests_per_s": rates,
        "ratios": ratios,
        "seconds": {name: [round(one, 3) for one in took] for name, took in seconds.items()},
    }


def measure_growth(libraries: dict[str, Path], requests: int, rounds: int) -> dict[str, Any]:
    """Return microseconds a request by models and by queued, and the largest over the smallest."""
    table: dict[str, Any] = {}
    for lib, library in libraries.items():
        for kind, sizes in (("models", (20, 100, 1000)), ("queued", (10, 100, 1000, 10_000))):
            found = {
                size: [run_part(f"{kind}:{size}", requests, library)["us"] for _ in range(rounds)]
                for size in sizes
            }
            us = {size: round(statistics.median(costs), 1) for size, costs in found.items()}
            growth = round(us[sizes[-1]] / us[sizes[0]], 2)
            table[f"{lib} {kind}"] = {"us": us, "last_over_first": growth}
    return table


def measure_long(libraries: dict[str, Path], requests: int) -> dict[str, Any]:
    """Return rate and peak memory of long runs, with the fastest library."""
    name, library = list(libraries.items())[-1]
    table: dict[str, Any] = {}
    for run in ("evictions", "trace"):
        found = run_part(run, requests, library)
        table[f"{name} {run}"] = {
            "requests": requests,
            "per_s": round(requests / found["s"]),
            "peak_mib": round(found["peak_mib"], 1),
        }
    return table


def page(content: dict[str, Any]) -> str:
    """Return the result to read."""
    rates, ratios = content["requests_per_s"], content["ratios"]
    where = (
        f"`{content['command']}` (Python {content['python']}, {content['cores']} cores, load "
        f"{content['load_average']}; {content['requests']:,} requests a run, "
        f"{content['rounds']} rounds, processor time of one core)"
    )
    lines = [
        "# How fast a simulation is",
        "",
        where,
        "",
        "| | requests/s | over SimPy | over heapq |",
        "|---|---|---|---|",
    ]
    for name, rate in rates.items():
        simpy, bare = (ratios.get(f"{name} over {peer}", "") for peer in ("simpy", "heapq"))
        lines.append(f"| {name.replace('_', ' ')} | {rate:,} | {simpy} | {bare} |")
    lines += ["", f"Loads: {content['loads_share']:.1%} of the requests where copies are evicted."]
    for lib in ("plain", "compiled"):
        if (kept := ratios.get(f"{lib} with log over without")) is not None:
            lines.append(f"With the log written, {lib} keeps {kept:.0%} of its rate.")
    lines += ["", "| cost of one more request, us | | last over first |", "|---|---|---|"]
    for name, row in content["growth"].items():
        costs = ", ".join(f"{int(size):,}: {us}" for size, us in row["us"].items())
        lines.append(f"| {name} | {costs} | {row['last_over_first']} |")
    lines += ["", "| long run | requests | requests/s | peak MiB |", "|---|---|---|---|"]
    for name, row in content["long"].items():
        lines.append(f"| {name} | {row['requests']:,} | {row['per_s']:,} | {row['peak_mib']} |")
    return "\n".join(lines) + "\n"


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run everything; return the figures."""
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        libraries = {"plain": ROOT / "core"}
        if not args.no_compiled:
            wheel = args.wheel or compiled_wheel(folder)
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder / "compiled")
            libraries["compiled"] = folder / "compiled"
        figures = measure_rates(libraries, args.requests, args.rounds, simpy=not args.no_simpy)
        growth = measure_growth(libraries, args.requests, args.rounds)
        long = measure_long(libraries, args.long) if args.long else {}
    return {
        "loads_share": round(ours(zipf(17), args.requests).loads / args.requests, 4),
        **figures,
        "growth": growth,
        "long": long,
    }


def main() -> None:
    """Run everything, print it, write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--long", type=int, default=10_000_000, help="0 leaves the long runs out")
    parser.add_argument("--no-simpy", action="store_true")
    parser.add_argument("--no-compiled", action="store_true")
    parser.add_argument("--wheel", type=Path, help="a compiled wheel; else one is built")
    parser.add_argument("--out", type=Path, help="a .json file; a .md page goes beside it")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        sys.stdout.write(json.dumps(part(args.part, args.requests)))
        return
    content = {
        "command": "python results/benchmarks/simulation_speed.py",
        "tool": {"name": "modelmgr", "version": __version__},
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "requests": args.requests,
        "rounds": args.rounds,
        **measure(args),
    }
    sys.stdout.write(page(content))
    if args.out is not None:
        args.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        args.out.with_suffix(".md").write_text(page(content), encoding="utf-8")


if __name__ == "__main__":
    main()
