"""How true ``modelmgr profile`` is, and what it costs: writes results/profile_accuracy.{json,md}.

Run it from the repository's root on a quiet machine with the ``torch`` extra installed:

    python results/benchmarks/profile_accuracy.py

Every figure is compared with a witness that shares no code with it: the true bytes of parameters
and buffers and the wall time come from a bare script (torch and transformers alone, in a process of
its own), the activation's true peak from the framework's own count of live tensor bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from modelmgr.devices.discovery import open_reader
from modelmgr.devices.monitor import GPUMonitor
from modelmgr.devices.process_memory import read_host_memory
from modelmgr.errors import ModelmgrError
from modelmgr.measuring.ledger import ledger_total_bytes
from modelmgr.measuring.observer import SilentObserver
from modelmgr.measuring.profile import profile_models
from modelmgr.measuring.settings import ProfileSettings
from modelmgr.records.codec import load_costs
from modelmgr.records.costs import ModelCost
from modelmgr.units import GIB, MIB
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workload.model_spec import ModelSpec

Figure = TypeVar("Figure")
ROOT = Path(__file__).resolve().parents[2]
COMMAND = "python results/benchmarks/profile_accuracy.py"
PROCESSES = 5
FURTHER_WORKERS = 7
ROUNDS = 3  # of profile and bare script in turn; the lowest ratio is the least disturbed

# The six architectures of the quick-start list at their real size.
MODELS: tuple[ModelSpec, ...] = (
    ModelSpec(
        tag="bert-base",
        loader="transformers",
        architecture="bert",
        input={"batch_size": (1, 4), "sequence_length": (128,)},
    ),
    ModelSpec(
        tag="gpt2",
        loader="transformers",
        architecture="gpt2",
        input={"batch_size": (1, 4), "sequence_length": (128,)},
    ),
    ModelSpec(
        tag="vit-base", loader="transformers", architecture="vit", input={"batch_size": (1, 4)}
    ),
    ModelSpec(
        tag="t5-small",
        loader="transformers",
        architecture="t5",
        input={"batch_size": (1, 4), "sequence_length": (128,), "decoder_length": (8,)},
    ),
    ModelSpec(
        tag="whisper-tiny",
        loader="transformers",
        architecture="whisper",
        input={"batch_size": (1, 2), "decoder_length": (8,)},
    ),
    ModelSpec(
        tag="llama-small",
        loader="transformers",
        architecture="llama",
        config={
            "hidden_size": 768,
            "intermediate_size": 2048,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "num_key_value_heads": 12,
            "vocab_size": 32000,
        },
        input={"batch_size": (1, 4), "sequence_length": (128,)},
    ),
)

# The bare script: what anybody would write to load a model once and time its shapes.
BARE = """
import json, sys, time
started = time.perf_counter()
import torch
import transformers
plan = json.loads(sys.argv[1])
config = transformers.AutoConfig.for_model(plan["architecture"], **plan["config"])
torch.manual_seed(0)
model = transformers.AutoModel.from_config(config).eval()
seen = {}
for tensor in (*model.parameters(), *model.buffers()):
    storage = tensor.untyped_storage()
    seen[storage.data_ptr()] = storage.nbytes()
loaded = time.perf_counter()
for dims, count in plan["runs"]:
    batch, length = dims["batch_size"], dims.get("sequence_length", 128)
    if plan["architecture"] == "vit":
        size = config.image_size
        inputs = {"pixel_values": torch.rand(batch, 3, size, size)}
    elif plan["architecture"] == "whisper":
        steps = dims["decoder_length"]
        frames = 2 * config.max_source_positions
        inputs = {"input_features": torch.rand(batch, config.num_mel_bins, frames),
                  "decoder_input_ids": torch.zeros(batch, steps, dtype=torch.long)}
    else:
        inputs = {"input_ids": torch.randint(0, config.vocab_size, (batch, length))}
        if plan["architecture"] == "t5":
            steps = dims["decoder_length"]
            inputs["decoder_input_ids"] = torch.zeros(batch, steps, dtype=torch.long)
    with torch.inference_mode():
        for _ in range(count):
            model(**inputs)
print(json.dumps({"true_bytes": sum(seen.values()), "load_s": loaded - started,
                  "wall_s": time.perf_counter() - started}))
