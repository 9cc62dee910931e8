"""How far `modelmgr simulate` is from `modelmgr run` on the same scenario, in per cent.

    python results/benchmarks/simulation_fidelity.py

Each case is run for real (worker processes that hold real memory; stand-ins, so that loads and jobs
take what was drawn and nothing else differs), then simulated. Loads take seconds and jobs tenths of
a second, so that what a busy machine adds (milliseconds) is small beside them. The real run is the
reference. It is meant to run at the ordinary priority, on a machine that has nothing else to do.
Written down beside every case: the priority, the load average before it (what others did) and after
it, how late requests were sent, and which stated times the stand-ins did not keep, so that a
measurement that was noisy, or was favoured, is seen to be one.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelmgr.records.fidelity import Fidelity, compare_results
from modelmgr.runtime.scenario_run.run import RunOutcome, run_scenario
from modelmgr.runtime.scenario_run.stated_times import overruns
from modelmgr.simulation.simulate import simulate
from modelmgr.workload.scenario import Scenario
from modelmgr.workload.scenario_reader import parse_scenario

# The figures that the project promises, and how far they may be off, per cent.
PROMISED = ("hits", "loads", "evictions", "wait_mean_ns", "wait_p95_ns")
MOST_PERCENT = 5.0
AIM_PERCENT = 2.0

SCENARIO = """
schema_version: 1
name: {name}
seed: {seed}
devices:
{devices}
manager: {{policy: {policy}, max_copies: {copies}, eviction_cooldown: 2 s, wait_timeout: 300 s}}
models:
{models}
workload:
  - mix: {{a: 8, b: 5, c: 3, d: 2, e: 2, f: 1}}
    arrivals: {{pattern: poisson, rate: {rate}/s}}
    duration: {seconds} s
"""
MODEL = (
    "  - {{tag: {tag}, cost: {{resident: {resident} MiB, peak: {peak} MiB, load: {load} ms, "
    "unload: {unload} ms, service: {service}}}}}"
)
FAST = "{distribution: exponential, mean: 75 ms}"
SLOW = "{distribution: gamma, mean: 150 ms, cv: 0.5}"
# Tag, resident and peak MiB, milliseconds of a load, service.
MODELS = (
    ("a", 100, 120, 800, FAST),
    ("b", 140, 160, 1_100, FAST),
    ("c", 80, 90, 600, SLOW),
    ("d", 120, 150, 1_000, SLOW),
    ("e", 60, 70, 450, SLOW),
    ("f", 160, 190, 1_300, FAST),
)
ONE = "  - {name: gpu0, memory: 480 MiB, slack: 5%}"
TWO = "  - {name: gpu0, memory: 320 MiB, slack: 5%}\n  - {name: gpu1, memory: 260 MiB, slack: 5%}"


@dataclass(frozen=True, slots=True)
class Case:
    """One scenario: a policy, devices, how much traffic, and what an unload is stated to take."""

    name: str
    policy: str
    devices: str
    copies: int
    rate: float
    unload_ms: int = 100


CASES = (
    Case("one-gpu-queue-value", "queue-value", ONE, 1, 2.5),
    Case("one-gpu-lru", "lru", ONE, 1, 2.0),
    Case("two-gpus-queue-value", "queue-value", TWO, 1, 2.5),
    # As many scenarios are written: what giving memory back takes is not stated, so it is left out.
    Case("one-gpu-lru-no-unload", "lru", ONE, 1, 2.0, unload_ms=0),
)


def scenario_of(case: Case, seconds: float, seed: int) -> Scenario:
    """Return a case as a scenario."""
    models = (
        MODEL.format(
            tag=tag,
            resident=resident,
            peak=peak,
            load=load,
            unload=case.unload_ms,
            service=service,
        )
        for tag, resident, peak, load, service in MODELS
    )
    text = SCENARIO.format(
        name=case.name,
        seed=seed,
        devices=case.devices,
        policy=case.policy,
        copies=case.copies,
        rate=case.rate,
        seconds=seconds,
        models="\n".join(models),
    )
    return parse_scenario(text, purpose="run")


def measure(case: Case, seconds: float, seed: int) -> dict[str, Any]:
    """Run a case both ways and return how far apart they are."""
    scenario = scenario_of(case, seconds, seed)
    before = os.getloadavg()[0]
    priority = os.nice(0)
    outcome = run_scenario(scenario)
    simulated = simulate(scenario).result
    found = compare_results(simulated, outcome.result)
    return {
        "case": case.name,
        "policy": case.policy,
        "seed": seed,
        "seconds": seconds,
        "nice": priority,
        "load_average": [round(before, 2), round(os.getloadavg()[0], 2)],
        **_both(outcome, found),
    }


def _both(outcome: RunOutcome, found: Fidelity) -> dict[str, Any]:
    lag = outcome.lag_ns
    off = {name: found.of(name).percent for name in PROMISED}
    known = [abs(percent) for percent in off.values() if percent is not None]
    return {
        "requests": outcome.result.requests.total,
        "sent_late_ms": None if lag is None else {"mean": lag.mean / 1e6, "max": lag.max / 1e6},
        "stated_times_not_kept": [
            {
                "model": each.tag,
                "what": each.act,
                "stated_ms": each.time.stated_ns / 1e6,
                "taken_ms": each.time.taken_ns / 1e6,
                "count": each.time.count,
            }
            for each in overruns(outcome.result.models)
        ],
        "figures": [
            {
                "name": each.name if each.device is None else f"{each.name}.{each.device}",
                "run": each.reference,
                "simulate": each.other,
                "percent": None if each.percent is None else round(each.percent, 2),
            }
            for each in found.distances
        ],
        "worst_promised_percent": round(max(known), 2) if len(known) == len(off) else None,
    }


def main() -> None:
    """Measure every case and write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results/simulation_fidelity.json"))
    parser.add_argument("--seconds", type=float, default=180.0, help="of traffic, each case")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--case", choices=[case.name for case in CASES], action="append")
    arguments = parser.parse_args()
    chosen = [case for case in CASES if not arguments.case or case.name in arguments.case]
    measured: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        for case in chosen:
            found = measure(case, arguments.seconds, seed)
            measured.append(found)
            print(json.dumps(found), file=sys.stderr, flush=True)  # noqa: T201  # progress
    content = {
        "command": shlex.join(["python", *sys.argv]),
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "promised": {
            "figures": PROMISED,
            "at_most_percent": MOST_PERCENT,
            "aim_percent": AIM_PERCENT,
        },
        "cases": measured,
    }
    arguments.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
