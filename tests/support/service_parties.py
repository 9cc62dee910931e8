"""A server and its clients, in processes of their own, for tests that kill them.

``service_parties.py serve PATH`` serves a manager of fixed size, ``limited PATH CONNECTIONS`` with
no more descriptors than so many connections need, and ``hold PATH WHAT`` is a client that does one
thing and then waits for ever. All say a line of JSON when they are where the test wants them.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Self

import numpy as np

import modelmgr
from modelmgr.records.devices import DeviceDescription
from modelmgr.runtime.manager import ModelManager
from modelmgr.runtime.service import descriptors
from modelmgr.runtime.service.server import ServiceServer
from modelmgr.units import GIB, MIB
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workload.model_spec import ModelSpec

PATIENCE_S = 60.0
DEVICE = DeviceDescription(name="fixed", kind="fixed", total_bytes=4 * GIB)
COSTS = {
    "small": 100.0,
    "echo": 100.0,
    "slow": 100.0,
    "hang": 100.0,
    "large": 3500.0,
    "huge": 100_000.0,
}


def python_spec(tag: str, **options: object) -> ModelSpec:
    """A model of ``workers.worker_models`` under a tag of its own: it echoes, or misbehaves."""
    return ModelSpec(tag=tag, loader="python", target="workers.worker_models:load", options=options)


def synthetic_spec(tag: str, **options: object) -> ModelSpec:
    return ModelSpec(tag=tag, loader="synthetic", options=options)


def models(pipe: str = "") -> dict[str, ModelSpec]:
    """What the servers of the tests list."""
    specs = [
        synthetic_spec("small", resident_bytes=MIB),
        synthetic_spec("large", resident_bytes=MIB),
        synthetic_spec("slow", load_ns=10**9),
        python_spec("echo"),
        python_spec("fails", on_load="value_error"),
        python_spec("raises", on_infer="value_error"),
        python_spec("dies", on_infer="kill_itself"),
        python_spec("full", on_infer="out_of_memory"),
        python_spec("hang", on_infer="signal_then_hang", path=pipe),
        python_spec("stuck", on_load="signal_then_hang", path=pipe),
    ]
    return {spec.tag: spec for spec in specs}


@contextlib.contextmanager
def serving(path: Path, *, pipe: str = "", **options: Any) -> Generator[ServiceServer]:
    """Serve in this process until the end of the block."""
    options.setdefault("models", models(pipe))
    with (
        WorkerLauncher() as launcher,
        ModelManager(devices=[DEVICE], costs=COSTS, max_model_copies=1) as manager,
        ServiceServer(manager, launcher, socket_path=path, **options) as server,
    ):
        yield server


class Child:
    """One of the programs below, in a process of its own, in its state that the test wants."""

    def __init__(self, *arguments: str | Path, pass_fds: tuple[int, ...] = ()) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "support.service_parties", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            pass_fds=pass_fds,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def said(self) -> Any:
        """Return the next line that it said."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        assert ready, "the child said nothing"
        line = self.process.stdout.readline()
        assert line, "the child ended"
        return json.loads(line)

    def tell(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def serve(path: str, pipe: str = "") -> None:
    with WorkerLauncher() as launcher:
        manager = ModelManager(devices=[DEVICE], costs=COSTS, max_model_copies=1)
        server = ServiceServer(manager, launcher, socket_path=path, models=models(pipe))
        for tag in ("small", "echo"):
            with modelmgr.connect(path) as client, client.lease(tag):
                pass
        say(
            {
                "epoch": server.epoch,
                "pids": sorted(launcher.pids() | launcher.server_pids()),
            }
        )
        server.wait()
        manager.shutdown()


def limited(path: str, connections: str) -> None:
    """Serve as many as the limit is made for; at each line, leave descriptors: none, one, all."""
    wanted = descriptors.RESERVED + descriptors.PER_CONNECTION * int(connections)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (
        WorkerLauncher() as launcher,
        ModelManager(devices=[DEVICE], costs=COSTS, max_model_copies=1) as manager,
    ):
        opened = sum(1 for _ in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened + wanted, hard))
        server = ServiceServer(
            manager,
            launcher,
            socket_path=path,
            models=models(),
            max_connections_per_process=10**6,
        )
        say({"connections": server.quotas.in_all, "limit": descriptors.limit()})
        eaten: list[int] = []
        for left in (0, 1, None):
            sys.stdin.readline()
            with contextlib.suppress(OSError):
                while left is not None:
                    eaten.append(os.open(os.devnull, os.O_RDONLY))
            for each in eaten[:left]:
                os.close(each)
            del eaten[:left]
            say({})
        server.wait()


def hold(path: str, what: str) -> None:
    """Hold an idle lease, be in the middle of a call, wait in the queue, or be loading."""
    client = modelmgr.connect(path)
    if what in {"idle", "with-descendant"}:
        lease = client.lease("echo")
        child = 0
        if what == "with-descendant":
            child = _leave_descendant()
        say({"serial": lease.serial, "child": child, "worker": lease.instance.pid})
    elif what == "calling":
        lease = client.lease("hang")
        say({"worker": lease.instance.pid})
        lease.instance.infer(1)
    elif what == "waiting":
        say({})
        client.lease("echo", timeout=None)
    elif what == "loading":
        say({})
        client.lease("stuck", timeout=None)
    elif what == "calling-large":
        lease = client.lease("hang")
        say({"worker": lease.instance.pid})
        lease.instance.infer(np.ones(50_000_000, np.uint8))
    elif what == "interrupted":
        say({})
        try:
            client.lease("echo", timeout=None)
        except KeyboardInterrupt:
            say({"interrupted": client.lease("small").copy})
    elif what == "interrupted-call":
        lease = client.lease("hang")
        say({})
        try:
            lease.instance.infer(1)
        except KeyboardInterrupt:
            lease.release()
            say({"released": lease.over})
    elif what == "forked":
        _fork(client)
    threading.Event().wait()


def _fork(client: modelmgr.RemoteManager) -> None:
    """Say how a forked child fares with what its parent holds, and with a manager of its own."""
    lease = client.lease("echo")
    child = os.fork()
    if child == 0:
        found: dict[str, object] = {}
        uses: dict[str, Callable[[], object]] = {
            "lease": lambda: client.lease("small"),
            "release": lease.release,
            "infer": lambda: lease.instance.infer(1),
            "shutdown": client.shutdown,
        }
        for name, use in uses.items():
            try:
                use()
            except modelmgr.ModelmgrError as error:
                found[name] = type(error).__name__
            else:
                found[name] = None
        with modelmgr.connect(client.path) as own, own.lease("small") as model:
            found["own"] = model.alive
        say(found)
        os._exit(0)
    os.waitpid(child, 0)
    say({"still": lease.instance.infer("held"), "serial": lease.serial})


def _leave_descendant() -> int:
    """Leave a process behind that has copies of all descriptors, as a library in C might."""
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            if str(link.readlink()).startswith("socket:"):
                os.set_inheritable(int(link.name), True)
    child = subprocess.Popen(
        [sys.executable, "-c", "import threading; threading.Event().wait()"],
        close_fds=False,
        stdout=subprocess.DEVNULL,
    )
    return child.pid


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    elif sys.argv[1] == "limited":
        limited(*sys.argv[2:])
    else:
        hold(*sys.argv[2:])