"""


_HELLO = """
import typer
def main(name: str = "you"):
    print("hello", name)
typer.run(main)
"""
_HELPS = 21
_WATCHED_S = 30.0


def main() -> None:
    """Measure everything and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "profile_accuracy")
    parser.add_argument("--only", action="append", help="a tag; may be given more than once")
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="of the wall time; 0 leaves it out"
    )
    parser.add_argument("--profile", nargs=3, metavar=("OUT", "REPEATS", "TAGS"), help="internal")
    arguments = parser.parse_args()
    if arguments.processes < 2:
        parser.error("--processes must be at least 2: one alone has no spread")
    if arguments.profile:
        out, repeats, tags = cast("list[str]", arguments.profile)
        _profile_here(Path(out), int(repeats), tags.split(","))
        return
    models = [m for m in MODELS if not arguments.only or m.tag in arguments.only]
    with tempfile.TemporaryDirectory() as folder:
        results = _measure_all(
            models,
            Path(folder),
            processes=cast("int", arguments.processes),
            rounds=cast("int", arguments.rounds),
        )
    target = cast("Path", arguments.out)
    target.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    target.with_suffix(".md").write_text(_markdown(results), encoding="utf-8")
    _say(f"written: {target}.json and {target}.md")


def _profile_here(out: Path, repeats: int, tags: Sequence[str]) -> None:
    """Profile in this process, and say what this process took for it."""
    started_s, cpu_before = time.monotonic(), time.process_time()
    outcome = profile_models(
        [model for model in MODELS if model.tag in tags],
        ProfileSettings(out=out, device="host", budget_bytes=8 * GIB, repeats=repeats),
        SilentObserver(),
    )
    told = {
        "wall_s": time.monotonic() - started_s,
        "cpu_s": time.process_time() - cpu_before,
        "peak_rss_bytes": read_host_memory().peak_bytes,
        "imported_torch": "torch" in sys.modules,
        "failed": [*outcome.failed, *outcome.did_not_fit],
    }
    sys.stdout.write(json.dumps(told) + "\n")


def _measure_all(
    models: Sequence[ModelSpec], folder: Path, *, processes: int, rounds: int
) -> dict[str, Any]:
    database_path = folder / "costs.json"
    _say(f"profiling {len(models)} models in {processes} fresh processes each")
    parent = _profile(database_path, processes, models)
    database = load_costs(database_path)
    rows: list[dict[str, Any]] = []
    for model in models:
        cost = database.models[model.tag]
        if cost.error is not None:
            raise ModelmgrError(f"{model.tag}: {cost.error.kind}: {cost.error.message}")
        _say(f"{model.tag}: witnesses and wall time")
        rows.append(_compare(model, cost) | _wall_times(model, folder, rounds))
    return {
        "command": COMMAND,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "os": f"{platform.system()} {platform.release()}",
            "cpu": database.machine.cpu,
            "cores": os.cpu_count(),
            "load_average": os.getloadavg(),
            "python": platform.python_version(),
            "packages": database.machine.packages,
        },
        "processes": processes,
        "parent": parent,
        "workers": _worker_starts(models[0]),
        "monitor": _monitor(),
        "help": _help(folder),
        "models": rows,
    }


def _monitor() -> dict[str, float]:
    """Watch a process of 500 MiB as often as a monitor does by default; return what that takes."""
    holding = f"import sys; held = bytearray({500 * MIB}); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holding]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as watched,  # noqa: S603 - our own
        closing(open_reader("host", budget_bytes=2 * GIB)) as reader,
    ):
        assert watched.stdout is not None  # noqa: S101 - it is a pipe
        watched.stdout.readline()
        reader.track(watched.pid)
        with GPUMonitor(reader=reader):
            started_s, cpu_before = time.monotonic(), time.process_time()
            time.sleep(_WATCHED_S)
            took_s = time.process_time() - cpu_before
            watched_s = time.monotonic() - started_s
        watched.kill()
    return {"watched_s": watched_s, "cpu_s": took_s}


