"""Clients and workers of a shared manager are killed at random for minutes; nothing may be lost.

    python results/soak/service_soak.py --seconds 300

Sixteen client processes with four threads each lease, call and release models of real memory in
real worker processes, on the host's memory with a limit that holds a part of them. Meanwhile
clients and workers are ended by ``kill -9`` at random, and clients are replaced. The run fails when

* a request of a living client does not end in time (a lost ticket);
* a promise of the scheduler does not hold at any moment (checked every 20 ms under its lock);
* the workers' peaks, as the kernel tells them (VmHWM), exceed the limit together;
* at the end a copy is held, a ticket waits, or a byte is reserved;
* the server has more descriptors or mapped segments at the end, with nothing loaded, than at the
  beginning, or its memory grew by more than a tenth and 20 MB after the first tenth of the time;
* a worker or forkserver outlives the server.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

import modelmgr
from modelmgr import ModelManager, RemoteManager, ServiceServer
from modelmgr.records.devices import DeviceDescription
from modelmgr.scheduling.promises import check_promises
from modelmgr.units import MIB
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workload.model_spec import ModelSpec

SLACK = 0.1
TOTAL_BYTES = 900 * MIB
_LIMIT_BYTES = round(TOTAL_BYTES * (1 - SLACK))
BASE_BYTES = 60 * MIB  # a worker without a model takes less
SIZES_MB = (20, 40, 60, 80, 100, 120)
ACTIVATION_MB = 10
GRACE_S = 60.0  # what a request may take beyond its time-out: a load on a crowded machine
CHECK_S = 0.02


def specs() -> dict[str, ModelSpec]:
    """Return models of real memory; each batch takes some more of it, and some time."""
    return {
        f"model-{size}": ModelSpec(
            tag=f"model-{size}",
            loader="synthetic",
            options={
                "resident_bytes": size * MIB,
                "activation_bytes": ACTIVATION_MB * MIB,
                "service_ns": 2_000_000,
            },
        )
        for size in SIZES_MB
    }


def say(what: object) -> None:
    """Say one line of JSON."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


# The server ---------------------------------------------------------------------------------------


