"""What a worker does when all goes well, in real processes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from modelmgr.errors import InferenceError, ReadingError, UsageError, WorkerDiedError
from modelmgr.workers.launcher import StartMethod, WorkerLauncher
from modelmgr.workers.protocol import Phase
from modelmgr.workload.model_spec import ModelSpec
from support.received import as_array, as_dict, as_list
from support.worker_specs import START_METHODS, python_model, synthetic_model, telling_model

_MIB = 1024**2
PHASES: tuple[Phase, ...] = ("memory", "latency")


def test_a_load_tells_what_the_model_takes_and_what_its_load_took(
    launcher: WorkerLauncher,
) -> None:
    spec = synthetic_model(resident_bytes=64 * _MIB, load_peak_bytes=96 * _MIB)
    with launcher.start(spec) as worker:
        report = worker.load(timeout_s=60)
    assert report.weights_bytes == 64 * _MIB
    grown = report.after.anon_bytes - report.before.anon_bytes
    assert grown == pytest.approx(64 * _MIB, abs=_MIB // 4)
    assert report.after.peak_bytes - report.before.resident_bytes == pytest.approx(
        96 * _MIB, abs=_MIB
    )
    assert report.load_ns > 0
    assert report.fingerprint is not None


def test_a_time_beyond_all_clocks_never_ends(launcher: WorkerLauncher) -> None:
    """Once it was an OverflowError, and the worker was lost."""
    with launcher.start(python_model()) as worker:
        worker.load(timeout_s=1e300)
        assert worker.infer({"a": 1}, timeout_s=1e12) == {"a": 1}


@pytest.mark.parametrize("phase", PHASES)
def test_a_shape_is_run_as_often_as_asked_and_its_peak_is_the_kernels(
    launcher: WorkerLauncher, phase: Phase
) -> None:
    spec = synthetic_model(resident_bytes=_MIB, activation_bytes=16 * _MIB)
    with launcher.start(spec) as worker:
        worker.load(timeout_s=60)
        report = worker.run_shape(
            {"batch_size": 2},
            phase=phase,
            warmups=2,
            repeats=3,
            seed=1,
            timeout_s=60,
        )
    assert report.dims == {"batch_size": 2}
    assert report.phase == phase
    assert report.warmups == 2
    assert len(report.latencies_ns) == 3
    peak = report.after.peak_bytes - report.before.resident_bytes
    assert peak == pytest.approx(32 * _MIB, abs=_MIB)
    assert report.after.anon_bytes - report.before.anon_bytes < _MIB
    assert report.tensor_peak_bytes == (32 * _MIB if phase == "memory" else None)


def test_a_peak_belongs_to_its_own_shape_alone(launcher: WorkerLauncher) -> None:
    spec = synthetic_model(activation_bytes=16 * _MIB)
    with launcher.start(spec) as worker:
        worker.load(timeout_s=60)
        peaks = [
            worker.run_shape(
                {"batch_size": size}, phase="memory", warmups=1, repeats=1, seed=0, timeout_s=60
            )
            for size in (4, 1)
        ]
    grown = [peak.after.peak_bytes - peak.before.resident_bytes for peak in peaks]
    assert grown[0] == pytest.approx(64 * _MIB, abs=_MIB)
    assert grown[1] == pytest.approx(16 * _MIB, abs=_MIB)


def test_batches_and_outputs_cross_as_they_are(launcher: WorkerLauncher) -> None:
    batch = {
        "pixels": np.random.default_rng(1).random((8, 3, 224, 224), dtype=np.float32),
        "names": ["ä", "b"],
        "nested": (1, None, {"deep": [2.5, b"raw"]}),
    }
    with launcher.start(python_model()) as worker:
        worker.load(timeout_s=60)
        back = as_dict(worker.infer(batch, timeout_s=60))
    np.testing.assert_array_equal(back.pop("pixels"), batch.pop("pixels"))
    assert back == batch


def test_a_batch_of_hundreds_of_megabytes_crosses(launcher: WorkerLauncher) -> None:
    batch = np.arange(40_000_000, dtype=np.int64)
    with launcher.start(python_model()) as worker:
        worker.load(timeout_s=60)
        back = as_array(worker.infer(batch, timeout_s=120))
    assert np.array_equal(back, batch)


def test_a_batch_that_cannot_be_sent_is_refused_and_the_worker_goes_on(
    launcher: WorkerLauncher,
) -> None:
    with launcher.start(python_model()) as worker:
        worker.load(timeout_s=60)
        with pytest.raises(UsageError, match=r"builtins\.set"):
            worker.infer({1, 2})
        assert worker.infer([1]) == [1]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("a set", r"output\['found'\]\[1\] is a builtins\.set"),
        ("a generator", r"output is a builtins\.generator"),
        ("an object", r"output is a builtins\.object"),
        ("more text than fits", r"\d+ bytes of lists and text are more than"),
    ],
)
def test_an_output_that_cannot_be_sent_is_the_models_failure(
    launcher: WorkerLauncher, asked: str, said: str
) -> None:
    """It was a UsageError, at a caller who had done nothing wrong."""
    with launcher.start(telling_model()) as worker:
        worker.load(timeout_s=60)
        with pytest.raises(InferenceError, match=rf"^'telling' returned .* be sent: {said}"):
            worker.infer(asked)
        assert isinstance(worker.infer("session"), int)


def test_a_dimension_that_the_model_does_not_know_is_a_usage_error(
    launcher: WorkerLauncher,
) -> None:
    with launcher.start(python_model()) as worker:
        worker.load(timeout_s=60)
        with pytest.raises(UsageError, match="colour"):
            worker.run_shape(
                {"colour": 3}, phase="memory", warmups=0, repeats=1, seed=0, timeout_s=60
            )
        with pytest.raises(UsageError, match="least"):
            worker.run_shape({}, phase="memory", warmups=0, repeats=0, seed=0, timeout_s=60)
        assert worker.infer("fine") == "fine"


def test_requests_out_of_order_are_refused_and_harm_nothing(launcher: WorkerLauncher) -> None:
    with launcher.start(python_model()) as worker:
        with pytest.raises(UsageError, match="load"):
            worker.infer(1)
        worker.load(timeout_s=60)
        with pytest.raises(UsageError, match="already"):
            worker.load(timeout_s=60)
        assert worker.infer(1) == 1
    with pytest.raises(UsageError, match="closed"):
        worker.infer(1)


def test_an_estimate_loads_nothing(launcher: WorkerLauncher) -> None:
    spec = synthetic_model(resident_bytes=10**15, activation_bytes=7)
    report = launcher.estimate(spec, [{"batch_size": 1}, {"batch_size": 3}], timeout_s=60)
    assert report.weights_bytes == 10**15
    assert report.activation_bytes == (7, 21)
    assert launcher.pids() == frozenset()


def test_closing_gives_the_memory_back_and_can_be_done_twice(launcher: WorkerLauncher) -> None:
    worker = launcher.start(synthetic_model(resident_bytes=64 * _MIB))
    worker.load(timeout_s=60)
    assert worker.alive
    assert worker.memory().anon_bytes > 64 * _MIB
    assert worker.pid in launcher.pids()
    elapsed_ns = worker.close()
    assert elapsed_ns > 0
    assert worker.close() == elapsed_ns
    assert worker.pid not in launcher.pids()
    with pytest.raises(ReadingError, match="gone"):
        worker.memory()
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)


def test_requests_of_many_threads_take_turns(launcher: WorkerLauncher) -> None:
    answers: dict[int, object] = {}
    with launcher.start(python_model()) as worker:
        worker.load(timeout_s=60)

        def ask(number: int) -> None:
            for _ in range(20):
                answers[number] = worker.infer([number] * 1000, timeout_s=60)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {number: [number] * 1000 for number in range(8)}


def test_a_kill_from_another_thread_ends_a_request_at_once(
    launcher: WorkerLauncher, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with launcher.start(python_model(on_infer="signal_then_hang", path=str(pipe))) as worker:
        worker.load(timeout_s=60)

        def kill_when_it_hangs() -> None:
            pipe.read_text()
            worker.kill()

        killer = threading.Thread(target=kill_when_it_hangs)
        killer.start()
        with pytest.raises(WorkerDiedError, match=r"kill\(\) was called"):
            worker.infer(1)
        killer.join()


def test_a_close_from_another_thread_waits_for_no_hanging_request(
    launcher: WorkerLauncher, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    worker = launcher.start(python_model(on_infer="signal_then_hang", path=str(pipe)))
    worker.load(timeout_s=60)

    def close_when_it_hangs() -> None:
        pipe.read_text()
        worker.close(timeout_s=0.1)

    closer = threading.Thread(target=close_when_it_hangs)
    closer.start()
    with pytest.raises(WorkerDiedError):
        worker.infer(1)
    closer.join()
    assert not worker.alive


@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_worker_sees_its_parents_world_and_its_own_descriptors_alone(
    start_method: StartMethod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WorkerLauncher(start_method=start_method) as launcher, launcher.start(telling_model()):
        # After the forkserver has started:
        monkeypatch.setenv("MODELMGR_TEST_VARIABLE", "set later")
        monkeypatch.chdir(tmp_path)
        with launcher.start(telling_model()) as worker:
            worker.load(timeout_s=60)
            environment = as_dict(worker.infer("environment"))
            assert environment["MODELMGR_TEST_VARIABLE"] == "set later"
            assert environment["TOKENIZERS_PARALLELISM"] == "false"
            assert worker.infer("folder") == str(tmp_path)
            assert worker.infer("signals") == [True, True]
            assert worker.infer("session") == worker.pid
            descriptors = as_list(worker.infer("descriptors"))
            kinds = [str(name).partition(":")[0] for name in descriptors]
            assert kinds == ["/dev/null", "pipe", "pipe", "socket"]


def test_environment_variables_of_a_start_are_there_before_any_import(
    launcher: WorkerLauncher,
) -> None:
    launcher.prepare(telling_model())
    servers = launcher.server_pids()
    with launcher.start(telling_model(), env={"OMP_NUM_THREADS": "1"}) as worker:
        worker.load(timeout_s=60)
        environment = as_dict(worker.infer("environment"))
    assert environment["OMP_NUM_THREADS"] == "1"
    assert len(launcher.server_pids() - servers) == 1


def test_a_module_of_the_current_folder_is_found(
    launcher: WorkerLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_models_here.py").write_text(
        "class Echo:\n    def infer(self, batch):\n        return batch\n"
    )
    monkeypatch.chdir(tmp_path)
    spec = ModelSpec(tag="mine", loader="python", target="my_models_here:Echo")
    with launcher.start(spec) as worker:
        worker.load(timeout_s=60)
        assert worker.infer([1, 2]) == [1, 2]


def test_a_worker_is_what_the_kernel_ends_first(launcher: WorkerLauncher) -> None:
    with launcher.start(telling_model()) as worker:
        worker.load(timeout_s=60)
        assert worker.infer("oom_score_adj") == 500


def test_workers_of_one_forkserver_draw_different_random_numbers(
    launcher: WorkerLauncher,
) -> None:
    numbers: set[object] = set()
    for _ in range(3):
        with launcher.start(telling_model()) as worker:
            worker.load(timeout_s=60)
            numbers.add(worker.infer("random number"))
    assert len(numbers) == 3


def test_a_report_tells_what_the_models_own_processes_hold(launcher: WorkerLauncher) -> None:
    size = 64 * 1024**2
    with launcher.start(python_model(on_load="hold_in_child", child_bytes=size)) as worker:
        report = worker.load(timeout_s=60)
        assert report.descendants == 1
        assert report.descendant_bytes >= size
        assert report.after.anon_bytes < size
        assert worker.descendant_memory().unreclaimable_bytes >= size
        shape = worker.run_shape({}, phase="memory", warmups=0, repeats=1, seed=0, timeout_s=60)
        assert shape.descendants == 1
        assert shape.descendant_bytes >= size


def test_a_model_without_processes_of_its_own_is_told_as_that(launcher: WorkerLauncher) -> None:
    with launcher.start(python_model()) as worker:
        report = worker.load(timeout_s=60)
        assert (report.descendants, report.descendant_bytes) == (0, 0)
        assert worker.descendant_memory() == (0, 0, 0)