def _help(folder: Path) -> dict[str, float]:
    """Ask our program and a least one of typer's for help, in turn."""
    hello = folder / "hello.py"
    hello.write_text(_HELLO, encoding="utf-8")
    ours = [sys.executable, "-c", "from modelmgr_cli.start import main; main()", "--help"]
    seconds: dict[str, list[float]] = {"modelmgr": [], "hello": []}
    for _ in range(_HELPS):
        for name, command in (
            ("modelmgr", ours),
            ("hello", [sys.executable, str(hello), "--help"]),
        ):
            started_s = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
            seconds[name].append(time.perf_counter() - started_s)
    return {name: statistics.median(took) for name, took in seconds.items()}


def _profile(out: Path, repeats: int, models: Sequence[ModelSpec]) -> dict[str, Any]:
    tags = ",".join(model.tag for model in models)
    command = [sys.executable, __file__, "--profile", str(out), str(repeats), tags]
    started_s = time.monotonic()
    answer = _run(command)
    answer["process_wall_s"] = time.monotonic() - started_s
    return answer


def _compare(model: ModelSpec, cost: ModelCost) -> dict[str, Any]:
    """Return one model's figures beside their witnesses."""
    ledger, peak = _known(cost.ledger), _known(cost.peak_bytes)
    resident = _known(cost.resident_bytes)
    runtime_bytes = _known(ledger.runtime_bytes)
    unaccounted_bytes = _known(ledger.unaccounted_bytes)
    estimate = _known(cost.estimate)
    true_bytes = cast("int", _bare(model, [])["true_bytes"])
    growth = [sample - runtime_bytes for sample in resident.samples]
    activations = _activation_witness(model)
    largest = max(
        shape.activation_bytes.value for shape in cost.shapes if shape.activation_bytes is not None
    )
    return {
        "tag": model.tag,
        "true_bytes": true_bytes,
        "growth_bytes": growth,
        "resident_error": statistics.median(growth) / true_bytes - 1,
        "resident_cv": (statistics.stdev(resident.samples) / statistics.mean(resident.samples)),
        "activations": activations,
        "activation_error": max((abs(a["error"]) for a in activations), default=None),
        "peak_bytes": peak.value,
        "ledger_adds_up": ledger_total_bytes(ledger) == peak.value,
        "unaccounted_bytes": unaccounted_bytes,
        "unaccounted_share": unaccounted_bytes / peak.value,
        "estimate_weights_error": estimate["weights_bytes"] / true_bytes - 1,
        "estimate_activation_error": estimate["activation_bytes"] / largest - 1,
    }


def _wall_times(model: ModelSpec, folder: Path, rounds: int) -> dict[str, Any]:
    """Profile a model in one process and run the bare script, in turn."""
    profile_s: list[float] = []
    bare_s: list[float] = []
    ratios: list[float] = []
    for number in range(rounds):
        database = folder / f"{model.tag}-{number}.json"
        profile_s.append(_profile(database, 1, [model])["process_wall_s"])
        runs = _runs(load_costs(database).models[model.tag])
        bare_s.append(_bare(model, runs)["process_wall_s"])
        ratios.append(profile_s[-1] / bare_s[-1])
    return {
        "profile_wall_s": profile_s,
        "bare_wall_s": bare_s,
        "wall_ratios": ratios,
        "wall_ratio": min(ratios, default=None),
    }


def _known(figure: Figure | None) -> Figure:
    if figure is None:
        raise ModelmgrError("a figure that this benchmark compares was not measured")
    return figure


def _runs(cost: ModelCost) -> list[tuple[Mapping[str, int], int]]:
    """Return how often a profile in one process ran each shape, everything counted.

    Memory phase: one warm-up, one measured; latency phase: one warm-up and the samples; the second
    copy ran the first shape once.
    """
    counts = [
        (shape.dims, 3 + len(shape.latency_ns.samples if shape.latency_ns else ()))
        for shape in cost.shapes
    ]
    dims, count = counts[0]
    return [(dims, count + 1), *counts[1:]]


def _bare(model: ModelSpec, runs: Sequence[tuple[Mapping[str, int], int]]) -> dict[str, Any]:
    plan = {
        "architecture": model.architecture,
        "config": model.config,
        "runs": runs,
    }
    started_s = time.monotonic()
    answer = _run([sys.executable, "-c", BARE, json.dumps(plan)])
    answer["process_wall_s"] = time.monotonic() - started_s
    return answer


