"""How long a lease takes through the shared manager, and how soon a dead client is noticed.

    python results/benchmarks/service_latency.py

``--quick`` takes seconds and shows that it works; ``--resume`` goes on after the last part that a
stopped run had measured.

A server with one model of the ``python`` loader in a worker process, on a device of a fixed size,
in a process of its own; clients in processes of their own:

* round trips of an idle hit: ``lease``, ``release``, and both together, one client, one thread;
* the same beside the manager itself in one process, so that the socket's part is seen;
* ``infer`` with arrays of several sizes, through the socket and directly on a worker;
* from ``kill -9`` of an idle holder until another client, which waits, has the copy; and from
  ``kill -9`` of a holder in the middle of a call until its copy and worker are gone.

Times are this machine's, in microseconds; 2 processes take part in each round trip, so a machine
that is busy adds the waiting of both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import select
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import modelmgr
from modelmgr import ModelManager, ServiceServer
from modelmgr.records.devices import DeviceDescription
from modelmgr.runtime.worker_loader import WorkerLoader
from modelmgr.units import GIB
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workload.model_spec import ModelSpec

# The folder above all: how benchmarks are run is shared.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from results.benchmarks.parts.resumed import (
    Parts,
    add_arguments,
    place_for,
)

DEVICE = DeviceDescription(name="fixed", kind="fixed", total_bytes=8 * GIB)
KNOWN = 100
ARRAY_BYTES = (0, 10_000, 1_000_000, 10_000_000, 100_000_000)


class Echo:
    """Gives its batch back, or takes for ever where it is a text."""

    def infer(self, batch: object) -> object:
        """Return the batch."""
        if isinstance(batch, str):
            threading.Event().wait()
        return batch


def load() -> Echo:
    """Return an Echo; the target of the models."""
    return Echo()


def specs() -> dict[str, ModelSpec]:
    """Return a hundred models, so that each round trip is one among many known ones."""
    target = "service_latency:load"
    tags = [f"echo-{number}" for number in range(KNOWN)]
    return {tag: ModelSpec(tag=tag, loader="python", target=target) for tag in tags}


def make_manager() -> ModelManager:
    """Return a manager to which every model is known, with one copy of each."""
    return ModelManager(devices=[DEVICE], costs=dict.fromkeys(specs(), 50.0), max_model_copies=1)


def serve(path: str) -> None:
    """Serve until the end of this process."""
    with WorkerLauncher() as launcher, make_manager() as manager:
        server = ServiceServer(manager, launcher, socket_path=path, models=specs())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        server.wait()


def hold(path: str, how: str) -> None:
    """Hold a lease, idle or in the middle of a call, until the end of this process."""
    lease = modelmgr.connect(path).lease("echo-0")
    sys.stdout.write(f"{lease.instance.pid}\n")
    sys.stdout.flush()
    if how == "calling":
        lease.instance.infer("hang")
    threading.Event().wait()


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """Start one of the above."""
    folder = str(Path(__file__).parent)
    return subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, __file__, *arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([folder, *sys.path])},
    )


def said(process: subprocess.Popen[bytes]) -> str:
    """Return the next line that a process said."""
    assert process.stdout is not None  # noqa: S101 - it was made with a pipe
    return process.stdout.readline().decode().strip()


def figures(samples_ns: list[int]) -> dict[str, float]:
    """Return what is told of a sample, microseconds."""
    ordered = sorted(samples_ns)
    return {
        "median_us": round(statistics.median(ordered) / 1e3, 2),
        "p99_us": round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] / 1e3, 2),
        "min_us": round(ordered[0] / 1e3, 2),
        "max_us": round(ordered[-1] / 1e3, 2),
        "samples": len(ordered),
    }


def time_round_trips(lease: Callable[[], Any], count: int) -> dict[str, dict[str, float]]:
    """Time leases of an idle copy and their releases."""
    for _ in range(count // 10):
        lease().release()
    leases: list[int] = []
    releases: list[int] = []
    clock = time.perf_counter_ns
    for _ in range(count):
        before_ns = clock()
        held = lease()
        between_ns = clock()
        held.release()
        after_ns = clock()
        leases.append(between_ns - before_ns)
        releases.append(after_ns - between_ns)
    both = [taken + given for taken, given in zip(leases, releases, strict=True)]
    return {"lease": figures(leases), "release": figures(releases), "both": figures(both)}


def time_calls(infer: Callable[[object], object]) -> dict[str, dict[str, float]]:
    """Time calls with arrays that come back as they went."""
    found: dict[str, dict[str, float]] = {}
    for size in ARRAY_BYTES:
        batch = np.zeros(size, np.uint8)
        infer(batch)
        taken: list[int] = []
        for _ in range(200 if size < 1_000_000 else 10):
            before_ns = time.perf_counter_ns()
            infer(batch)
            taken.append(time.perf_counter_ns() - before_ns)
        found[str(size)] = figures(taken)
    return found


def time_idle_deaths(path: str, count: int) -> dict[str, float]:
    """Time from ``kill -9`` of an idle holder until one who waits has the copy."""
    client = modelmgr.connect(path)
    taken: list[int] = []
    for _ in range(count):
        holder = start("hold", path, "idle")
        said(holder)
        got: list[int] = []

        def wait(got: list[int] = got) -> None:
            with client.lease("echo-0", timeout=60.0):
                got.append(time.perf_counter_ns())

        waiting = threading.Thread(target=wait)
        waiting.start()
        while not any(ticket.tag == "echo-0" for ticket in client.snapshot().queue):
            pass
        before_ns = time.perf_counter_ns()
        holder.kill()
        waiting.join()
        taken.append(got[0] - before_ns)
        holder.communicate()
    client.shutdown()
    return figures(taken)


def time_deaths_in_calls(path: str, count: int) -> dict[str, float]:
    """Time from ``kill -9`` of a calling holder until its copy and its worker are gone."""
    client = modelmgr.connect(path)
    taken: list[int] = []
    for _ in range(count):
        holder = start("hold", path, "calling")
        worker = os.pidfd_open(int(said(holder)))
        time.sleep(0.2)  # the call is on its way: nothing tells when it has begun
        before_ns = time.perf_counter_ns()
        holder.kill()
        select.select([worker], [], [])
        while any(copy.tag == "echo-0" for copy in client.snapshot().copies):
            pass
        taken.append(time.perf_counter_ns() - before_ns)
        os.close(worker)
        holder.communicate()
    client.shutdown()
    return figures(taken)


def measure_here(count: int) -> dict[str, Any]:
    """Return the same figures without a socket: the manager and a worker in this process."""
    spec = specs()["echo-0"]
    with WorkerLauncher() as launcher, make_manager() as manager:
        loader = WorkerLoader(launcher, spec)
        with manager.lease("echo-0", loader) as worker:
            calls = time_calls(worker.infer)
        trips = time_round_trips(lambda: manager.lease("echo-0", loader), count)
    return {"round_trips": trips, "calls": calls}


def measure_served(path: str, count: int) -> dict[str, Any]:
    """Return round trips and calls through a server."""
    with modelmgr.connect(path) as client:
        with client.lease("echo-0") as model:
            calls = time_calls(model.infer)
        trips = time_round_trips(lambda: client.lease("echo-0"), count)
    return {"round_trips": trips, "calls": calls}


def with_server(part: Callable[[str], Any]) -> Any:  # noqa: ANN401 - what the part returns
    """Return what a part measures of a server of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "manager.sock")
        server = start("serve", path)
        try:
            said(server)
            return part(path)
        finally:
            server.terminate()
            server.communicate()


