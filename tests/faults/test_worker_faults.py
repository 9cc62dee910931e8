"""Whatever a model does to its process is reported as what it was, and the next worker is fine."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from modelmgr.errors import (
    InferenceError,
    MissingPackageError,
    ModelLoadError,
    OutOfMemoryError,
    UsageError,
    WorkerDiedError,
    WorkerError,
    WorkerProtocolError,
    WorkerTimeoutError,
)
from modelmgr.workers.launcher import Worker, WorkerLauncher
from modelmgr.workers.process_exit import ExitStatus
from support.processes import open_pidfds, still_running
from support.worker_specs import START_METHODS, python_model, synthetic_model

_MIB = 1024**2


@pytest.fixture(scope="module", params=START_METHODS)
def launcher(request: pytest.FixtureRequest) -> Generator[WorkerLauncher]:
    with WorkerLauncher(start_method=request.param) as shared:
        yield shared


@pytest.fixture
def forked() -> Generator[WorkerLauncher]:
    with WorkerLauncher() as own:
        yield own


def _loaded(
    launcher: WorkerLauncher, budget_bytes: int | None = None, /, **options: object
) -> Worker:
    worker = launcher.start(python_model(**options), budget_bytes=budget_bytes)
    worker.load(timeout_s=60)
    return worker


@pytest.mark.parametrize(
    ("action", "kind", "message"),
    [
        ("sys_exit", ModelLoadError, r"SystemExit\(licence not found\)"),
        ("interrupt", ModelLoadError, "KeyboardInterrupt"),
        ("recurse", ModelLoadError, "RecursionError"),
        ("value_error", ModelLoadError, "the weights are upside down"),
        ("broken_message", ModelLoadError, "raised BrokenMessageError: .*cannot be shown"),
        ("says_nothing", OutOfMemoryError, "while loading; use a smaller model"),
        ("missing_package", ModelLoadError, "frobnicate"),
        ("torch_says_no", OutOfMemoryError, "can't allocate memory"),
    ],
)
def test_a_loader_that_raises_is_a_load_error_and_the_process_lives(
    launcher: WorkerLauncher, action: str, kind: type[WorkerError], message: str
) -> None:
    with launcher.start(python_model(on_load=action)) as worker:
        with pytest.raises(kind, match=message) as caught:
            worker.load(timeout_s=60)
        assert caught.value.pid == worker.pid
        assert caught.value.details is not None
        assert "Traceback" in caught.value.details
        assert worker.alive


@pytest.mark.parametrize(
    ("action", "kind", "message"),
    [
        ("sys_exit", InferenceError, "SystemExit"),
        ("interrupt", InferenceError, "KeyboardInterrupt"),
        ("recurse", InferenceError, "RecursionError"),
        ("value_error", InferenceError, "ValueError: the weights are upside down"),
        ("broken_message", InferenceError, "BrokenMessageError: .*cannot be shown"),
        ("says_nothing", OutOfMemoryError, "while running; use a smaller batch"),
        ("endless_message", InferenceError, "characters left out"),
        ("lone_surrogate", InferenceError, "a name of"),
        ("missing_package", MissingPackageError, "pip install frobnicate"),
        ("out_of_memory", OutOfMemoryError, "the device is full"),
        ("torch_says_no", OutOfMemoryError, "can't allocate memory"),
        ("usage", UsageError, "must be positive"),
    ],
)
def test_a_model_that_raises_on_a_batch_is_told_by_kind_and_the_process_lives(
    launcher: WorkerLauncher, action: str, kind: type[Exception], message: str
) -> None:
    with _loaded(launcher, on_infer=action) as worker:
        for _ in range(2):
            with pytest.raises(kind, match=message):
                worker.infer(1)
        assert worker.alive


def test_what_a_model_printed_is_shown_with_its_failure(launcher: WorkerLauncher) -> None:
    with _loaded(launcher, on_infer="value_error") as worker:
        with pytest.raises(InferenceError) as caught:
            worker.infer(1)
        assert caught.value.details is not None
        assert "a line of the model's own" in caught.value.details
        assert "worker_models.py" in caught.value.details


@pytest.mark.parametrize(
    ("action", "code", "number", "message"),
    [
        ("exit_3", 3, None, "exited with status 3 while inferring"),
        ("segfault", None, signal.SIGSEGV, "SIGSEGV"),
        ("kill_itself", None, signal.SIGKILL, "perhaps the kernel"),
    ],
)
def test_a_process_that_ends_is_told_by_its_status_and_stays_ended(
    launcher: WorkerLauncher, action: str, code: int | None, number: int | None, message: str
) -> None:
    with _loaded(launcher, on_infer=action) as worker:
        with pytest.raises(WorkerDiedError, match=message) as caught:
            worker.infer(1)
        assert caught.value.exit_code == code
        assert caught.value.signal == number
        assert caught.value.pid == worker.pid
        assert not worker.alive
        with pytest.raises(WorkerDiedError):
            worker.infer(1)


def test_the_last_words_of_a_process_are_kept(launcher: WorkerLauncher) -> None:
    with _loaded(launcher, on_infer="exit_3") as worker:
        with pytest.raises(WorkerDiedError) as caught:
            worker.infer(1)
        assert caught.value.details == "about to leave"
    with _loaded(launcher, on_infer="segfault") as worker:
        with pytest.raises(WorkerDiedError) as caught:
            worker.infer(1)
        assert caught.value.details is not None
        assert "Segmentation fault" in caught.value.details
        assert "worker_models.py" in caught.value.details


def test_a_process_that_ends_while_loading_is_told(launcher: WorkerLauncher) -> None:
    worker = launcher.start(python_model(on_load="exit_3"))
    with worker, pytest.raises(WorkerDiedError, match="status 3 while loading"):
        worker.load(timeout_s=60)


def test_a_model_that_prints_megabytes_disturbs_nothing(launcher: WorkerLauncher) -> None:
    with _loaded(launcher, on_infer="print_much") as worker:
        assert worker.infer("batch", timeout_s=60) == "batch"


def test_a_process_that_hangs_is_killed_when_its_time_is_up(launcher: WorkerLauncher) -> None:
    with _loaded(launcher, on_infer="hang") as worker:
        with pytest.raises(WorkerTimeoutError, match=r"within 0\.5 s while inferring") as caught:
            worker.infer(1, timeout_s=0.5)
        assert isinstance(caught.value, TimeoutError)
        assert not worker.alive
        with pytest.raises(WorkerDiedError, match="gave no answer"):
            worker.infer(1)


def test_a_loader_that_hangs_is_killed_when_its_time_is_up(launcher: WorkerLauncher) -> None:
    with launcher.start(python_model(on_load="hang")) as worker:
        with pytest.raises(WorkerTimeoutError, match="while loading"):
            worker.load(timeout_s=0.5)
        assert not worker.alive


def test_a_model_whose_close_hangs_is_killed(launcher: WorkerLauncher) -> None:
    worker = _loaded(launcher, on_close="hang")
    worker.close(timeout_s=0.2)
    assert not worker.alive


def test_a_model_whose_close_raises_is_gone_all_the_same(
    launcher: WorkerLauncher, caplog: pytest.LogCaptureFixture
) -> None:
    worker = _loaded(launcher, on_close="value_error")
    worker.close()
    assert not worker.alive
    assert "upside down" in caplog.text


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("garbage", "Load"),
        ("huge_header", "4294967295 bytes"),
        ("lying_reply", "answered Closed 999"),
    ],
)
def test_bytes_that_are_no_answer_end_the_process(
    launcher: WorkerLauncher, action: str, message: str
) -> None:
    with _loaded(launcher, on_infer=action) as worker:
        with pytest.raises(WorkerProtocolError, match=message):
            worker.infer(1, timeout_s=60)
        assert not worker.alive


def test_a_process_that_closes_its_pipe_and_goes_on_is_ended(
    launcher: WorkerLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelmgr.workers.conversation._EXIT_NEWS_S", 0.2)
    with _loaded(launcher, on_infer="close_pipe") as worker:
        with pytest.raises(WorkerProtocolError, match="closed its pipe"):
            worker.infer(1, timeout_s=60)
        assert not worker.alive


def test_a_daemon_in_the_workers_group_goes_with_it(
    launcher: WorkerLauncher, tmp_path: Path
) -> None:
    path = tmp_path / "pid"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDWR)
    worker = _loaded(launcher, on_infer="daemon_then_exit", path=str(path))
    with worker, pytest.raises(WorkerDiedError, match="status 5"):
        worker.infer(1)
    daemon = int(os.read(reader, 100))
    os.close(reader)
    assert still_running(open_pidfds([daemon])) == set()


def test_a_daemon_that_holds_the_pipe_open_hides_no_death(
    launcher: WorkerLauncher, tmp_path: Path
) -> None:
    path = tmp_path / "pid"
    worker = _loaded(launcher, on_infer="daemon_then_exit", path=str(path), own_session=True)
    with worker, pytest.raises(WorkerDiedError, match="status 5"):
        worker.infer(1)
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(path.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("ending", ["close", "kill"])
def test_a_daemon_with_a_session_of_its_own_goes_with_its_worker(
    launcher: WorkerLauncher, ending: str, tmp_path: Path
) -> None:
    path = tmp_path / "pid"
    with _loaded(launcher, on_load="leave_daemon", path=str(path)) as worker:
        pidfds = open_pidfds([int(path.read_text())])
        assert len(pidfds) == 1
        if ending == "kill":
            worker.kill()
    assert still_running(pidfds, deadline_s=10) == set()


def test_a_daemon_of_a_worker_that_crashes_goes_with_it(
    launcher: WorkerLauncher, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with (
        _loaded(launcher, on_load="leave_daemon", path=str(first)) as neighbour,
        _loaded(launcher, on_load="leave_daemon", on_infer="segfault", path=str(second)) as worker,
    ):
        pidfds = open_pidfds([int(second.read_text())])
        with pytest.raises(WorkerDiedError, match="SIGSEGV"):
            worker.infer(1)
        assert still_running(pidfds, deadline_s=10) == set()
        assert open_pidfds([int(second.read_text())]) == {}  # it was waited for as well
        os.kill(int(first.read_text()), 0)  # somebody else's is left alone
        assert neighbour.infer("still here") == "still here"
    assert open_pidfds([int(first.read_text())]) == {}


def test_a_model_that_eats_all_memory_hits_its_budget_and_the_process_is_usable(
    launcher: WorkerLauncher,
) -> None:
    with _loaded(launcher, 256 * _MIB, on_infer="eat") as worker:
        for _ in range(2):
            with pytest.raises(OutOfMemoryError, match=r"budget of 256\.0 MiB") as caught:
                worker.infer(1, timeout_s=60)
            assert caught.value.budget_bytes == 256 * _MIB
        assert worker.alive
        assert worker.memory().anon_bytes < 128 * _MIB


def test_a_model_that_does_not_fit_its_budget_is_not_loaded(launcher: WorkerLauncher) -> None:
    spec = synthetic_model(resident_bytes=300 * _MIB)
    with launcher.start(spec, budget_bytes=256 * _MIB) as worker:
        with pytest.raises(OutOfMemoryError, match="while loading") as caught:
            worker.load(timeout_s=60)
        assert caught.value.budget_bytes == 256 * _MIB
        assert "give it a larger budget" in str(caught.value)
        assert worker.memory().anon_bytes < 128 * _MIB
    with launcher.start(spec, budget_bytes=310 * _MIB) as worker:
        assert worker.load(timeout_s=60).weights_bytes == 300 * _MIB


def test_native_code_that_gives_up_for_lack_of_memory_is_told_so(
    launcher: WorkerLauncher,
) -> None:
    with _loaded(launcher, 256 * _MIB, on_infer="bad_alloc") as worker:
        with pytest.raises(OutOfMemoryError, match="SIGABRT") as caught:
            worker.infer(1)
        assert caught.value.budget_bytes == 256 * _MIB


def test_a_process_that_the_kernel_ended_for_lack_of_memory_is_told_so(
    launcher: WorkerLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kernel's own counter cannot be moved without taking the machine's memory.
    kills = iter((4, 5))
    monkeypatch.setattr("modelmgr.workers.conversation.kernel_oom_kills", lambda: next(kills))
    worker = _loaded(launcher, on_infer="kill_itself")
    with worker, pytest.raises(OutOfMemoryError, match="ran out of memory"):
        worker.infer(1)


def test_a_worker_whose_forkserver_is_killed_is_told_as_that(forked: WorkerLauncher) -> None:
    with _loaded(forked, on_infer="kill_server") as worker:
        with pytest.raises(WorkerDiedError, match="because its forkserver was gone"):
            worker.infer(1, timeout_s=60)
        assert not worker.alive


def test_ctrl_c_in_a_terminal_reaches_no_worker(forked: WorkerLauncher) -> None:
    with _loaded(forked) as worker:
        os.kill(worker.pid, signal.SIGINT)
        os.kill(worker.pid, signal.SIGHUP)
        for server in forked.server_pids():
            os.kill(server, signal.SIGINT)
        assert worker.infer(1, timeout_s=60) == 1
        with forked.start(python_model()) as another:
            assert another.alive


def test_an_interrupted_caller_never_gets_an_old_answer(
    launcher: WorkerLauncher, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with _loaded(launcher, on_infer="signal_then_hang", path=str(pipe)) as worker:

            def interrupt_when_it_hangs() -> None:
                pipe.read_text()
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

            thread = threading.Thread(target=interrupt_when_it_hangs)
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                worker.infer(1)
            thread.join()
            with pytest.raises(WorkerDiedError, match="interrupted"):
                worker.infer(1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_an_end_is_said_in_words() -> None:
    assert str(ExitStatus(code=3)) == "exited with status 3"
    assert str(ExitStatus(signal=11)) == "was ended by SIGSEGV (11)"
    assert str(ExitStatus(signal=35)) == "was ended by signal 35"
    assert "not known" in str(ExitStatus())
