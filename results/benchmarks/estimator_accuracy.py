"""How true the resource estimator's figures are, against the original's on the same readings.

    python results/benchmarks/estimator_accuracy.py --original apache_beam-2.77.0-....whl

``--original`` names the wheel of apache-beam 2.77.0 (``pip download --no-deps
apache-beam==2.77.0``) or a folder with its source; without it only ours is run. The original's
estimator is run unmodified; only its metrics and process-sharing modules are replaced by stand-ins,
as neither touches a figure.

Readings: ``foreign + sum(cost * copies) + N(0, 20 MB)`` for random combinations of up to six models
of 1 to 3 copies; costs uniform in 500 to 8,000 MB, foreign memory in 0 to 1,500 MB; a spiked
reading is 1.1 to 1.5 times as high. Every run draws anew from its seed. With ``combinations`` only
so many different ones occur, again and again, as in production. The bound is that of Cramér and Rao
for an unbiased estimate from all readings, ``sigma^2 (X'X)^-1`` (of a spiked run: as if none were
spiked); the *oracle* is least squares on the unspiked ones, which it is told. Errors are relative
to the true cost. ``modelmgr-asked`` is asked after every reading, as a manager does, the others at
the end.

The upper figures' rate is that of next jobs above what admission counts with: of readings, of
isolation runs (normal, 5 % from run to run), and of the largest of 99 jobs of a copy's own process
(lognormal); each claims 1 %.

Times are this machine's: only their ratios say something. The mean is of processor time, solving
included, as the regression is solved once for many readings. A *release* is ``add_observation``:
the original solves in it, ours when somebody asks; every configuration was read 20 times before, as
many as the original keeps. So that the original's 3,000 configurations need
no day to feed, it is kept from solving until the last ones, which are timed as they are.

``--quick`` takes a minute and shows that it works; ``--resume`` goes on after the last part that a
stopped run had measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import shlex
import statistics
import sys
import tempfile
import time
import types
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import MagicMock

import numpy as np

from modelmgr import __version__
from modelmgr.estimation.estimator import ResourceEstimator
from modelmgr.units import MIB

# The folder above all: how benchmarks are run is shared.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from results.benchmarks.parts.resumed import (
    Parts,
    add_arguments,
    place_for,
)

MODULE = "apache_beam/ml/inference/model_manager.py"
NOISE_MB = 20.0
KEPT = 20  # readings of one combination that the original keeps
MODELS = (3, 8, 20)
Reading = tuple[dict[str, int], float]


class Estimator(Protocol):
    """What both estimators offer."""

    def add_observation(self, active_snapshot: dict[str, int], peak_memory: float, /) -> None:
        """Take a reading, MB."""
        ...

    def get_estimate(self, tag: str, default_mb: float = 4000.0, /) -> float:
        """Return a model's cost, MB."""
        ...


def load_original(path: Path) -> type[Any]:
    """Return the original's estimator class from its wheel or source folder."""
    if path.is_file():
        folder = Path(tempfile.mkdtemp(prefix="original-"))
        with zipfile.ZipFile(path) as wheel:
            wheel.extract(MODULE, folder)
        path = folder
    names = ("", ".metrics", ".metrics.metric", ".utils", ".utils.multi_process_shared")
    for name in names:
        sys.modules["apache_beam" + name] = types.ModuleType("apache_beam" + name)
    vars(sys.modules["apache_beam.metrics.metric"])["Metrics"] = MagicMock()
    shared = sys.modules["apache_beam.utils.multi_process_shared"]
    vars(sys.modules["apache_beam.utils"])["multi_process_shared"] = shared
    sys.modules.setdefault("torch", types.ModuleType("torch"))
    spec = importlib.util.spec_from_file_location("original_model_manager", path / MODULE)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} holds no {MODULE}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    logging.disable(logging.CRITICAL)
    return module.ResourceEstimator  # type: ignore[no-any-return]  # a module loaded by path


