"""Nothing that a launcher starts outlives it, and nothing of it is left in its process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from modelmgr.errors import UsageError, WorkerDiedError, WorkerError, WorkerTimeoutError
from modelmgr.workers.launcher import StartMethod, Worker, WorkerLauncher
from modelmgr.workers.server_process import ServerProcess
from modelmgr.workers.watcher import Watcher
from support.processes import children, descriptors, open_pidfds, still_running
from support.worker_specs import START_METHODS, python_model, synthetic_model

_TESTS = Path(__file__).resolve().parent.parent


def _start_program(name: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - a program of these tests
        [sys.executable, str(_TESTS / "support" / name), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **variables},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_forkserver_is_started_once_for_each_set_of_frameworks() -> None:
    with WorkerLauncher() as launcher:
        assert launcher.prepare(python_model()) > 0
        assert launcher.prepare(python_model()) == 0
        servers = launcher.server_pids()
        assert len(servers) == 1
        with launcher.start(python_model()) as one, launcher.start(python_model()) as two:
            assert launcher.pids() == {one.pid, two.pid}
        assert launcher.server_pids() == servers


def test_spawned_workers_are_fresh_interpreters_that_one_server_starts() -> None:
    with WorkerLauncher(start_method="spawn") as launcher:
        assert launcher.prepare(python_model()) == 0
        with launcher.start(python_model()) as worker, launcher.start(synthetic_model()):
            command = Path(f"/proc/{worker.pid}/cmdline").read_bytes()
            assert b"modelmgr.workers.child" in command
            assert worker.load(timeout_s=60).import_ns > 1_000_000  # numpy is not there yet
            assert worker.infer({"a": 1}) == {"a": 1}
            [server] = launcher.server_pids()
            assert children() >= {server}
            assert worker.pid not in children()


@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_closed_launcher_leaves_no_process_no_zombie_and_no_descriptor(
    start_method: StartMethod,
) -> None:
    with WorkerLauncher(start_method=start_method):
        pass  # whatever is made once for a process is made now
    before, relatives, threads = descriptors(), children(), set(threading.enumerate())
    launcher = WorkerLauncher(start_method=start_method)
    workers = [launcher.start(python_model()) for _ in range(3)]
    workers[0].load(timeout_s=60)
    workers[1].close()
    workers[2].kill()
    pidfds = open_pidfds(launcher.pids() | launcher.server_pids())
    launcher.close()
    launcher.close()
    assert still_running(pidfds) == set()
    assert not any(worker.alive for worker in workers)
    assert descriptors() == before
    assert children() == relatives
    assert set(threading.enumerate()) <= threads  # one of an earlier test may have ended


@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_launcher_that_is_closed_ends_a_worker_in_the_middle_of_a_batch(
    start_method: StartMethod, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    failures: list[BaseException] = []
    with WorkerLauncher(start_method=start_method) as launcher:
        worker = launcher.start(python_model(on_infer="signal_then_hang", path=str(pipe)))
        worker.load(timeout_s=60)

        def infer() -> None:
            try:
                worker.infer(1)
            except WorkerDiedError as error:
                failures.append(error)

        thread = threading.Thread(target=infer)
        thread.start()
        pipe.read_text()
        worker.close(timeout_s=0.05)
    thread.join()
    assert len(failures) == 1


@pytest.mark.parametrize("start_method", START_METHODS)
def test_sigkill_of_the_owner_leaves_neither_worker_nor_forkserver(
    start_method: str, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with _start_program("worker_owner.py", start_method, str(pipe)) as owner:
        assert owner.stdout is not None
        pids = json.loads(owner.stdout.readline())
        assert len(pids) == 3
        pidfds = open_pidfds(pids)
        assert pipe.read_text() == "hanging"
        owner.kill()
    assert still_running(pidfds) == set()


@pytest.mark.parametrize("start_method", START_METHODS)
def test_sigkill_of_the_owner_leaves_no_daemon_of_a_model(
    start_method: str, tmp_path: Path
) -> None:
    pipe, daemon = tmp_path / "pipe", tmp_path / "daemon"
    os.mkfifo(pipe)
    with _start_program("worker_owner.py", start_method, str(pipe), str(daemon)) as owner:
        assert owner.stdout is not None
        pids = json.loads(owner.stdout.readline())
        pidfds = open_pidfds([*pids, int(daemon.read_text())])
        assert len(pidfds) == 4
        assert pipe.read_text() == "hanging"
        owner.kill()
    assert still_running(pidfds, deadline_s=10) == set()


def test_sigkill_of_the_owner_ends_a_forkserver_that_is_importing(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with _start_program("server_owner.py", MODELMGR_TEST_PIPE=str(pipe)) as owner:
        pidfds = open_pidfds([int(pipe.read_text())])
        owner.kill()
    assert still_running(pidfds) == set()


@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_worker_outlives_the_thread_that_started_it(
    start_method: StartMethod,
) -> None:
    # The kernel ties a child to its parent's thread; a caller's thread may well be a short one.
    with WorkerLauncher(start_method=start_method) as launcher:
        found: list[Worker] = []
        thread = threading.Thread(target=lambda: found.append(launcher.start(python_model())))
        thread.start()
        thread.join()
        worker = found[0]
        worker.load(timeout_s=60)
        assert worker.infer("still here") == "still here"


def test_threads_that_start_workers_at_once_share_one_forkserver() -> None:
    with WorkerLauncher() as launcher:
        found: list[Worker] = []

        def start() -> None:
            worker = launcher.start(synthetic_model(resident_bytes=1000))
            worker.load(timeout_s=60)
            found.append(worker)

        threads = [threading.Thread(target=start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(launcher.pids()) == 8
        assert len(launcher.server_pids()) == 1
        assert len({worker.pid for worker in found}) == 8


@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_lack_of_descriptors_is_one_error_that_names_the_limit(start_method: str) -> None:
    # Each limit cuts at another place: a socket, a pipe, a pidfd, one that is passed on.
    with _start_program("starved_owner.py", start_method, "6", "24") as owner:
        assert owner.stdout is not None
        results = [json.loads(line) for line in owner.stdout]
    assert owner.returncode == 0
    assert len(results) == 19
    for limit, _, kind, message, log in results:
        assert (kind, log) == ("WorkerError", ""), (limit, kind, message, log)
        assert message.count(f"{limit} open files") == 1
        assert "ulimit -n" in message
    assert results[-1][1] > 0


def test_two_launchers_know_nothing_of_each_other() -> None:
    with WorkerLauncher() as one, WorkerLauncher() as two:
        first, second = one.start(python_model()), two.start(python_model())
        assert one.pids() == {first.pid}
        assert two.pids() == {second.pid}
        assert one.server_pids().isdisjoint(two.server_pids())
        one.close()
        second.load(timeout_s=60)
        assert second.infer(1) == 1


def test_a_closed_launcher_starts_nothing() -> None:
    launcher = WorkerLauncher()
    launcher.close()
    with pytest.raises(UsageError, match="closed"):
        launcher.start(python_model())


def test_a_spec_that_is_wrong_to_see_starts_no_process() -> None:
    with WorkerLauncher() as launcher:
        with pytest.raises(UsageError):
            launcher.start(synthetic_model(no_such_option=1))
        with pytest.raises(UsageError, match="budget"):
            launcher.start(python_model(), budget_bytes=0)
        assert launcher.server_pids() == frozenset()


def test_a_forkserver_that_was_killed_is_replaced() -> None:
    with WorkerLauncher() as launcher:
        worker = launcher.start(python_model())
        (server,) = launcher.server_pids()
        pidfds = open_pidfds([worker.pid])
        os.kill(server, signal.SIGKILL)
        assert still_running(pidfds) == set()
        with pytest.raises(WorkerDiedError, match="forkserver"):
            worker.load(timeout_s=60)
        with launcher.start(python_model()) as another:
            another.load(timeout_s=60)
            assert another.infer(1) == 1
        assert server not in launcher.server_pids()


def test_a_forkserver_that_imports_too_long_is_ended_and_said_so(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    environment = {
        **os.environ,
        "PYTHONPATH": str(_TESTS),
        "MODELMGR_TEST_PIPE": str(pipe),
    }
    reader = os.open(pipe, os.O_RDWR)  # so that who writes to it need not wait for a reader
    relatives = children()
    watcher = Watcher("test")
    with pytest.raises(WorkerTimeoutError, match="endless_import"):
        ServerProcess(watcher, ("support.endless_import",), environment, timeout_s=2)
    watcher.stop()
    assert children() == relatives
    os.close(reader)


def test_a_module_that_is_not_installed_is_left_to_the_loader_to_report() -> None:
    watcher = Watcher("test")
    server = ServerProcess(watcher, ("no_such_framework",), os.environ, timeout_s=60)
    assert "no_such_framework" in server.missing
    server.close()
    watcher.stop()


def test_a_forkserver_that_crashes_while_importing_is_told_with_its_last_words(
    tmp_path: Path,
) -> None:
    (tmp_path / "crashing_framework.py").write_text(
        "import os\nos.write(2, b'no such instruction\\n')\nos._exit(9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    watcher = Watcher("test")
    with pytest.raises(WorkerDiedError, match="status 9") as caught:
        ServerProcess(watcher, ("crashing_framework",), environment, timeout_s=60)
    watcher.stop()
    assert isinstance(caught.value, WorkerError)
    assert caught.value.details == "no such instruction"
    assert caught.value.exit_code == 9


_FORKS = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking where threads run
from modelmgr.errors import UsageError
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workload.model_spec import ModelSpec

spec = ModelSpec(tag="one", loader="synthetic", options={"resident_bytes": 1024})
launcher = WorkerLauncher()
worker = launcher.start(spec)
worker.load(timeout_s=60)

def refused(ask):
    try:
        ask()
    except UsageError as error:
        return f"child {os.getpid()}" in str(error)
    return False

if os.fork() == 0:
    print(refused(lambda: worker.infer(1)), refused(lambda: launcher.start(spec)), flush=True)
    try:
        with launcher, worker:  # as a child that unwinds what its parent began
            worker.kill()
            sys.exit(3)
    except SystemExit as left:
        print("left with", left.code, flush=True)
    os._exit(0)
os.wait()
print(worker.alive, worker.memory().resident_bytes > 0, flush=True)
launcher.close()
print(worker.alive)
"""


def _says(program: str) -> str:
    return subprocess.run(  # noqa: S603 - a program of these tests
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_a_forked_child_ends_nothing_of_its_parents() -> None:
    """Once it closed its parent's workers, and hung."""
    assert _says(_FORKS).splitlines() == ["True True", "left with 3", "True True", "False"]


_FINALISED = """
import sys
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workload.model_spec import ModelSpec

class Keeper:
    def __init__(self):
        self.launcher = WorkerLauncher()
        self.myself = self  # the collector finds it when everything ends
        self.worker = self.launcher.start(ModelSpec(tag="one", loader="synthetic"))
    def __del__(self):
        self.launcher.close()

keeper = Keeper()
print(keeper.worker.pid, flush=True)
sys.stdin.read()
"""


def test_a_launcher_that_a_finaliser_closes_at_the_interpreters_end_keeps_nobody_waiting() -> None:
    with subprocess.Popen(  # noqa: S603 - a program of these tests
        [sys.executable, "-c", _FINALISED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        worker = os.pidfd_open(pid)
        program.stdin.close()
        assert program.wait(60) == 0
    assert not still_running({pid: worker})