def measure(count: int, deaths: int, done: Parts) -> dict[str, Any]:
    """Return all figures."""
    return {
        **done.measure("served", lambda: with_server(lambda path: measure_served(path, count))),
        "death_of_idle_holder_to_regrant": done.measure(
            "idle deaths", lambda: with_server(lambda path: time_idle_deaths(path, deaths))
        ),
        "death_in_call_to_copy_gone": done.measure(
            "deaths in calls", lambda: with_server(lambda path: time_deaths_in_calls(path, deaths))
        ),
        "in_process": done.measure("in process", lambda: measure_here(count)),
    }


def main() -> None:
    """Run everything, print it, write the file."""
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
        return
    if sys.argv[1:2] == ["hold"]:
        hold(sys.argv[2], sys.argv[3])
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--round-trips", type=int, default=20_000)
    parser.add_argument("--deaths", type=int, default=20)
    add_arguments(parser, "service_latency")
    args = parser.parse_args()
    if args.quick:
        args.round_trips, args.deaths = 500, 2
    out = place_for("service_latency", args)
    done = Parts(out, [args.round_trips, args.deaths], resume=args.resume)
    load_before = os.getloadavg()[0]
    found = {
        "benchmark": "service_latency",
        "command": "python " + shlex.join(sys.argv),
        "version": modelmgr.__version__,
        "machine": {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.release(),
            "load_before": round(load_before, 2),
        },
        **measure(args.round_trips, args.deaths, done),
    }
    text = json.dumps(found, indent=1)
    out.write_text(text + "\n", encoding="utf-8")
    done.end()
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
