"""``modelmgr serve``: what it says, how it ends, and what it refuses, as real processes see it."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import resource
import signal
import socket
import threading
import urllib.request
from collections.abc import Generator
from pathlib import Path

import pytest
from prometheus_client.parser import text_fd_to_metric_families

import modelmgr as library
from modelmgr.errors import ManagerClosedError, ServiceLostError, UsageError
from modelmgr.records.costs import CostDatabase
from modelmgr.workload.model_spec import ModelSpec
from modelmgr_cli.render.server_log import server_log
from modelmgr_cli.terminal import Terminal
from support.command_line import Program
from support.served_program import PATIENCE_S, ServedProgram, write_inputs

_SYS_TGKILL = {"x86_64": 234, "aarch64": 131}[os.uname().machine]
FIXED = ("--device", "fixed:250MiB", "--slack", "0", "--costs", "costs.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_inputs(tmp_path)
    return tmp_path


def _is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def test_it_says_how_to_connect_serves_and_leaves_nothing_behind(folder: Path) -> None:
    with ServedProgram(folder, *FIXED) as served:
        told = "".join(served.said)
        with library.connect(served.socket) as manager:
            assert manager.models() == ("bert", "gpt2", "t5")
            with manager.lease("bert") as model:
                worker = model.pid
                assert worker is not None
                assert not _is_gone(worker)
        status = served.stop(signal.SIGTERM)

    assert status == 130
    assert "serving 3 models on fixed:250MiB (250.0 MiB of 250.0 MiB), policy queue-value" in told
    assert f"manager = modelmgr.connect({str(served.socket)!r})" in told
    assert "Traceback" not in "".join(served.said)
    assert _is_gone(worker)
    assert {path.name for path in folder.iterdir()} == {"models.yaml", "costs.json"}


def test_a_second_server_at_a_path_is_refused_and_the_first_goes_on(
    folder: Path, modelmgr: Program
) -> None:
    with ServedProgram(folder, *FIXED) as served:
        (said,) = modelmgr.refused("serve", "models.yaml", "--socket", "s", *FIXED).splitlines()
        with library.connect(served.socket) as manager:
            assert manager.models()

    assert f"(process {served.process.pid}) listens at" in said


def _ask_until_refused(manager: library.RemoteManager) -> None:
    while True:  # the words come before the deed
        manager.lease("gpt2", timeout=0).release()


def test_the_first_signal_waits_for_who_holds_a_copy(folder: Path) -> None:
    with ServedProgram(folder, *FIXED) as served, library.connect(served.socket) as manager:
        lease = manager.lease("bert")
        served.process.send_signal(signal.SIGINT)
        served.wait_for("stopping")
        with pytest.raises((ManagerClosedError, ServiceLostError)):
            _ask_until_refused(manager)
        assert served.process.poll() is None
        assert lease.instance.alive
        lease.release()
        assert served.end() == 130

    assert "taken back" not in "".join(served.said)


def test_a_signal_that_another_thread_got_is_noticed_too(folder: Path) -> None:
    """Once it was not until the main thread's own wait ended, a minute later."""
    with ServedProgram(folder, *FIXED) as served:
        pid = served.process.pid
        others = {int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()} - {pid}
        tgkill = ctypes.CDLL(None, use_errno=True).syscall
        assert tgkill(_SYS_TGKILL, pid, max(others), signal.SIGTERM) == 0
        assert served.end() == 130


def test_the_second_signal_ends_at_once_whoever_holds_what(folder: Path) -> None:
    with ServedProgram(folder, *FIXED) as served, library.connect(served.socket) as manager:
        worker = manager.lease("bert").instance.pid
        assert worker is not None
        served.process.send_signal(signal.SIGINT)
        served.wait_for("stopping")
        status = served.stop(signal.SIGINT)

    said = "".join(served.said)
    assert status == 130
    assert "stopping at once" in said
    assert "taken back: 'bert'" in said
    assert "Traceback" not in said
    assert _is_gone(worker)
    assert not served.socket.exists()


def test_two_signals_at_once_are_two(folder: Path) -> None:
    """Once the second was lost where it came before the first one's words were out."""
    with ServedProgram(folder, *FIXED) as served, library.connect(served.socket) as manager:
        manager.lease("bert")
        served.process.send_signal(signal.SIGINT)
        status = served.stop(signal.SIGTERM)

    said = "".join(served.said)
    assert status == 130, said
    assert "stopping at once" in said


def test_holders_that_outlast_the_time_are_named(folder: Path) -> None:
    with (
        ServedProgram(folder, *FIXED, "--stop-timeout", "0 s") as served,
        library.connect(served.socket) as manager,
    ):
        lease = manager.lease("bert")
        assert served.stop() == 130
        assert not lease.over

    taken = [line for line in served.said if "taken back" in line]
    assert len(taken) == 1
    assert f"held by process {os.getpid()}" in taken[0]


def test_a_client_may_stop_it_and_that_is_no_interruption(folder: Path) -> None:
    with ServedProgram(folder, *FIXED) as served:
        with library.connect(served.socket) as manager:
            manager.stop_server()
        assert served.end() == 0
    assert "stopped by a client" in served.said[-1]


