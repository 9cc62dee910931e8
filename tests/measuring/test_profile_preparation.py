"""What comes before a measurement costs no process and no second more than it must."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from modelmgr.errors import ModelLoadError, UsageError, WorkerDiedError
from modelmgr.measuring.ahead import WorkerAhead
from modelmgr.measuring.describer import Describer
from modelmgr.workers.launcher import Worker, WorkerLauncher
from modelmgr.workload.model_spec import ModelSpec
from support.processes import open_pidfds, still_running
from support.worker_specs import synthetic_model

_COUNTING = """\
print("imported", flush=True)
with open("imports", "a") as file:
    file.write("x")
class Model:
    def infer(self, batch): return batch
"""


@pytest.fixture
def launcher() -> Generator[WorkerLauncher]:
    with WorkerLauncher() as own:
        yield own


@pytest.fixture
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    (tmp_path / "counting_imports.py").write_text(_COUNTING)
    monkeypatch.chdir(tmp_path)
    return ModelSpec(tag="counting", loader="python", target="counting_imports:Model")


def bert(tag: str, hidden: int) -> ModelSpec:
    return ModelSpec(
        tag=tag,
        loader="transformers",
        architecture="bert",
        config={"hidden_size": hidden, "num_hidden_layers": 1, "vocab_size": 100},
    )


def test_a_worker_that_was_prepared_does_not_prepare_again(
    launcher: WorkerLauncher, counting: ModelSpec
) -> None:
    with launcher.start(counting) as worker:
        worker.prepare(timeout_s=60)
        assert Path("imports").read_text() == "x"
        Path("counting_imports.py").write_text("raise RuntimeError('imported again')")
        worker.prepare(timeout_s=60)
        assert worker.load(timeout_s=60).import_ns > 0
        assert worker.infer("batch") == "batch"


def test_what_fails_while_preparing_fails_the_load_as_it_would_have(
    launcher: WorkerLauncher, counting: ModelSpec
) -> None:
    Path("counting_imports.py").write_text("raise ValueError('no licence')")
    ahead = WorkerAhead(lambda: launcher.start(counting), timeout_s=60)
    worker = ahead.take()
    assert worker is not None
    with worker, pytest.raises(ModelLoadError, match="no licence"):
        worker.load(timeout_s=60)


def test_a_process_that_ends_while_preparing_is_told_and_leaves_nothing(
    launcher: WorkerLauncher, counting: ModelSpec
) -> None:
    Path("counting_imports.py").write_text("import os; os._exit(7)")
    ahead = WorkerAhead(lambda: launcher.start(counting), timeout_s=60)
    with pytest.raises(WorkerDiedError, match="status 7"):
        ahead.take()
    assert ahead.take() is None
    assert launcher.pids() == frozenset()


def test_a_worker_that_cannot_be_started_ahead_is_told_when_it_is_wanted(
    launcher: WorkerLauncher,
) -> None:
    ahead = WorkerAhead(lambda: launcher.start(synthetic_model(frobnicate=1)), timeout_s=60)
    with pytest.raises(UsageError, match="frobnicate"):
        ahead.take()
    ahead.close()


def test_a_worker_that_nobody_wants_is_ended_whatever_it_is_doing(
    launcher: WorkerLauncher, counting: ModelSpec
) -> None:
    Path("counting_imports.py").write_text(
        "import threading\nopen('pipe', 'w').close()\nthreading.Event().wait()\n"
    )
    started: list[Worker] = []

    def start() -> Worker:
        started.append(launcher.start(counting))
        return started[0]

    os.mkfifo("pipe")
    ahead = WorkerAhead(start, timeout_s=None)
    Path("pipe").read_text()  # it hangs in its import now
    pidfds = open_pidfds([started[0].pid])
    ahead.close()
    assert still_running(pidfds) == set()
    assert ahead.take() is None
    assert not any(thread.name == "modelmgr-ahead" for thread in threading.enumerate())


@pytest.mark.torch
@pytest.mark.slow
def test_one_process_describes_all_models_of_a_framework_and_each_as_itself(
    launcher: WorkerLauncher,
) -> None:
    shapes = ({"batch_size": 1, "sequence_length": 8},)
    with Describer(launcher) as describer:
        small = describer.estimate(bert("small", 24), shapes, timeout_s=120)
        pids = launcher.pids()
        large = describer.estimate(bert("large", 48), shapes, timeout_s=120)
        assert launcher.pids() == pids
        with pytest.raises(UsageError, match=r"'wrong'.*no 'frobnicate'"):
            describer.estimate(
                ModelSpec(
                    tag="wrong",
                    loader="transformers",
                    architecture="bert",
                    config={"frobnicate": 1},
                ),
                (),
                timeout_s=120,
            )
        # Killed, as by the kernel: the next guess has another process.
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(WorkerDiedError):  # where the news comes after the question
            describer.estimate(bert("small", 24), (), timeout_s=120)
        again = describer.estimate(bert("small", 24), shapes, timeout_s=120)
        assert launcher.pids().isdisjoint(pids)
    assert launcher.pids() == frozenset()
    assert small.weights_bytes == again.weights_bytes
    assert small.activation_bytes == again.activation_bytes
    assert small.weights_bytes is not None
    assert large.weights_bytes is not None
    assert large.weights_bytes > small.weights_bytes


def test_code_of_a_models_author_is_described_in_a_process_of_its_own(
    launcher: WorkerLauncher, counting: ModelSpec
) -> None:
    with Describer(launcher) as describer:
        for count in (1, 2):
            describer.estimate(counting, (), timeout_s=60)
            assert Path("imports").read_text() == "x" * count
            assert launcher.pids() == frozenset()