def serve(path: str) -> None:
    """Serve until told to stop; say what was broken."""
    costs = {f"model-{size}": float(size + ACTIVATION_MB + BASE_BYTES // MIB) for size in SIZES_MB}
    device = DeviceDescription(name="host", kind="host", total_bytes=TOTAL_BYTES, slack=SLACK)
    broken: list[str] = []
    stop = threading.Event()
    with WorkerLauncher() as launcher:
        manager = ModelManager(
            devices=[device], costs=costs, eviction_cooldown_seconds=0.0, poll_interval=0.1
        )
        server = ServiceServer(manager, launcher, socket_path=path, models=specs())

        def watch() -> None:
            while not stop.wait(CHECK_S):
                try:
                    with manager.driver.gate.settled, manager.driver.gate.lock:
                        check_promises(manager.driver.scheduler)
                except AssertionError as error:
                    broken.append(str(error))

        watcher = threading.Thread(target=watch)
        watcher.start()
        say({"ready": True})
        server.wait()
        stop.set()
        watcher.join()
        manager.shutdown()
        say({"broken": broken[:20]})


# A client -----------------------------------------------------------------------------------------


def visit(path: str, seed: str, threads: str) -> None:
    """Lease, call and release until told to stop by SIGTERM; say how it went."""
    stop = threading.Event()

    def leave(*_: object) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, leave)
    outcomes: Counter[str] = Counter()
    late: list[str] = []
    with modelmgr.connect(path) as manager:
        workers = [
            threading.Thread(target=work, args=(manager, f"{seed}.{number}", stop, outcomes, late))
            for number in range(int(threads))
        ]
        for worker in workers:
            worker.start()
        say({"ready": True})
        while any(worker.is_alive() for worker in workers):
            stop.wait(0.1)
        for worker in workers:
            worker.join()
    say({"outcomes": outcomes, "late": late})


def work(
    manager: RemoteManager,
    seed: str,
    stop: threading.Event,
    outcomes: Counter[str],
    late: list[str],
) -> None:
    """Be one thread of a client."""
    rng = random.Random(seed)  # noqa: S311 - a seeded load
    tags = list(specs())
    while not stop.is_set():
        tag = rng.choice(tags)
        timeout_s = rng.choice((0.0, 0.05, 1.0, 10.0))
        begun = time.monotonic()
        try:
            with manager.lease(tag, timeout=timeout_s, priority=rng.randrange(2)) as model:
                if rng.random() < 0.6:
                    model.run_shape(
                        {"batch_size": 1},
                        phase="latency",
                        warmups=0,
                        repeats=1,
                        seed=0,
                        timeout_s=GRACE_S,
                    )
                else:
                    stop.wait(rng.uniform(0, 0.01))
            outcomes["granted"] += 1
        except modelmgr.ModelmgrError as error:
            outcomes[type(error).__name__] += 1
        took_s = time.monotonic() - begun
        if took_s > timeout_s + GRACE_S:
            late.append(f"{tag} took {took_s:.1f} s with a time-out of {timeout_s} s")


# The one who kills --------------------------------------------------------------------------------


class Party:
    """A process of this program and what it says."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, __file__, *arguments],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._ready = False

    def said(self, timeout_s: float = 2 * GRACE_S) -> Any:  # noqa: ANN401 - JSON
        """Return the next line; None where there is none in time."""
        assert self.process.stdout is not None  # noqa: S101 - it was made with a pipe
        ready, _, _ = select.select([self.process.stdout], [], [], timeout_s)
        line = self.process.stdout.readline() if ready else b""
        return json.loads(line) if line else None

    def at_work(self, timeout_s: float = 0.0) -> bool:
        """Say whether it has said that it is ready."""
        if not self._ready:
            self._ready = self.said(timeout_s) is not None
        return self._ready

    def forget(self) -> None:
        """Kill it if need be, and wait."""
        self.process.kill()
        self.process.communicate()


def state_of(server: psutil.Process) -> dict[str, int]:
    """Return what the server has open and holds."""
    maps = Path(f"/proc/{server.pid}/maps").read_text(encoding="utf-8")
    return {
        "descriptors": server.num_fds(),
        "segments": maps.count("memfd:modelmgr-arrays"),
        "threads": server.num_threads(),
        "rss_bytes": server.memory_info().rss,
    }


def workers_of(server: psutil.Process) -> list[psutil.Process]:
    """Return the workers: the children of the server's forkservers."""
    found: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for forkserver in server.children():
            found.extend(forkserver.children())
    return found


def peak_of(worker: psutil.Process) -> int:
    """Return the kernel's own peak of a worker, 0 where it is gone."""
    with contextlib.suppress(OSError, StopIteration):
        status = Path(f"/proc/{worker.pid}/status").read_text(encoding="utf-8").splitlines()
        fields = {line.partition(":")[0]: line.split()[1] for line in status if "kB" in line}
        if "VmHWM" in fields:
            return (int(fields["VmHWM"]) - int(fields["RssFile"])) * 1024
    return 0


def settled(client: RemoteManager) -> dict[str, Any]:
    """Unload everything; return what is there all the same, after some patience."""
    client.force_reset()
    deadline = time.monotonic() + GRACE_S
    while True:
        seen = client.snapshot()
        left = {
            "copies": [(copy.tag, copy.state) for copy in seen.copies],
            "waiting": [ticket.tag for ticket in seen.queue],
            "reserved_bytes": seen.devices[0].reserved_bytes,
            "freeing_bytes": seen.devices[0].freeing_bytes,
        }
        if not any(left.values()) or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


class Soak:
    """One run.

    Args:
        path: the socket.
        args: as the command line has them.
    """

    def __init__(self, path: str, args: argparse.Namespace) -> None:
        self.args = args
        self.path = path
        self.rng = random.Random(args.seed)  # noqa: S311 - a seeded run
        self.failures: list[str] = []
        self.kills: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.highest_bytes = 0
        self.server = Party("serve", path)
        if self.server.said() is None:
            raise SystemExit("the server did not start")
        self.process = psutil.Process(self.server.process.pid)
        self.visitors: list[Party] = []

    def run(self) -> dict[str, Any]:
        """Run it all; return what happened."""
        with modelmgr.connect(self.path) as client:
            with client.lease("model-20"):
                pass
            settled(client)
            first = state_of(self.process)
        for number in range(self.args.clients):
            self.visitors.append(self.visitor(number))
        early = self.kill_for(self.args.seconds / 10)
        self.kill_for(self.args.seconds * 0.9)
        self.send_home()
        with modelmgr.connect(self.path) as client:
            left = settled(client)
            late = state_of(self.process)
            self.failures.extend(f"{what} at the end: {v}" for what, v in left.items() if v)
            self.end_server(client)
        self.compare(first, early, late)
        return {
            "outcomes": dict(self.outcomes),
            "kills": dict(self.kills),
            "highest_bytes": self.highest_bytes,
            "limit_bytes": _LIMIT_BYTES,
            "server_at_first": first,
            "server_after_a_tenth": early,
            "server_at_the_end": late,
            "failures": self.failures,
        }

    def visitor(self, name: object) -> Party:
        """Start a client."""
        return Party("visit", self.path, f"{self.args.seed}.{name}", str(self.args.threads))

    def kill_for(self, seconds: float) -> dict[str, int]:
        """Kill for so long; return what the server has then."""
        begun = time.monotonic()
        next_kill = begun
        while (now := time.monotonic()) < begun + seconds:
            peaks = sum(map(peak_of, workers_of(self.process)))
            self.highest_bytes = max(self.highest_bytes, peaks)
            if now >= next_kill:
                next_kill = now + self.rng.uniform(0.05, 0.4)
                self.kill_one()
            time.sleep(0.01)
        return state_of(self.process)

    def kill_one(self) -> None:
        """Kill a worker, or a client that has been at work for a while."""
        workers = workers_of(self.process)
        if workers and self.rng.random() < 0.3:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.rng.choice(workers).kill()
                self.kills["workers"] += 1
            return
        place = self.rng.randrange(len(self.visitors))
        if self.visitors[place].at_work():
            self.visitors[place].forget()
            self.kills["clients"] += 1
            self.visitors[place] = self.visitor(f"after-{self.kills['clients']}")

    def send_home(self) -> None:
        """Let the clients end, and hear how it went."""
        for visitor in self.visitors:
            if visitor.at_work(2 * GRACE_S):
                visitor.process.send_signal(signal.SIGTERM)
        for visitor in self.visitors:
            told = visitor.said()
            if told is None:
                self.failures.append("a client did not end: a request of it was lost")
            else:
                self.outcomes.update(told["outcomes"])
                self.failures.extend(told["late"])
            visitor.forget()

    def end_server(self, client: RemoteManager) -> None:
        """Stop the server; nothing that it started may be left."""
        started = [*self.process.children(), *workers_of(self.process)]
        pidfds = [os.pidfd_open(process.pid) for process in started]
        client.stop_server()
        told = self.server.said()
        self.failures.extend(["the server did not end"] if told is None else told["broken"])
        self.server.forget()
        deadline = time.monotonic() + GRACE_S
        for pidfd in pidfds:
            if not select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self.failures.append("a process outlived the server")
            os.close(pidfd)

    def compare(self, first: dict[str, int], early: dict[str, int], late: dict[str, int]) -> None:
        """Note what grew."""
        if self.highest_bytes > _LIMIT_BYTES:
            self.failures.append(f"the workers' peaks were {self.highest_bytes} bytes together")
        self.failures.extend(
            f"{what} grew from {first[what]} to {late[what]}"
            for what in ("descriptors", "segments")
            if late[what] > first[what]
        )
        if late["rss_bytes"] > early["rss_bytes"] * 1.1 + 20 * MIB:
            self.failures.append(f"memory grew from {early['rss_bytes']} to {late['rss_bytes']}")


_OUT = Path("results/soak/service_soak.json")


def main() -> None:
    """Run it, print what happened, write the file; exit with 1 where something was lost."""
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
        return
    if sys.argv[1:2] == ["visit"]:
        visit(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--threads", type=int, default=4, help="of each client")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=_OUT)
    parser.add_argument("--quick", action="store_true", help="20 s and four clients: it works")
    args = parser.parse_args()
    if args.quick:
        args.seconds, args.clients = 20.0, 4
        if args.out == _OUT:
            args.out = Path("results/local") / _OUT.name
            args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        found = Soak(str(Path(folder) / "manager.sock"), args).run()
    shown = {
        "benchmark": "service_soak",
        "command": "python " + shlex.join(sys.argv),
        "version": modelmgr.__version__,
        "seconds": args.seconds,
        "clients": args.clients,
        "threads": args.clients * args.threads,
        "seed": args.seed,
        **found,
    }
    args.out.write_text(json.dumps(shown, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(shown, indent=1) + "\n")
    raise SystemExit(1 if found["failures"] else 0)


if __name__ == "__main__":
    main()