def _activation_witness(model: ModelSpec) -> list[dict[str, Any]]:
    """Return the kernel's activation peak beside the framework's, for every shape."""
    found: list[dict[str, Any]] = []
    with WorkerLauncher() as launcher, launcher.start(model) as worker:
        worker.load(timeout_s=None)
        for dims in model.shapes():
            report = worker.run_shape(
                dims, phase="memory", warmups=1, repeats=1, seed=0, timeout_s=None
            )
            kernel = report.after.peak_bytes - report.before.resident_bytes
            tensors = report.tensor_peak_bytes
            if tensors:
                found.append(
                    {
                        "dims": dims,
                        "kernel_bytes": kernel,
                        "tensor_bytes": tensors,
                        "error": kernel / tensors - 1,
                    }
                )
    return found


def _worker_starts(model: ModelSpec) -> dict[str, Any]:
    """Return how long the first worker and further ones take until they are ready to load."""
    with WorkerLauncher() as launcher:
        started_ns = time.monotonic_ns()
        with launcher.start(model):
            first_ns = time.monotonic_ns() - started_ns
        further: list[int] = []
        for _ in range(FURTHER_WORKERS):
            started_ns = time.monotonic_ns()
            with launcher.start(model):
                further.append(time.monotonic_ns() - started_ns)
    return {
        "first_ns": first_ns,
        "further_ns": further,
        "ratio": statistics.median(further) / first_ns,
    }


def _run(command: Sequence[str]) -> dict[str, Any]:
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)  # noqa: S603 - our own interpreter
    return cast("dict[str, Any]", json.loads(done.stdout.splitlines()[-1]))


def _markdown(results: Mapping[str, Any]) -> str:
    machine, parent, workers = results["machine"], results["parent"], results["workers"]
    rows, monitor, told = results["models"], results["monitor"], results["help"]
    adds_up = all(row["ledger_adds_up"] for row in rows)
    further_ns = statistics.median(workers["further_ns"])
    head = f"""# Profile: how true it is and what it costs

Repeat with `{results["command"]}` (needs the `torch` extra). Measured at {results["measured_at"]}
on {machine["cpu"]}, {machine["cores"]} cores, load average {machine["load_average"][0]:.1f},
{machine["os"]}, Python {machine["python"]}, torch {machine["packages"].get("torch")}, transformers
{machine["packages"].get("transformers")}; {results["processes"]} fresh processes a model.

| model | true MiB | resident error | CV | activation error | unaccounted | estimate: weights \
| estimate: activation | wall over bare script |
|---|---|---|---|---|---|---|---|---|
"""
    table = "".join(
        f"| {row['tag']} | {row['true_bytes'] / MIB:.1f} | {row['resident_error']:+.2%} "
        f"| {row['resident_cv']:.3%} | {_percent(row['activation_error'])} "
        f"| {row['unaccounted_share']:+.2%} ({row['unaccounted_bytes'] / MIB:+.1f} MiB) "
        f"| {row['estimate_weights_error']:+.3%} | {row['estimate_activation_error']:+.2%} "
        f"| {_ratio(row['wall_ratio'])} |\n"
        for row in rows
    )
    tail = f"""
- Every ledger adds up to its peak: {"yes" if adds_up else "NO"}
- A further worker over the first: 1/{1 / workers["ratio"]:.0f} ({further_ns / 1e6:.0f} ms over
  {workers["first_ns"] / 1e9:.2f} s)
- The parent while profiling: {parent["peak_rss_bytes"] / MIB:.0f} MiB at its peak, torch imported:
  {"YES" if parent["imported_torch"] else "no"}, {parent["cpu_s"] / parent["wall_s"]:.2%} of a core
  (all that it does, watching included)
- `GPUMonitor` at its default interval, a process of 500 MiB watched:
  {monitor["cpu_s"] / monitor["watched_s"]:.2%} of a core
- `modelmgr --help` over a typer program of one function:
  {told["modelmgr"] / told["hello"]:.2f} ({told["modelmgr"] * 1e3:.0f} and
  {told["hello"] * 1e3:.0f} ms)

Resident error: median growth over the runtime against the true bytes of parameters and buffers.
Activation error: the kernel's peak against the framework's count of live tensors, the worst shape.
Wall: one model in one process, estimate and second copy included, over a bare script that loads it
once and runs the same shapes as often, the lowest of the rounds.
"""
    return head + table + tail


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2%}"


def _ratio(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