def test_settings_reach_the_manager(folder: Path) -> None:
    with (
        ServedProgram(folder, *FIXED, "--max-copies", "1", "--wait-timeout", "0 s") as served,
        library.connect(served.socket) as manager,
        manager.lease("bert"),
    ):
        with pytest.raises(TimeoutError):
            manager.lease("bert")
        (device,) = manager.snapshot().devices
        assert (device.name, device.limit_bytes) == ("fixed:250MiB", 250 * 1024**2)


def test_clients_describe_models_only_where_that_is_allowed(folder: Path) -> None:
    spec = ModelSpec(tag="mine", loader="synthetic", options={"resident_bytes": 1024})
    with (
        ServedProgram(folder, *FIXED) as served,
        library.connect(served.socket) as manager,
        pytest.raises(UsageError, match="only models of its own list"),
    ):
        manager.lease("mine", spec)
    with (
        ServedProgram(folder, *FIXED, "--allow-specs") as served,
        library.connect(served.socket) as manager,
        manager.lease("mine", spec, worst_case_mb=50) as model,
    ):
        assert model.tag == "mine"


def test_what_use_taught_is_written_at_the_end(folder: Path) -> None:
    arguments = ("--device", "host", "--budget", "1 GiB", "--learn-to", "learned.json")
    with ServedProgram(folder, *arguments) as served:
        with library.connect(served.socket) as manager, manager.lease("gpt2"):
            pass
        assert served.stop() == 130, served.said

    learned = CostDatabase.load(folder / "learned.json")
    assert set(learned.models) == {"gpt2"}
    estimate = learned.models["gpt2"].initial_estimate_bytes
    assert estimate is not None
    assert estimate >= 9 * 1024**2
    assert learned.machine.device.kind == "host"

    with (
        ServedProgram(folder, *arguments[:4], "--costs", "learned.json") as served,
        library.connect(served.socket) as manager,
        manager.lease("gpt2"),
    ):
        (copy,) = manager.snapshot().copies
        assert copy.charged_bytes <= estimate


def test_metrics_are_what_prometheus_reads(folder: Path) -> None:
    with ServedProgram(folder, *FIXED, "--metrics", "0") as served:
        (line,) = (line for line in served.said if "metrics at" in line)
        url = line.split()[-1]
        assert url.startswith("http://127.0.0.1:")
        with library.connect(served.socket) as manager:
            for tag in ("bert", "bert", "gpt2", "t5"):  # the third does not fit beside two
                with manager.lease(tag):
                    pass
            text = _scraped(url)
        assert served.stop() == 130

    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_fd_to_metric_families(io.StringIO(text))
        for sample in family.samples
    }
    bert = ("model", "bert")
    assert samples["modelmgr_requests_total", (bert, ("outcome", "granted"))] == 2
    assert samples["modelmgr_requests_total", (bert, ("outcome", "timed-out"))] == 0
    assert samples["modelmgr_hits_total", (bert,)] == 1
    assert samples["modelmgr_loads_total", (bert,)] == 1
    assert samples["modelmgr_wait_seconds_count", (bert,)] == 2
    assert samples["modelmgr_load_seconds_count", (bert,)] == 1
    assert samples["modelmgr_load_seconds_bucket", (("le", "+Inf"), bert)] == 1
    evicted = sum(
        value for (name, _), value in samples.items() if name == "modelmgr_evictions_total"
    )
    assert evicted == 1
    device = ("device", "fixed:250MiB")
    assert samples["modelmgr_device_memory_bytes", (device, ("kind", "limit"))] == 250 * 1024**2
    assert samples["process_resident_memory_bytes", ()] > 0


