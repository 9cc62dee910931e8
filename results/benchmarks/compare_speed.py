"""How long ``modelmgr compare`` takes for two databases of 1,000 models with 20 shapes each.

    python results/benchmarks/compare_speed.py

Both files are made: 3 readings of every memory figure with 0.2 % of noise, 5 of every latency and 3
of every load with 5 %, as a profile leaves them, drawn from two seeds. So nearly every figure moved
a little, and thousands of latencies moved by about as much as their limit, which is the dearest
case: each of those gets an interval.

Each run is a process of its own, from its start to its end, with what Python and the imports take;
its memory is the kernel's own peak (VmHWM, proc(5)). The byte code is there, as pip leaves it where
it installs: a run that is not counted makes it. The fastest of ``--repeats`` counts, since the
others share their cores; its processor time and the machine's load stand beside it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from modelmgr import __version__
from modelmgr.records.atomic_files import write_atomically
from modelmgr.records.codec import save_costs
from modelmgr.records.costs import (
    Copies,
    CostDatabase,
    DeviceInfo,
    Ledger,
    MachineInfo,
    ModelCost,
    ShapeCost,
    ToolInfo,
    Unload,
)
from modelmgr.records.measured import Evidence, MeasuredBytes, MeasuredDuration
from modelmgr.units import GIB, MIB

MODELS = 1_000
SHAPES = 20
MEMORY_NOISE = 0.002
TIME_NOISE = 0.05
MS = 1_000_000

# Runs the program as its entry point does and says at its end what it held at most.
PROGRAM = """
import atexit, sys

def tell():
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM"):
                print(line.split()[1], file=sys.stderr)

atexit.register(tell)
from modelmgr_cli.start import main
main()
"""


def measured(drawn: random.Random, value: float, evidence: Evidence = "exact") -> MeasuredBytes:
    """Return three noisy readings of a size."""
    samples = tuple(round(value * drawn.gauss(1, MEMORY_NOISE)) for _ in range(3))
    low, middle, high = sorted(samples)
    return MeasuredBytes(value=middle, evidence=evidence, interval_95=(low, high), samples=samples)


def lasting(drawn: random.Random, value: float, count: int) -> MeasuredDuration:
    """Return noisy readings of a duration, whose noise is above it."""
    samples = tuple(round(value * (1 + abs(drawn.gauss(0, TIME_NOISE)))) for _ in range(count))
    ordered = sorted(samples)
    return MeasuredDuration(
        median=ordered[count // 2], p95=None, min=ordered[0], max=ordered[-1], samples=samples
    )


def model(drawn: random.Random, number: int) -> ModelCost:
    """Return the cost of one model."""
    weights = (50 + number) * MIB
    peak = measured(drawn, weights * 1.6)
    return ModelCost(
        initial_estimate_bytes=round(peak.value * 1.01),
        resident_bytes=measured(drawn, weights * 1.2),
        peak_bytes=peak,
        load_peak_bytes=measured(drawn, weights * 1.5),
        ledger=Ledger(
            runtime_bytes=10 * MIB,
            weights_bytes=weights,
            activation_bytes=10 * MIB,
            cache_bytes=MIB,
            unaccounted_bytes=peak.value - weights - 21 * MIB,
        ),
        copies=Copies(second_copy_bytes=measured(drawn, weights * 1.1, "sampled")),
        shapes=tuple(
            ShapeCost(
                dims={"batch_size": 2 ** (place % 5), "sequence_length": 32 * (1 + place // 5)},
                activation_bytes=measured(drawn, (place + 1) * 2 * MIB),
                latency_ns=lasting(drawn, (place + 1) * 3 * MS, 5),
                throughput_per_s=100.0,
            )
            for place in range(SHAPES)
        ),
        load_ns=lasting(drawn, 2000 * MS, 3),
        unload=Unload(reclaim_ns=lasting(drawn, 50 * MS, 3), residue_bytes=0),
        observations=3,
        fingerprint="sha256:" + "0" * 64,
    )


def database(seed: int) -> CostDatabase:
    """Return a database of all models, measured with the noise of a seed."""
    drawn = random.Random(seed)  # noqa: S311 - noise, no secret
    device = DeviceInfo(kind="host", name="host", total_bytes=64 * GIB)
    return CostDatabase(
        created_at="2026-01-01T00:00:00Z",
        tool=ToolInfo(name="modelmgr", version=__version__),
        machine=MachineInfo(
            os="Linux", cpu="any", python="3.11", packages={"torch": "2.13"}, device=device
        ),
        models={f"model-{number}": model(drawn, number) for number in range(MODELS)},
    )


def run(folder: Path, arguments: list[str]) -> dict[str, Any]:
    """Run the program once and return its time, memory and exit status."""
    environment = {
        **{name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
    }
    started, before = time.perf_counter(), os.times()
    finished = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", PROGRAM, "compare", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    after = os.times()
    busy = sum(after[2:4]) - sum(before[2:4])  # of children that ended: this one alone
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": busy,
        "peak_bytes": int(finished.stderr.split()[-1]) * 1024,
        "exit_status": finished.returncode,
        "said": finished.stdout.splitlines()[-1][:200],
    }


def best_of(folder: Path, arguments: list[str], repeats: int) -> dict[str, Any]:
    """Return the fastest of several runs, with the median and the largest peak."""
    runs = [run(folder, arguments) for _ in range(repeats)]
    fastest = min(runs, key=lambda each: float(each["seconds"]))
    times = sorted(float(each["seconds"]) for each in runs)
    return {
        "command": shlex.join(["modelmgr", "compare", *arguments]),
        "seconds": round(fastest["seconds"], 3),
        "median_seconds": round(times[len(times) // 2], 3),
        "cpu_seconds": round(min(each["cpu_seconds"] for each in runs), 3),
        "peak_mib": round(max(each["peak_bytes"] for each in runs) / MIB, 1),
        "exit_status": fastest["exit_status"],
        "said": fastest["said"],
    }


def main() -> None:
    """Make the files, compare them in several ways, write what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results/compare_speed.json"))
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old, new = database(1), database(2)
        larger = new.models["model-500"]
        peak = larger.peak_bytes
        if peak is None:
            raise SystemExit("the model that is made larger has no peak")
        raised = msgspec.structs.replace(
            peak,
            value=round(peak.value * 1.1),
            samples=tuple(round(each * 1.1) for each in peak.samples),
        )
        grown = msgspec.structs.replace(larger, peak_bytes=raised, ledger=None)
        worse = msgspec.structs.replace(new, models={**new.models, "model-500": grown})
        for side, costs in (("old", old), ("new", new), ("worse", worse)):
            save_costs(costs, folder / f"{side}.json")
        size_bytes = (folder / "old.json").stat().st_size
        run(folder, ["old.json", "new.json"])  # makes the byte code
        load = os.getloadavg()[0]
        cases = [
            best_of(folder, case, arguments.repeats)
            for case in (
                ["old.json", "old.json"],
                ["old.json", "new.json"],
                ["old.json", "worse.json"],
                ["old.json", "new.json", "--fail-on", "peak_bytes:5%"],
            )
        ]
    content = {
        "command": shlex.join(["python", *sys.argv]),
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2), round(os.getloadavg()[0], 2)],
        "models": MODELS,
        "shapes": SHAPES,
        "file_mib": round(size_bytes / MIB, 1),
        "repeats": arguments.repeats,
        "aim": {"seconds": 1.0, "peak_mib": 200},
        "cases": cases,
    }
    write_atomically(arguments.out, json.dumps(content, indent=2).encode() + b"\n")


if __name__ == "__main__":
    main()
