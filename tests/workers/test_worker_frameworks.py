"""Workers with a real framework: figures that are true, budgets that fail cleanly."""

from __future__ import annotations

import pytest

from modelmgr.errors import OutOfMemoryError
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workload.model_spec import ModelSpec
from support.interpreters import run_python

pytestmark = [pytest.mark.torch, pytest.mark.slow]

_MIB = 1024**2
_SMALL_BERT = ModelSpec(
    tag="small-bert",
    loader="transformers",
    architecture="bert",
    config={"num_hidden_layers": 1},
)


def test_growth_is_the_weights_and_peaks_are_the_tensors(launcher: WorkerLauncher) -> None:
    launcher.prepare(_SMALL_BERT)
    with launcher.start(_SMALL_BERT) as worker:
        load = worker.load(timeout_s=300)
        shape = worker.run_shape(
            {"batch_size": 8, "sequence_length": 128},
            phase="memory",
            warmups=1,
            repeats=2,
            seed=0,
            timeout_s=300,
        )
    assert load.weights_bytes is not None
    grown = load.after.anon_bytes - load.before.anon_bytes
    assert grown == pytest.approx(load.weights_bytes, rel=0.02)
    assert shape.tensor_peak_bytes is not None
    peak = shape.after.peak_bytes - shape.before.resident_bytes
    assert peak == pytest.approx(shape.tensor_peak_bytes, rel=0.05)
    assert set(load.packages) >= {"torch", "transformers"}


def test_torch_hits_a_budget_cleanly_and_is_usable_afterwards(launcher: WorkerLauncher) -> None:
    budget_bytes = 256 * _MIB
    with launcher.start(_SMALL_BERT, budget_bytes=budget_bytes) as worker:
        worker.load(timeout_s=300)
        with pytest.raises(OutOfMemoryError, match="allocate memory") as caught:
            worker.run_shape(
                {"batch_size": 256, "sequence_length": 256},
                phase="memory",
                warmups=0,
                repeats=1,
                seed=0,
                timeout_s=300,
            )
        assert caught.value.budget_bytes == budget_bytes
        report = worker.run_shape(
            {"batch_size": 1, "sequence_length": 32},
            phase="memory",
            warmups=0,
            repeats=1,
            seed=0,
            timeout_s=300,
        )
        assert report.outputs is not None


def test_a_model_over_its_budget_is_refused_while_it_loads(launcher: WorkerLauncher) -> None:
    with launcher.start(_SMALL_BERT, budget_bytes=64 * _MIB) as worker:
        with pytest.raises(OutOfMemoryError, match="while loading"):
            worker.load(timeout_s=300)
        assert worker.alive


def test_a_forkserver_with_frameworks_stays_a_process_of_one_thread(
    launcher: WorkerLauncher,
) -> None:
    launcher.prepare(_SMALL_BERT)
    # A BLAS library's idle threads are ended by its own fork handler: after a fork none is left.
    with launcher.start(_SMALL_BERT):
        threads = [
            line.split()[1]
            for pid in launcher.server_pids()
            for line in _status(pid)
            if line.startswith("Threads:")
        ]
    assert threads == ["1"]


def test_the_owner_of_workers_imports_no_framework() -> None:
    program = (
        "import sys; from modelmgr.workers.launcher import WorkerLauncher; "
        "print(sorted({'torch', 'transformers', 'onnxruntime', 'numpy'} & set(sys.modules)))"
    )
    assert run_python("-c", program) == "[]\n"


def _status(pid: int) -> list[str]:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:  # noqa: PTH123 - of /proc
        return status.read().splitlines()