def _scraped(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:  # noqa: S310 - our own
        body: bytes = answer.read()
    return body.decode()


def test_open_files_are_raised_to_what_is_allowed_for_as_many_clients_as_are_promised(
    folder: Path,
) -> None:
    """At the usual soft limit, 1,024, 504 clients came in."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with _open_files(256), ServedProgram(folder, *FIXED) as served:
        assert resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
        assert len(served.said) == 3  # it takes them all
        with library.connect(served.socket) as manager:
            assert manager.models()


@contextlib.contextmanager
def _open_files(soft: int) -> Generator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_server_that_may_open_few_files_says_how_many_connections_it_takes(
    folder: Path,
) -> None:
    with ServedProgram(folder, *FIXED, open_files=400) as served:
        (line,) = (line for line in served.said if "connections at most" in line)
    assert int(line.split()[0]) in range(80, 121)
    assert "the limit is 400 (`ulimit -Hn`)" in line


def test_too_few_files_for_a_server_are_refused_in_one_line(folder: Path) -> None:
    program = Program(folder).start("serve", "models.yaml", "--socket", "s", *FIXED, open_files=100)
    _, said = program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 2
    (line,) = said.splitlines()
    assert "limit of 100 has room for 0 connections" in line
    assert "ulimit -n" in line
    assert not (folder / "s").exists()


def test_whoever_floods_the_metrics_keeps_no_client_out(folder: Path) -> None:
    """Another user with 252 connections of one byte each took all descriptors for as long."""
    with ServedProgram(folder, *FIXED, "--metrics", "0", open_files=256) as served:
        (line,) = (line for line in served.said if "metrics at" in line)
        url = line.split()[-1]
        before = len(list(Path(f"/proc/{served.process.pid}/fd").iterdir()))
        port = int(url.rpartition(":")[2].partition("/")[0])
        flood = [socket.create_connection(("127.0.0.1", port), PATIENCE_S) for _ in range(300)]
        for end in flood:
            with contextlib.suppress(OSError):  # it is cut already
                end.sendall(b"G")
        with library.connect(served.socket) as manager, manager.lease("bert") as model:
            assert model.alive
        assert "modelmgr_build_info" in _scraped(url)
        opened = len(list(Path(f"/proc/{served.process.pid}/fd").iterdir()))
        assert opened - before <= 16 + 12  # a worker and its forkserver are there now
        for end in flood:
            end.close()


def test_a_port_that_is_taken_is_refused_in_one_line(folder: Path, modelmgr: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        (said,) = modelmgr.refused(
            *("serve", "models.yaml", "--socket", "s", *FIXED, "--metrics", port)
        ).splitlines()
    assert f"127.0.0.1:{port}: Address already in use" in said
    assert not (folder / "s").exists()


def test_metrics_without_their_package_are_refused_in_one_line(
    folder: Path, modelmgr: Program
) -> None:
    package = folder / "without" / "prometheus_client"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "raise ModuleNotFoundError('none', name='prometheus_client')", "utf-8"
    )
    (said,) = modelmgr.refused(
        *("serve", "models.yaml", "--socket", "s", *FIXED, "--metrics", "0"),
        environment={"PYTHONPATH": str(package.parent)},
    ).splitlines()
    assert "pip install 'modelmgr[metrics]'" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.yaml",), "nowhere.yaml"),
        (("broken.yaml",), "broken.yaml:3:"),
        (("models.yaml", "--policy", "lrru"), "--policy: unknown policy 'lrru'"),
        (("models.yaml", "--isolation", "alone"), "--isolation"),
        (("models.yaml", "--device", "cuda:7"), "--device: there is no device 'cuda:7'"),
        (("models.yaml", "--device", "host", "--device", "host"), "host is named twice"),
        (("models.yaml", "--device", "host", "--device", "auto"), "give it alone"),
        (("models.yaml", "--cooldown", "10"), "--cooldown: '10' has no unit"),
        (("models.yaml", "--wait-timeout", "soon"), "--wait-timeout: 'soon' is no duration"),
        (("models.yaml", "--slack", "1"), "--slack: '1' leaves nothing"),
        (("models.yaml", "--budget", "0 B"), "--budget"),
        (("models.yaml", "--max-copies", "0"), "--max-copies: 0 is too few; write 1 or more"),
        (("models.yaml", "--max-copies", "1", "--min-copies", "2"), "--max-copies: 1 is too few"),
        (("models.yaml", "--max-bypass", "-1"), "--max-bypass: -1 is too few"),
        (("models.yaml", "--metrics", "70000"), "--metrics: 70000 is no port"),
        (("models.yaml", "--costs", "models.yaml"), "a cost database was expected"),
        (("models.yaml", "--learn-to", "no/such/c.json"), "does not exist"),
        (("models.yaml", "--learn-to", "models.yaml"), "is the model list too"),
        (("models.yaml", "--socket", "x" * 200), "the socket's path is"),
        (("models.yaml", "--socket", "models.yaml", "--device", "fixed:1GiB"), "no socket"),
    ],
)
def test_a_mistake_gets_its_message_and_no_traceback(
    folder: Path, modelmgr: Program, arguments: tuple[str, ...], message: str
) -> None:
    (folder / "broken.yaml").write_text(
        "schema_version: 1\nmodels:\n  - {tag: a, loader: synthetik}\n", "utf-8"
    )
    assert message in modelmgr.refused("serve", *arguments)


def test_a_server_that_fares_well_says_three_lines(folder: Path) -> None:
    with ServedProgram(folder, *FIXED, environment={"COLUMNS": "40"}) as served:
        pass
    assert len(served.said) == 3  # what, how to connect, where; logs are not broken in lines


def _fail() -> None:
    raise ValueError("no\x1bsuch thing")


def test_the_log_has_a_line_for_a_warning_and_its_traceback_for_debug_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def warn(terminal: Terminal) -> str:
        with server_log(terminal):
            logger = logging.getLogger("modelmgr")
            try:
                _fail()
            except ValueError:
                logger.warning("unloading failed", exc_info=True)
            logger.info("a step")
            thread = threading.Thread(target=logger.warning, args=("from elsewhere",))
            thread.start()
            thread.join()
        return capsys.readouterr().err

    first, second = warn(Terminal()).splitlines()
    assert first.endswith("WARNING unloading failed: ValueError: no\\x1bsuch thing")
    assert second.endswith("WARNING from elsewhere")
    assert "Traceback" in warn(Terminal(debug=True))
    assert "INFO a step" in warn(Terminal(verbose=True))
    assert not logging.getLogger("modelmgr").handlers
