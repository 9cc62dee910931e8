"""What each eviction policy pays for reloads: over the exact optimum, and on recorded traffic.

    python results/benchmarks/policy_workloads.py --traces FOLDER

**Synthetic**: five workloads of 14 models on one device of 80 GB, 8 queued jobs visible, first come
first served, one copy a model, in two ways. ``replay``: the policy alone, one job after another,
the next 8 visible; every policy serves the same schedule. ``scheduler``: through the whole
scheduler (``max_bypass: 0``), which loads for several tickets at once; a policy's cost is over the
optimum of the schedule that it served itself. Where the solver's time ends first (method ``dual``)
the bound is valid and lower than the optimum, so the ratio is too high. What the published
comparison leaves open is assumed here:

* sizes: log-uniform from 3 to 40 GB, their sum scaled to 2.5 devices; running takes 5 % more; a
  load takes 1 s and 1 s for each 2 GB, times a drawn factor of 0.5 to 2 (storage differs).
* jobs: 1,500 a workload; six seeds for ``replay``, none of which the policy was tuned on, two for
  ``scheduler``; service exponential with a mean of 2 s.
* 8 queued (``scheduler``): a new job comes whenever one leaves the queue, so 8 tickets always wait.
* zipf: each job's model is drawn by Zipf's law with exponent 1.
* phases: as zipf, but every 150 jobs the models change their ranks.
* bursts: a model drawn by Zipf's law asks for a geometric number of jobs, 6 on average, two such
  bursts interleaved at random.
* cycles: the models in turn, in a fixed order, one job in five drawn by Zipf's law instead.
* chains: six pipelines of 2 to 5 models each; a pipeline is drawn by Zipf's law, its models follow.

**Traces**: recorded requests, which never go into this repository: the total reload cost of
``queue-value`` with ``max_bypass: 8`` over the best of the others with ``max_bypass: 0``, and both
99th percentiles of the wait. The files name no sizes, so these are drawn as said at ``TRACES``.

Everything is virtual time and seeded: the same command gives the same figures on any machine.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import json
import math
import random
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from modelmgr.scheduling.lookahead import Ahead, Waiting
from modelmgr.scheduling.policies import EvictionPolicy, IdleCopy, make_policy
from modelmgr.simulation.bound import ratio, reload_bound
from modelmgr.simulation.copies import VirtualCopy
from modelmgr.simulation.engine import Engine
from modelmgr.simulation.run_bound import model_figures
from modelmgr.simulation.schedule import by_device
from modelmgr.simulation.simulate import POLL_INTERVAL_NS, simulate
from modelmgr.simulation.world import ASKED, Job, World
from modelmgr.stats.intervals import mean_interval_95
from modelmgr.units import NS_PER_S
from modelmgr.workload.raw_requests import NO_SHAPE, NOBODY, RawRequest
from modelmgr.workload.requests import RequestSource
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
    TracePhase,
)

GB = 10**9
POLICIES = ("lru", "gdsf", "demand-tiers", "queue-value")
MODELS = 14
CAPACITY = 80 * GB
VISIBLE = 8
JOBS = 1_500
REPLAY_SEEDS = tuple(range(1, 7))
SCHEDULER_SEEDS = (1, 2)
# What the published comparison found for the same kinds of policies.
PUBLISHED = {"lru": 1.42, "gdsf": 1.26, "demand-tiers": 1.25, "queue-value": 1.14}
BOUND_S = 30.0
SERVICE_S = 2.0

Draw = Callable[[random.Random], Iterator[int]]


# Synthetic workloads --------------------------------------------------------------------------


def _by_rank(exponent: float = 1.0, count: int = MODELS) -> list[float]:
    return [1 / (rank + 1) ** exponent for rank in range(count)]


def zipf(generator: random.Random) -> Iterator[int]:
    """Draw each job's model by Zipf's law."""
    weights = _by_rank()
    while True:
        yield generator.choices(range(MODELS), weights)[0]


def phases(generator: random.Random) -> Iterator[int]:
    """Change who is popular every 150 jobs."""
    weights = _by_rank()
    while True:
        order = generator.sample(range(MODELS), MODELS)
        yield from generator.choices(order, weights, k=150)


def bursts(generator: random.Random) -> Iterator[int]:
    """Interleave two models' bursts of 6 jobs on average."""
    weights = _by_rank()
    running: list[int] = []
    while True:
        while len(running) < 2:
            running.append(generator.choices(range(MODELS), weights)[0])
        place = generator.randrange(2)
        yield running[place]
        if generator.random() < 1 / 6:
            del running[place]