@dataclass(frozen=True, slots=True)
class Run:
    """One drawn problem: true costs (MB), readings, and the least errors possible (MB)."""

    costs: list[float]
    readings: list[Reading]
    bound_mb: float
    oracle_mb: float


class AskedEstimator(ResourceEstimator):
    """Ours, asked after every reading."""

    def add_observation(self, active_snapshot: Mapping[str, int], peak_memory_mb: float) -> None:
        """Take a reading, then ask."""
        super().add_observation(active_snapshot, peak_memory_mb)
        self.get_estimate("m0")


def draw(models: int, readings: int, spikes: float, seed: int, combinations: int = 0) -> Run:
    """Draw a problem and compute what is the best that can be done with it."""
    generator = np.random.default_rng(seed)
    costs = generator.uniform(500.0, 8000.0, models)
    foreign = float(generator.uniform(0.0, 1500.0))
    design = np.zeros((readings, models + 1))
    design[:, 0] = 1.0
    values = np.zeros(readings)
    clean = np.ones(readings, dtype=np.bool_)
    taken: list[Reading] = []
    for row in range(readings):
        some = int(generator.integers(1, min(models, 6) + 1))
        for index in generator.choice(models, some, replace=False):
            design[row, 1 + index] = generator.integers(1, 4)
        if combinations and row >= combinations:
            design[row] = design[row % combinations]
        values[row] = foreign + design[row, 1:] @ costs + generator.normal(0.0, NOISE_MB)
        factor = generator.uniform(1.1, 1.5)
        clean[row] = generator.random() >= spikes
        active = {f"m{index}": int(design[row, 1 + index]) for index in range(models)}
        active = {tag: count for tag, count in active.items() if count}
        taken.append((active, float(values[row] if clean[row] else values[row] * factor)))
    bound = np.linalg.inv(design.T @ design)
    best = np.linalg.lstsq(design[clean], values[clean], rcond=None)[0][1:]
    return Run(
        [float(cost) for cost in costs],
        taken,
        NOISE_MB * float(np.mean(np.diagonal(bound)[1:])) ** 0.5,
        float(np.mean((best - costs) ** 2)) ** 0.5,
    )


@dataclass(slots=True)
class Accuracy:
    """Errors over all runs; shares are fractions, not per cent."""

    models: int
    readings: int
    spikes: float
    combinations: int
    estimator: str
    median_error: float
    worst_error: float
    worst_error_of_all: float
    rms_mb: float
    rms_over_bound: float
    rms_over_oracle: float
    upper_exceeded: float | None = None
    interval_covers: float | None = None


def measure(
    name: str, make: type[Any], runs: list[Run], spikes: float, combinations: int = 0
) -> Accuracy:
    """Feed every run to a new estimator and compare with the truth."""
    medians: list[float] = []
    worsts: list[float] = []
    squares: list[float] = []
    exceeded: list[bool] = []
    covered: list[bool] = []
    generator = np.random.default_rng(0)
    for run in runs:
        estimator: Estimator = make()
        for active, peak in run.readings:
            estimator.add_observation(active, peak)
        errors = [
            estimator.get_estimate(f"m{index}") - cost for index, cost in enumerate(run.costs)
        ]
        relative = [abs(error) / cost for error, cost in zip(errors, run.costs, strict=True)]
        medians.append(statistics.median(relative))
        worsts.append(max(relative))
        squares.append(statistics.fmean(error**2 for error in errors))
        if isinstance(estimator, ResourceEstimator):
            for index, cost in enumerate(run.costs):
                estimate = estimator.estimate(f"m{index}")
                if estimate is None or estimate.interval_95 is None:
                    continue
                nexts = cost + generator.normal(0.0, NOISE_MB, 100)
                exceeded += (nexts * MIB > estimate.upper_bytes).tolist()
                covered.append(estimate.interval_95[0] <= cost * MIB <= estimate.interval_95[1])
    rms = statistics.fmean(squares) ** 0.5
    bound = statistics.fmean(run.bound_mb**2 for run in runs) ** 0.5
    oracle = statistics.fmean(run.oracle_mb**2 for run in runs) ** 0.5
    return Accuracy(
        len(runs[0].costs),
        len(runs[0].readings),
        spikes,
        combinations,
        name,
        statistics.median(medians),
        statistics.median(worsts),
        max(worsts),
        rms,
        rms / bound,
        rms / oracle,
        statistics.fmean(exceeded) if exceeded else None,
        statistics.fmean(covered) if covered else None,
    )


