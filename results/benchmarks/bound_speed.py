"""How long the offline bound takes, how good it and its certificate are, how long a check takes.

    python results/benchmarks/bound_speed.py

Schedules are drawn: requests by Zipf's law over 14 models of 2 to 30 GiB (running: a tenth more) on
80 GiB, Poisson arrivals of one a second, exponential service of 1.5 s on average, each started as
soon as the running jobs leave room. Costs are drawn to the nanosecond, so that no common divisor
helps. The bound and the certificate are over the best choice of evictions that was found; the
least possible cost is between them and it. Times are this machine's; processor time is that of this
process, HiGHS included.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from modelmgr import __version__
from modelmgr.records.certificate import decode_certificate, encode_certificate
from modelmgr.records.costs import ToolInfo
from modelmgr.simulation.bound import reload_bound
from modelmgr.simulation.certificate import check_certificate, make_certificate
from modelmgr.simulation.schedule import ModelFigures, ServedJob, ServedSchedule
from modelmgr.units import GIB, NS_PER_S

CAPACITY_GIB = 80
SERVICE_S = 1.5
# Jobs, models, jobs of a window (None solves the whole).
CASES: tuple[tuple[int, int, int | None], ...] = (
    (1_000, 14, None),
    (5_000, 14, None),
    (5_000, 14, 1_000),
    (20_000, 14, None),
    (20_000, 14, 5_000),
    (100_000, 14, 5_000),
    (5_000, 100, None),
)


@dataclass(frozen=True, slots=True)
class Timing:
    """One schedule: seconds, bytes, and figures over the best cost found."""

    jobs: int
    models: int
    window: int | None
    method: str
    bound_s: float
    bound_cpu_s: float
    check_s: float
    bound_over_best: float
    certified_over_best: float
    certificate_bytes: int
    holds: bool


def draw(jobs: int, models: int, seed: int) -> ServedSchedule:
    """Return a drawn schedule."""
    generator = random.Random(seed)  # noqa: S311  # a seeded draw, no secret
    figures: dict[str, ModelFigures] = {}
    for index in range(models):
        size = generator.uniform(2, 30)
        figures[f"m{index:03}"] = ModelFigures(
            resident_bytes=round(size * GIB),
            peak_bytes=round(size * 1.1 * GIB),
            reload_cost_ns=round((size * 0.4 + generator.uniform(0.5, 2.0)) * NS_PER_S),
        )
    tags = list(figures)
    shares = [1 / rank for rank in range(1, models + 1)]
    served: list[ServedJob] = []
    running: list[ServedJob] = []
    now_ns = 0
    for _ in range(jobs):
        now_ns += round(generator.expovariate(1.0) * NS_PER_S)
        tag = generator.choices(tags, shares)[0]
        while True:
            running = [job for job in running if job.end_ns > now_ns]
            taken = sum(figures[job.tag].peak_bytes for job in running)
            if taken + figures[tag].peak_bytes <= CAPACITY_GIB * GIB:
                break
            now_ns = min(job.end_ns for job in running)
        held_ns = round(generator.expovariate(1 / SERVICE_S) * NS_PER_S)
        job = ServedJob(tag, now_ns, now_ns + held_ns)
        running.append(job)
        served.append(job)
    return ServedSchedule(
        device="gpu0", capacity_bytes=CAPACITY_GIB * GIB, models=figures, jobs=served
    )


def measure(jobs: int, models: int, window: int | None, seed: int) -> Timing:
    """Bound one schedule, certify it, check the certificate."""
    schedule = draw(jobs, models, seed)
    began, began_cpu = time.perf_counter(), time.process_time()
    bound = reload_bound(schedule, window=window)
    bound_s, bound_cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    tool = ToolInfo(name="modelmgr", version=__version__)
    content = encode_certificate(make_certificate([schedule], [bound], tool=tool))
    began = time.perf_counter()
    verdict = check_certificate(decode_certificate(content))
    return Timing(
        jobs=jobs,
        models=models,
        window=window,
        method=bound.method,
        bound_s=round(bound_s, 3),
        bound_cpu_s=round(bound_cpu_s, 3),
        check_s=round(time.perf_counter() - began, 3),
        bound_over_best=bound.reload_cost_ns / bound.best_ns,
        certified_over_best=bound.certified_ns / bound.best_ns,
        certificate_bytes=len(content),
        holds=verdict.holds,
    )


def main() -> None:
    """Measure every case and write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results/bound_speed.json"))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    measure(200, 14, None, arguments.seed)  # imports the solver
    timings: list[Timing] = []
    for jobs, models, window in CASES:
        timing = measure(jobs, models, window, arguments.seed)
        print(timing, file=sys.stderr, flush=True)  # noqa: T201  # a program's progress
        timings.append(timing)
    content = {
        "command": shlex.join(["python", *sys.argv]),
        "python": platform.python_version(),
        "scipy": version("scipy"),
        "timings": [asdict(timing) for timing in timings],
    }
    arguments.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
