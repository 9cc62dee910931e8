"""The manager over real worker processes on host memory: one process for each copy."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from modelmgr import ModelLoadError, ModelManager
from modelmgr.estimation.own_use import ENOUGH_JOBS
from modelmgr.records.costs import DeviceInfo, MachineInfo
from modelmgr.records.devices import DeviceDescription
from modelmgr.runtime.worker_loader import WorkerLoader
from modelmgr.units import GIB, MIB
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workload.model_spec import ModelSpec
from support.parties import wait_until
from support.worker_specs import python_model, synthetic_model

HOST = DeviceDescription(name="host", kind="host", total_bytes=2 * GIB)


@pytest.fixture
def launcher() -> Iterator[WorkerLauncher]:
    with WorkerLauncher() as made:
        yield made


def spec_of(tag: str, resident_mb: int) -> ModelSpec:
    return ModelSpec(
        tag=tag,
        loader="synthetic",
        options={"resident_bytes": resident_mb * MIB, "load_ns": 0, "service_ns": 0},
    )


def test_an_unknown_model_in_its_own_process_is_known_after_its_first_job(
    launcher: WorkerLauncher,
) -> None:
    spec = spec_of("m", 200)
    with ModelManager(devices=[HOST]) as manager:
        with manager.lease("m", WorkerLoader(launcher, spec)) as worker:
            assert worker.alive
        estimate = manager.estimator.estimate("m")
        assert estimate is not None
        assert estimate.source == "isolation"
        assert 200 * MIB <= estimate.peak_bytes <= 300 * MIB
        assert not manager.estimator.is_unknown("m")


def test_hits_go_on_while_an_unknown_model_in_its_own_process_is_measured(
    launcher: WorkerLauncher,
) -> None:
    with ModelManager(devices=[HOST], costs={"known": 300.0}) as manager:
        known = WorkerLoader(launcher, spec_of("known", 100))
        with manager.lease("known", known):
            pass
        with (
            manager.lease("unknown", WorkerLoader(launcher, spec_of("unknown", 100))),
            manager.lease("known", known, timeout=0) as hit,
        ):
            assert hit.alive


def test_an_evicted_worker_is_gone_before_the_next_load_needs_its_room(
    launcher: WorkerLauncher,
) -> None:
    costs = {"a": 1000.0, "b": 1000.0}
    with ModelManager(devices=[HOST], costs=costs) as manager:
        with manager.lease("a", WorkerLoader(launcher, spec_of("a", 300))) as first:
            pass
        with manager.lease("b", WorkerLoader(launcher, spec_of("b", 300))):
            assert not first.alive
            assert not psutil.pid_exists(first.pid)
        assert [(e.tag, e.reason) for e in manager.evictions()] == [("a", "make-room")]


def test_a_worker_that_died_while_idle_is_loaded_again_for_the_next_request(
    launcher: WorkerLauncher,
) -> None:
    loader = WorkerLoader(launcher, spec_of("m", 50))
    with ModelManager(devices=[HOST], costs={"m": 200.0}) as manager:
        with manager.lease("m", loader) as first:
            pass
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: not first.alive, "the worker is seen to be gone")
        with manager.lease("m", loader) as second:
            assert second.pid != first.pid
            assert second.alive


def test_a_worker_that_dies_in_its_holders_hands_gives_its_memory_back_on_release(
    launcher: WorkerLauncher,
) -> None:
    loader = WorkerLoader(launcher, spec_of("m", 50))
    with ModelManager(devices=[HOST], costs={"m": 200.0}) as manager:
        with manager.lease("m", loader) as worker:
            os.kill(worker.pid, signal.SIGKILL)
            wait_until(lambda: not worker.alive, "the worker is seen to be gone")
        seen = manager.snapshot()
        assert seen.copies == ()
        assert seen.devices[0].committed_bytes == seen.devices[0].foreign_bytes


def test_a_loader_that_fails_in_the_worker_leaves_no_process(launcher: WorkerLauncher) -> None:
    with ModelManager(devices=[HOST]) as manager:
        with pytest.raises(ModelLoadError):
            manager.lease("bad", WorkerLoader(launcher, python_model(on_load="exit")))
        assert manager.snapshot().copies == ()
        assert launcher.pids() == frozenset()


def test_shutdown_ends_every_worker(launcher: WorkerLauncher) -> None:
    manager = ModelManager(devices=[HOST])
    for tag in ("a", "b"):
        with manager.lease(tag, WorkerLoader(launcher, synthetic_model())):
            pass
    manager.shutdown()
    assert launcher.pids() == frozenset()


def test_a_worker_is_told_which_of_the_managers_devices_its_copy_was_placed_on() -> None:
    gpu = DeviceDescription(name="cuda:1", kind="cuda", total_bytes=GIB, uuid="GPU-abc")
    with WorkerLauncher() as launcher:
        loader = WorkerLoader(launcher, spec_of("m", 50), env={"MINE": "1"})
        placed = loader.placed_on(gpu)
        assert vars(placed)["_device"] == "cuda:0"
        assert vars(placed)["_env"] == {"MINE": "1", "CUDA_VISIBLE_DEVICES": "GPU-abc"}
        stated = WorkerLoader(launcher, spec_of("m", 50), device="cuda:3")
        assert stated.placed_on(gpu) is stated


MACHINE = MachineInfo(
    os="Linux",
    cpu=None,
    python="3.11",
    packages={},
    device=DeviceInfo(kind="host", name="host", total_bytes=None),
)


def matmul(tag: str) -> ModelSpec:
    target = "modelmgr.testing.models:load_matmul"
    return ModelSpec(tag=tag, loader="python", target=target, options={"size": 64, "layers": 2})


def test_a_jobs_own_peak_is_learned_though_no_reading_saw_it(launcher: WorkerLauncher) -> None:
    """The kernel keeps it; readings half a minute apart do not."""
    loader = WorkerLoader(launcher, matmul("m"))
    with ModelManager(devices=[HOST], costs={"m": 200.0}, poll_interval=1000.0) as manager:
        with manager.lease("m", loader):
            pass
        with manager.lease("m", loader) as worker:
            worker.infer(np.zeros((400_000, 64), np.float32))  # 98 MiB, twice as much on top
        learned = manager.learned(machine=MACHINE).models["m"].initial_estimate_bytes
        assert learned is not None
        assert learned > 250 * MIB
        with manager.lease("m", loader):
            (copy,) = manager.snapshot().copies
            assert copy.charged_bytes > 250 * MIB


def test_a_job_is_not_charged_what_an_earlier_one_took(launcher: WorkerLauncher) -> None:
    loader = WorkerLoader(launcher, matmul("m"))
    with ModelManager(devices=[HOST], costs={"m": 600.0}, poll_interval=1e-4) as manager:
        with manager.lease("m", loader) as worker:
            worker.infer(np.zeros((400_000, 64), np.float32))
        for _ in range(2 * ENOUGH_JOBS):
            with manager.lease("m", loader) as worker:
                worker.infer(np.zeros((1, 64), np.float32))
        learned = manager.learned(machine=MACHINE).models["m"].initial_estimate_bytes
        assert learned is not None
        assert learned < 250 * MIB