def measure_times(name: str, make: type[Any], models: int, readings: int) -> dict[str, object]:
    """Return the medians of taking a reading and then asking, early and late, microseconds."""
    run = draw(models, readings, 0.1, 7)
    estimator: Estimator = make()
    taking: list[float] = []
    asking: list[float] = []
    half = readings // 2
    cpu_ns = 0
    for number, (active, peak) in enumerate(run.readings):
        if number == half:
            cpu_ns = time.thread_time_ns()
        start = time.perf_counter_ns()
        estimator.add_observation(active, peak)
        between = time.perf_counter_ns()
        estimator.get_estimate("m0")
        asking.append((time.perf_counter_ns() - between) / 1000)
        taking.append((between - start) / 1000)
    cpu_ns = time.thread_time_ns() - cpu_ns
    tenth = max(readings // 10, 1)
    return {
        "estimator": name,
        "models": models,
        "readings": readings,
        "take_us_median_last_tenth": round(statistics.median(taking[-tenth:]), 2),
        "take_us_median_first_tenth": round(statistics.median(taking[:tenth]), 2),
        "ask_us_median_last_tenth": round(statistics.median(asking[-tenth:]), 2),
        "both_cpu_us_mean_last_half": round(cpu_ns / 1000 / (readings - half), 2),
    }


def measure_releases(name: str, make: type[Any], counts: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return what one ``add_observation`` costs after so many different configurations, us."""
    generator = np.random.default_rng(5)
    costs = generator.uniform(500.0, 8000.0, 20)
    estimator = make()
    solve = getattr(estimator, "_solve", None)
    taken = 0
    seen: set[tuple[tuple[str, int], ...]] = set()
    rows: list[dict[str, Any]] = []

    def new() -> Reading:
        while True:
            some = generator.choice(20, int(generator.integers(1, 7)), replace=False)
            active = {f"m{index}": int(generator.integers(1, 4)) for index in sorted(some)}
            key = tuple(active.items())
            if key not in seen:
                seen.add(key)
                use = 300.0 + sum(costs[int(tag[1:])] * copies for tag, copies in active.items())
                return active, float(use + generator.normal(0.0, NOISE_MB))

    for count in counts:
        if name == "original":
            vars(estimator)["_solve"] = lambda: None
        while taken < count:
            active, peak = new()
            for _ in range(KEPT):
                estimator.add_observation(active, peak)
            taken += 1
        if name == "original":
            vars(estimator)["_solve"] = solve
        timed: list[float] = []
        for _ in range(3 if name == "original" else 300):
            active, peak = new()
            start = time.perf_counter_ns()
            estimator.add_observation(active, peak)
            timed.append((time.perf_counter_ns() - start) / 1000)
            taken += 1
        rows.append(
            {
                "estimator": name,
                "configurations": count,
                "release_us_median": round(statistics.median(timed), 2),
                "release_us_p99": round(float(np.percentile(timed, 99)), 2),
            }
        )
    return rows


def measure_flatness(make: type[Any], readings: int) -> dict[str, object]:
    """Return what a reading costs after ten and after so many, microseconds."""
    run = draw(20, 5000, 0.0, 3)
    estimator = make()
    taking: list[float] = []
    early: dict[str, float] = {}
    for number in range(readings):
        active, peak = run.readings[number % 5000]
        if number < 1000 or number >= readings - 5000:
            start = time.perf_counter_ns()
            estimator.add_observation(active, peak)
            taking.append((time.perf_counter_ns() - start) / 1000)
        else:
            estimator.add_observation(active, peak)
        if number in {9, 999}:
            early[f"median_us_of_the_first_{number + 1}"] = round(statistics.median(taking), 2)
    start = time.perf_counter_ns()
    estimator.get_estimate("m0")
    asked = (time.perf_counter_ns() - start) / 1e6
    return {
        **early,
        f"median_us_of_the_last_5000_of_{readings}": round(statistics.median(taking[1000:]), 2),
        "first_question_ms": round(asked, 1),
        "kept_readings": estimator.kept_readings,
    }


def measure_uppers(repeats: int) -> list[dict[str, object]]:
    """Return how often the next job lies above the upper figure of direct measurements."""
    generator = np.random.default_rng(11)
    rows: list[dict[str, object]] = []
    for runs in (1, 3, 5, 10, 15):
        exceeded: list[bool] = []
        for _ in range(repeats):
            estimator = ResourceEstimator()
            for size in generator.normal(1000.0, 50.0, runs):
                estimator.record_isolation("m", None, round(float(size) * MIB))
            upper = estimator.estimate("m")
            if upper is not None:
                nexts = generator.normal(1000.0, 50.0, 100) * MIB
                exceeded += (nexts > upper.upper_bytes).tolist()
        rows.append({"of": f"{runs} isolation runs", "exceeded": statistics.fmean(exceeded)})
    exceeded = []
    for _ in range(repeats // 2):
        estimator = ResourceEstimator()
        for size in 1000.0 * generator.lognormal(0.0, 0.5, 120):
            estimator.record_own_use("m", peak_bytes=round(float(size) * MIB), whole_job=True)
        upper = estimator.estimate("m")
        if upper is not None:
            nexts = 1000.0 * generator.lognormal(0.0, 0.5, 100) * MIB
            exceeded += (nexts > upper.upper_bytes).tolist()
    rows.append({"of": "99 own jobs", "exceeded": statistics.fmean(exceeded)})
    return rows


def accuracy(
    name: str,
    make: type[Any],
    drawn: tuple[int, int, float],
    seeds: int,
    combinations: int | None = None,
) -> dict[str, Any]:
    """Return an estimator's errors over so many drawn runs: models, readings, share of spikes."""
    models, readings, spikes = drawn
    if combinations is None:
        runs = [draw(models, readings, spikes, seed) for seed in range(seeds)]
        return asdict(measure(name, make, runs, spikes))
    runs = [draw(models, readings, spikes, seed, combinations) for seed in range(seeds)]
    return asdict(measure(name, make, runs, spikes, combinations))


def show_row(row: Accuracy) -> str:
    """Return a row of the Markdown table."""
    what = "any" if not row.combinations else str(row.combinations)
    upper = "-" if row.upper_exceeded is None else f"{row.upper_exceeded:.2%}"
    covers = "-" if row.interval_covers is None else f"{row.interval_covers:.1%}"
    return (
        f"| {row.models} | {row.readings} | {what} | {row.spikes:.0%} | {row.estimator} "
        f"| {row.median_error:.3%} | {row.worst_error:.3%} | {row.rms_mb:.2f} "
        f"| {row.rms_over_bound:.3f} | {upper} | {covers} |"
    )


def report(result: dict[str, Any], rows: list[Accuracy]) -> str:
    """Return the result as Markdown."""
    lines = [
        "# How true the estimator is",
        "",
        f"`{result['command']}` (seeds {result['seeds']}, noise {NOISE_MB:g} MB)",
        "",
        (
            "| models | readings | combinations | spikes | estimator | median error | worst "
            "| rms MB | rms / Cramér-Rao | above upper (1 %) | in the 95 % interval |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *[show_row(row) for row in rows],
        "",
        "| a release after configurations | estimator | median | p99 |",
        "|---|---|---|---|",
        *[
            f"| {row['configurations']} | {row['estimator']} | {row['release_us_median']} us "
            f"| {row['release_us_p99']} us |"
            for row in result["releases"]
        ],
        "",
        *[f"- {key}: {value}" for key, value in result["flatness"].items()],
        "",
        "| upper figure of | next jobs above it (1 % claimed) |",
        "|---|---|",
        *[f"| {row['of']} | {row['exceeded']:.2%} |" for row in result["uppers"]],
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run everything, print the tables, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--original", type=Path, help="wheel or source folder of apache-beam 2.77.0"
    )
    parser.add_argument("--seeds", type=int, default=60, help="runs of each kind (seeds 0, 1, ...)")
    parser.add_argument("--readings", type=int, default=200)
    add_arguments(parser, "estimator_accuracy")
    args = parser.parse_args()
    models_tried: tuple[int, ...] = MODELS
    configurations: tuple[int, ...] = (10, 100, 1000, 3000)
    few = 1000
    last, repeats = 1_000_000, 400
    if args.quick:
        args.seeds, args.readings, few = 3, 60, 60
        models_tried, configurations = MODELS[:1], (10, 50)
        last, repeats = 10_000, 20
    out = place_for("estimator_accuracy", args)
    options = [args.seeds, args.readings, str(args.original), models_tried, configurations]
    done = Parts(out, options, resume=args.resume)
    estimators: dict[str, type[Any]] = {
        "modelmgr": ResourceEstimator,
        "modelmgr-asked": AskedEstimator,
    }
    if args.original is not None:
        estimators["original"] = load_original(args.original)
    say = sys.stdout.write
    say("models spikes estimator     median    worst    of all  rms/bound  rms/oracle")
    say("  >upper  in 95\n")
    accuracies: list[Accuracy] = []
    for models in models_tried:
        for spikes in (0.0, 0.1, 0.3):
            for name, make in estimators.items():
                part = partial(accuracy, name, make, (models, args.readings, spikes), args.seeds)
                row = Accuracy(**done.measure(f"{name}, {models} models, {spikes:.0%}", part))
                accuracies.append(row)
                exceeded = "-" if row.upper_exceeded is None else f"{row.upper_exceeded:.4f}"
                covers = "-" if row.interval_covers is None else f"{row.interval_covers:.3f}"
                say(
                    f"{models:6} {spikes:6.0%} {name:9} {row.median_error:10.3%}"
                    f" {row.worst_error:8.3%} {row.worst_error_of_all:9.3%}"
                    f" {row.rms_over_bound:10.3f} {row.rms_over_oracle:11.3f}"
                    f" {exceeded:>7} {covers:>6}\n"
                )
    for name, make in estimators.items():
        part = partial(accuracy, name, make, (20, few, 0.0), min(args.seeds, 10), 30)
        row = Accuracy(**done.measure(f"{name}, {few} readings of 30 combinations", part))
        accuracies.append(row)
        say(show_row(row) + "\n")
    times = [
        done.measure(
            f"{name}, times, {models} models", partial(measure_times, name, make, models, readings)
        )
        for models, readings in ((2, few), (10, few), (30, few), (100, 4 * few))
        for name, make in estimators.items()
        if name == "modelmgr" or (name == "original" and models <= 30)
    ]
    for timing in times:
        say(" ".join(f"{key}={value}" for key, value in timing.items()) + "\n")
    shown = [Path(part).name if part == str(args.original) else part for part in sys.argv]
    result: dict[str, Any] = {
        "benchmark": "estimator_accuracy",
        "command": "python " + shlex.join(shown),
        "version": __version__,
        "original": "apache-beam 2.77.0" if args.original is not None else None,
        "seeds": f"0 to {args.seeds - 1}",
        "noise_mb": NOISE_MB,
        "accuracy": [asdict(row) for row in accuracies],
        "times": times,
        "releases": [
            row
            for name, make in estimators.items()
            if name != "modelmgr-asked"
            for row in done.measure(
                f"{name}, releases", partial(measure_releases, name, make, configurations)
            )
        ],
        "flatness": done.measure("flatness", partial(measure_flatness, ResourceEstimator, last)),
        "uppers": done.measure("uppers", partial(measure_uppers, repeats)),
    }
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(report(result, accuracies), encoding="utf-8")
    done.end()


if __name__ == "__main__":
    main()