def cycles(generator: random.Random) -> Iterator[int]:
    """Go through the models in turn, one job in five drawn instead."""
    weights = _by_rank()
    for place in itertools.cycle(range(MODELS)):
        yield place
        if generator.random() < 0.25:
            yield generator.choices(range(MODELS), weights)[0]


def chains(generator: random.Random) -> Iterator[int]:
    """Run pipelines of 2 to 5 models."""
    pipelines = [generator.sample(range(MODELS), generator.randint(2, 5)) for _ in range(6)]
    weights = _by_rank(count=len(pipelines))
    while True:
        yield from generator.choices(pipelines, weights)[0]


WORKLOADS: dict[str, Draw] = {
    "zipf": zipf,
    "phases": phases,
    "bursts": bursts,
    "cycles": cycles,
    "chains": chains,
}


def _models(generator: random.Random) -> tuple[ScenarioModel, ...]:
    drawn = [math.exp(generator.uniform(math.log(3), math.log(40))) for _ in range(MODELS)]
    scale = 2.5 * CAPACITY / sum(drawn)
    models: list[ScenarioModel] = []
    for number, size in enumerate(drawn):
        resident = min(round(size * scale), CAPACITY * 9 // 10)
        load_s = (1 + resident / GB / 2) * 2 ** generator.uniform(-1, 1)
        models.append(_model(f"m{number:02}", resident, resident * 21 // 20, load_s))
    return tuple(models)


def _model(tag: str, resident: int, peak: int, load_s: float) -> ScenarioModel:
    load_ns = round(load_s * NS_PER_S)
    return ScenarioModel(
        tag=tag,
        cost=ScenarioCost(
            resident_bytes=resident,
            peak_bytes=peak,
            load=Distribution(kind="constant", mean_ns=load_ns),
            service=Distribution(kind="exponential", mean_ns=round(SERVICE_S * NS_PER_S)),
        ),
        believed=BelievedCost(resident_bytes=resident, peak_bytes=peak, load_ns=load_ns),
    )


class QueuedJobs(RequestSource):
    """A sequence of jobs of which the next comes when one leaves the queue."""

    def __init__(self, scenario: Scenario, jobs: Sequence[tuple[int, int]]) -> None:
        super().__init__(scenario)
        self._jobs = iter(jobs)
        self._first: list[RawRequest] = []
        for _ in range(VISIBLE):
            job = self.following(0)
            if job is not None:
                self._first.append(job)

    def next_batch(self) -> list[RawRequest]:
        """Return what waits at the start, then nothing."""
        first, self._first = self._first, []
        return first

    def following(self, now_ns: int) -> RawRequest | None:
        """Return the next job, None after the last."""
        job = next(self._jobs, None)
        return None if job is None else (now_ns, job[0], job[1], NO_SHAPE, NOBODY)


class QueuedWorld(World):
    """Asks for the next job whenever one is granted."""

    def _start_job(  # noqa: PLR0917 - as it is there
        self, copy: VirtualCopy, ticket_num: int, lease: int, job: Job, now_ns: int, hit: bool
    ) -> None:
        """Serve the job, and let the next one come."""
        super()._start_job(copy, ticket_num, lease, job, now_ns, hit)
        source = self.source
        if isinstance(source, QueuedJobs) and (following := source.following(now_ns)) is not None:
            self.push(now_ns, ASKED, following)


@dataclass(frozen=True, slots=True)
class Ratio:
    """One policy on one workload and seed: seconds of loads, the least possible, their ratio."""

    mode: str
    workload: str
    policy: str
    seed: int
    reload_s: float
    least_s: float
    ratio: float
    method: str


@dataclass(frozen=True, slots=True)
class Workload:
    """A drawn workload: the models, and each job's model and service time (ns)."""

    name: str
    seed: int
    models: tuple[ScenarioModel, ...]
    jobs: tuple[tuple[int, int], ...]

    @classmethod
    def draw(cls, name: str, seed: int) -> Workload:
        """Draw a workload by name."""
        generator = random.Random(f"{name} {seed}")  # noqa: S311  # a workload, not a secret
        models = _models(generator)
        sequence = WORKLOADS[name](generator)
        jobs = tuple(
            (model, round(generator.expovariate(1 / SERVICE_S) * NS_PER_S))
            for model in itertools.islice(sequence, JOBS)
        )
        return cls(name, seed, models, jobs)

    def scenario(self, policy: str) -> Scenario:
        """Return it as a scenario; its traffic is put in by ``QueuedJobs``."""
        nothing = MixPhase(
            mix=((self.models[0].tag, 1.0),),
            arrivals=Arrivals(pattern="constant"),
            duration_ns=1,
        )
        return Scenario(
            name=self.name,
            seed=self.seed,
            devices=(ScenarioDevice(name="gpu0", kind="virtual", total_bytes=CAPACITY, slack=0.0),),
            manager=ManagerOptions(policy=policy, max_bypass=0, max_copies=1, wait_timeout_ns=None),
            models=self.models,
            workload=(nothing,),
        )

    def over_the_best(
        self, mode: str, policy: str, cost_ns: int, served: Sequence[tuple[str, str, int, int]]
    ) -> Ratio:
        """Hold a cost to the bound of what was served."""
        figures = model_figures(self.scenario(policy))
        (schedule,) = by_device(served, {"gpu0": CAPACITY}, figures)
        bound = reload_bound(schedule, time_limit_s=BOUND_S)
        over = ratio(cost_ns, bound.reload_cost_ns)
        if over is None:
            raise RuntimeError(f"{self.name}: nothing had to be loaded")
        return Ratio(
            mode=mode,
            workload=self.name,
            policy=policy,
            seed=self.seed,
            reload_s=cost_ns / NS_PER_S,
            least_s=bound.reload_cost_ns / NS_PER_S,
            ratio=over,
            method=bound.method,
        )


def measure_scheduler(name: str, seed: int, policy: str) -> Ratio:
    """Run one workload through the scheduler, and bound what it served."""
    workload = Workload.draw(name, seed)
    scenario = workload.scenario(policy)
    world = QueuedWorld(
        scenario,
        write_log=None,
        poll_interval_ns=POLL_INTERVAL_NS,
        keep_schedule=True,
        read_always=False,
    )
    world.source = QueuedJobs(scenario, workload.jobs)
    Engine(world).run()
    if world.completed != JOBS:
        raise RuntimeError(f"{name}, {policy}: {world.completed} of {JOBS} jobs were served")
    return workload.over_the_best("scheduler", policy, world.loads_ns, world.schedule or ())


class Replay:
    """A device that serves one job after another, and a policy that sees the next 8."""

    def __init__(self, workload: Workload, policy: EvictionPolicy) -> None:
        self._workload = workload
        self._policy = policy
        self._loaded: dict[int, tuple[int, int]] = {}  # model: last use, serial of the use
        self.cost_ns = 0
        self.served: list[tuple[str, str, int, int]] = []

    def run(self) -> None:
        """Serve every job."""
        jobs, policy = self._workload.jobs, self._policy
        now_ns = 0
        for job, (model, service_ns) in enumerate(jobs):
            tag, cost = self._model(model)
            newcomers = jobs[: VISIBLE + 1] if job == 0 else jobs[job + VISIBLE : job + VISIBLE + 1]
            for newcomer, _ in newcomers:
                policy.requested(self._model(newcomer)[0], now_ns)
            used = sum(self._model(other)[1].resident_bytes for other in self._loaded)
            is_loaded = model in self._loaded
            more = cost.peak_bytes - (cost.resident_bytes if is_loaded else 0)
            if used + more > CAPACITY:
                self._evict(job, used + more - CAPACITY, now_ns)
            if not is_loaded:
                now_ns += cost.load.mean_ns
                self.cost_ns += cost.load.mean_ns
            policy.used(model, tag, 0)
            started_ns, now_ns = now_ns, now_ns + max(1, service_ns)
            self.served.append((tag, "gpu0", started_ns, now_ns))
            self._loaded[model] = (now_ns, job)

    def _model(self, model: int) -> tuple[str, ScenarioCost]:
        found = self._workload.models[model]
        if found.cost is None:
            raise RuntimeError(f"{found.tag} has no cost")
        return found.tag, found.cost

    def _evict(self, job: int, need_bytes: int, now_ns: int) -> None:
        model = self._workload.jobs[job][0]
        queue = [other for other, _ in self._workload.jobs[job + 1 : job + 1 + VISIBLE]]
        idle = [other for other in self._loaded if other != model]
        cost = self._model(model)[1]
        ahead = Ahead(
            need_bytes=need_bytes,
            room_bytes=CAPACITY,
            first=self._waiting(model),
            others=tuple(map(self._waiting, queue)),
            held=(self._waiting(model),) if model in self._loaded else (),
            queued=1 + len(queue),
        )
        candidates: list[IdleCopy] = []
        for other in idle:
            last_ns, serial = self._loaded[other]
            tag, cost = self._model(other)
            candidates.append(
                IdleCopy(
                    copy=other,
                    tag=tag,
                    device=0,
                    size_bytes=cost.resident_bytes,
                    last_used_ns=last_ns,
                    use_serial=serial,
                    reload_ns=cost.load.mean_ns,
                    surplus=False,
                    cold=last_ns <= now_ns - 10 * NS_PER_S,
                    rank=1,
                    copies=1,
                    queued=queue.count(other),
                    place=queue.index(other) + 2 if other in queue else None,
                    ahead=ahead,
                )
            )
        values = self._policy.values(candidates, now_ns)
        chosen = self._policy.choose(candidates, values, need_bytes)
        for place in chosen or ():
            self._policy.evicted(candidates[place], now_ns)
            del self._loaded[candidates[place].copy]

    def _waiting(self, model: int) -> Waiting:
        tag, cost = self._model(model)
        return Waiting(tag, cost.resident_bytes, cost.peak_bytes, cost.load.mean_ns)


def measure_replay(name: str, seed: int, policies: Sequence[str]) -> list[Ratio]:
    """Replay one workload under each policy, over the optimum of the schedule they share."""
    workload = Workload.draw(name, seed)
    found: list[Ratio] = []
    for policy in policies:
        replay = Replay(workload, make_policy(policy))
        replay.run()
        if not found:
            found.append(workload.over_the_best("replay", policy, replay.cost_ns, replay.served))
            continue
        reload_s, least_s = replay.cost_ns / NS_PER_S, found[0].least_s
        found.append(replace(found[0], policy=policy, reload_s=reload_s, ratio=reload_s / least_s))
    return found


# Recorded traffic -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TraceCase:
    """What a trace's file does not say: the device and how large and slow its models are.

    Attributes:
        file: in the folder of traces.
        memory_gb: of the one device.
        sizes_gb: the least and the largest resident size; drawn log-uniformly by model.
        running_gb: what running adds.
        load_s: a load's median by model (lognormal, spread 0.42); None for 1 s and 1 s for 2 GB.
        input_token_ms: what an input token takes, where the file has no durations.
        output_token_ms: the same for an output token.
    """

    file: str
    memory_gb: int
    sizes_gb: tuple[float, float]
    running_gb: float
    load_s: float | None = None
    input_token_ms: float = 0.0
    output_token_ms: float = 0.0


TRACES = (
    # Image checkpoints: loads as that cluster measured them (median 22.7 s, 95th percentile 45.4 s:
    # lognormal with sigma = ln(2) / 1.645), durations from the file.
    TraceCase("gentd26_checkpoints.csv.gz", 24, (2.0, 7.0), 3.0, load_s=22.7),
    # Chat models of 4 to 40 GB, quick enough that 2.5 requests a second can be served.
    TraceCase(
        "lmsys_arena_27.csv.gz", 80, (4.0, 40.0), 1.0, input_token_ms=0.1, output_token_ms=4.0
    ),
    # Two services of which the device holds one at a time.
    TraceCase(
        "azure_llm_2023.csv.gz", 40, (24.0, 30.0), 4.0, input_token_ms=0.01, output_token_ms=0.3
    ),
)


@dataclass(frozen=True, slots=True)
class TraceRun:
    """One policy on one trace: hours of loads, seconds of waits."""

    trace: str
    policy: str
    max_bypass: int
    requests: int
    completed: int
    loads: int
    reload_h: float
    wait_mean_s: float
    wait_p99_s: float | None


def measure_trace(case: TraceCase, folder: Path, policy: str, max_bypass: int) -> TraceRun:
    """Simulate a recorded trace under one policy, one copy a model."""
    path = folder / case.file
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        tags = sorted({row["model"] for row in csv.DictReader(lines)})
    generator = random.Random(case.file)  # noqa: S311  # a workload, not a secret
    models = [_traced_model(case, tag, generator) for tag in tags]
    scenario = Scenario(
        name=case.file.partition(".")[0],
        seed=1,
        devices=(
            ScenarioDevice(name="gpu0", kind="virtual", total_bytes=case.memory_gb * GB, slack=0.0),
        ),
        manager=ManagerOptions(
            policy=policy, max_bypass=max_bypass, max_copies=1, wait_timeout_ns=None
        ),
        models=tuple(models),
        workload=(TracePhase(path=path),),
    )
    result = simulate(scenario).result
    wait = result.wait_ns
    if wait is None:
        raise RuntimeError(f"{case.file}: nobody was served")
    return TraceRun(
        trace=scenario.name,
        policy=policy,
        max_bypass=max_bypass,
        requests=result.requests.total,
        completed=result.requests.completed,
        loads=result.loads,
        reload_h=result.reload_cost_ns / NS_PER_S / 3600,
        wait_mean_s=wait.mean / NS_PER_S,
        wait_p99_s=None if wait.p99 is None else wait.p99 / NS_PER_S,
    )


def _traced_model(case: TraceCase, tag: str, generator: random.Random) -> ScenarioModel:
    low, high = case.sizes_gb
    resident = round(GB * math.exp(generator.uniform(math.log(low), math.log(high))))
    drawn = generator.gauss(0, math.log(2) / 1.645)
    load_s = 1 + resident / GB / 2 if case.load_s is None else case.load_s * math.exp(drawn)
    model = _model(tag, resident, resident + round(case.running_gb * GB), load_s)
    if model.cost is None:
        raise RuntimeError(f"{tag} has no cost")
    if not case.output_token_ms:
        return model
    cost = replace(
        model.cost,
        service=Distribution(kind="constant", mean_ns=0),
        per_input_token_ns=round(case.input_token_ms * 1_000_000),
        per_output_token_ns=round(case.output_token_ms * 1_000_000),
    )
    return replace(model, cost=cost)


# All of it ------------------------------------------------------------------------------------


def main() -> None:
    """Measure everything and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results/policy_workloads.json"))
    parser.add_argument("--traces", type=Path, help="the folder of recorded traces")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    arguments = parser.parse_args()
    content: dict[str, object] = {
        "command": shlex.join(["python", "results/benchmarks/policy_workloads.py"])
        + (" --traces FOLDER" if arguments.traces is not None else "")
    }
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        replays = [
            pool.submit(measure_replay, name, seed, POLICIES)
            for name, seed in itertools.product(WORKLOADS, REPLAY_SEEDS)
        ]
        runs = [
            pool.submit(measure_scheduler, name, seed, policy)
            for name, seed in itertools.product(WORKLOADS, SCHEDULER_SEEDS)
            for policy in POLICIES
        ]
        ratios = [row for replayed in replays for row in _told(replayed.result())]
        ratios += [row for run in runs for row in _told([run.result()])]
        content["synthetic_mean_ratio"] = _means(ratios)
        content["synthetic"] = [asdict(row) for row in ratios]
        if arguments.traces is not None:
            asked = [(policy, 0) for policy in POLICIES] + [("queue-value", 8)]
            traced = [
                pool.submit(measure_trace, case, arguments.traces, policy, max_bypass)
                for case in TRACES
                for policy, max_bypass in asked
            ]
            found = [row for run in traced for row in _told([run.result()])]
            content["traces_over_best_first_come"] = _over_first_come(found)
            content["traces"] = [asdict(row) for row in found]
    arguments.out.write_text(json.dumps(content, indent=2) + "\n")
    arguments.out.with_suffix(".md").write_text(as_markdown(content))


_Row = TypeVar("_Row", Ratio, TraceRun)


def _told(rows: list[_Row]) -> list[_Row]:
    for row in rows:
        print(row, file=sys.stderr, flush=True)  # noqa: T201  # a program's progress
    return rows


def _means(ratios: Sequence[Ratio]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return mean ratios by mode and policy: each workload's over seeds, and the mean of these.

    The interval is that of the mean over the workloads, which each seed gives one of.
    """
    means: dict[str, dict[str, dict[str, Any]]] = {}
    for mode in ("replay", "scheduler"):
        for policy in POLICIES:
            rows = [row for row in ratios if row.mode == mode and row.policy == policy]
            found: dict[str, Any] = {
                name: fmean(row.ratio for row in rows if row.workload == name) for name in WORKLOADS
            }
            by_seed = [
                fmean(row.ratio for row in rows if row.seed == seed)
                for seed in sorted({row.seed for row in rows})
            ]
            found["mean"] = fmean(by_seed)
            found["interval_95"] = mean_interval_95(by_seed)
            found["seeds"] = len(by_seed)
            if mode == "replay":
                found["published"] = PUBLISHED[policy]
            means.setdefault(mode, {})[policy] = found
    return means


def as_markdown(content: Mapping[str, Any]) -> str:
    """Return the page that says what was found."""
    lines = ["# What each policy pays for reloads", "", f"Repeat with `{content['command']}`.", ""]
    titles = {
        "replay": "The policy alone, 8 queued jobs visible: cost over the least possible",
        "scheduler": "Through the whole scheduler, first come first served: cost over the least "
        "possible of the schedule that it served itself",
    }
    for mode, title in titles.items():
        lines += [f"## {title}", ""]
        head = ["policy", *WORKLOADS, "mean", "95 % interval", "seeds", "published"]
        lines += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        for policy, found in content["synthetic_mean_ratio"][mode].items():
            low, high = found["interval_95"] or (found["mean"], found["mean"])
            cells = [policy, *(f"{found[name]:.3f}" for name in WORKLOADS), f"{found['mean']:.3f}"]
            cells += [f"{low:.3f} to {high:.3f}", str(found["seeds"])]
            cells.append(str(found.get("published", "")))
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    if "traces_over_best_first_come" in content:
        lines += ["## Recorded traffic: queue-value with max_bypass 8 over the best first-come", ""]
        lines += ["| trace | best first-come | reload cost | its p99 wait, s | p99 wait, s |"]
        lines += [f"|{'---|' * 5}"]
        for name, found in content["traces_over_best_first_come"].items():
            lines.append(
                f"| {name} | {found['best_first_come']} | {found['reload_ratio']:.3f} "
                f"| {found['best_wait_p99_s']:,.0f} | {found['queue_value_wait_p99_s']:,.0f} |"
            )
    return "\n".join(lines).rstrip() + "\n"


def _over_first_come(runs: Sequence[TraceRun]) -> dict[str, dict[str, float | str | None]]:
    """Return queue-value with bypass over the best of the others without, by trace."""
    answer: dict[str, dict[str, float | str | None]] = {}
    for name in dict.fromkeys(run.trace for run in runs):
        rows = [run for run in runs if run.trace == name]
        ours = next(run for run in rows if run.max_bypass)
        best = min(
            (run for run in rows if not run.max_bypass and run.policy != "queue-value"),
            key=lambda run: run.reload_h,
        )
        answer[name] = {
            "best_first_come": best.policy,
            "reload_ratio": ours.reload_h / best.reload_h,
            "best_wait_p99_s": best.wait_p99_s,
            "queue_value_wait_p99_s": ours.wait_p99_s,
        }
    return answer


if __name__ == "__main__":
    main()
