"""However a profile run is ended: no orphan, no half file, and it can be resumed."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from modelmgr.errors import UsageError
from modelmgr.measuring.journal import journal_path
from modelmgr.measuring.profile import profile_models
from modelmgr.measuring.settings import ProfileSettings
from modelmgr.records.codec import load_costs
from modelmgr.records.costs import ModelCost
from support.processes import descendants, open_pidfds, still_running
from support.profile_observer import RecordingObserver
from support.profile_owner import models

TESTS = Path(__file__).resolve().parents[1]


class Measuring:
    """A run in a process of its own whose second model hangs; it hangs when this is made."""

    def __init__(self, folder: Path, when: str) -> None:
        self.out = folder / "costs.json"
        pipe = folder / "pipe"
        os.mkfifo(pipe)
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter on our own file
            [
                sys.executable,
                str(TESTS / "support" / "profile_owner.py"),
                str(self.out),
                str(pipe),
                when,
            ],
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert pipe.read_text() == "hanging"
        self.others = open_pidfds(descendants(self.process.pid))
        assert len(self.others) >= 2  # a forkserver and a worker at the least

    def end(self) -> tuple[str, str]:
        """Wait for the program's end; return what it printed. Nothing of it is left."""
        printed, errors = self.process.communicate(timeout=60)
        assert still_running(self.others) == set()
        return printed, errors

    def assert_resumable(self) -> None:
        """Run the list again, to its end: the first model is not measured twice."""
        observer = RecordingObserver()
        outcome = profile_models(
            models("", when="never"),
            ProfileSettings(
                out=self.out, device="host", budget_bytes=2 * 1024**3, repeats=1, resume=True
            ),
            observer,
        )
        assert observer.started in {("slow",), ("quick", "slow")}
        assert set(outcome.database.models) == {"quick", "slow"}
        assert outcome.failed == ()
        assert load_costs(self.out) == outcome.database
        left = {path.name for path in self.out.parent.iterdir()}
        assert left == {"costs.json", "pipe"}


@contextmanager
def measuring(folder: Path, when: str) -> Generator[Measuring]:
    run = Measuring(folder, when)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
            run.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("when", ["on_load", "on_infer"])
def test_a_signal_ends_the_run_cleanly_and_keeps_what_is_measured(
    tmp_path: Path, number: signal.Signals, when: str
) -> None:
    with measuring(tmp_path, when) as run:
        run.process.send_signal(number)
        printed, errors = run.end()
        assert run.process.returncode == 0, errors
        assert json.loads(printed) == {"interrupted": True, "models": ["quick"]}
        assert list(load_costs(run.out).models) == ["quick"]
        assert journal_path(run.out).exists()
        run.assert_resumable()


@pytest.mark.parametrize("when", ["on_load", "on_infer"])
def test_a_run_that_is_killed_leaves_no_process_and_can_be_resumed(
    tmp_path: Path, when: str
) -> None:
    with measuring(tmp_path, when) as run:
        run.process.kill()
        run.end()
        assert not run.out.exists()
        run.assert_resumable()


def test_two_signals_at_once_corrupt_nothing(tmp_path: Path) -> None:
    with measuring(tmp_path, "on_infer") as run:
        run.process.send_signal(signal.SIGINT)
        run.process.send_signal(signal.SIGINT)
        run.end()
        if run.out.exists():  # the first may have been served before the second came
            assert list(load_costs(run.out).models) == ["quick"]
        run.assert_resumable()


def test_a_hang_up_that_was_ignored_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; children inherit it
    try:
        run_context = measuring(tmp_path, "on_infer")
        with run_context as run:
            run.process.send_signal(signal.SIGHUP)
            run.process.send_signal(signal.SIGTERM)
            printed, _ = run.end()
            assert json.loads(printed)["interrupted"] is True
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_worker_that_somebody_kills_is_that_models_failure_alone(tmp_path: Path) -> None:
    with measuring(tmp_path, "on_infer") as run:
        workers = [
            pid for pid in run.others if Path(f"/proc/{pid}/comm").read_text().strip() == "mm:slow"
        ]
        assert len(workers) == 1
        os.kill(workers[0], signal.SIGKILL)
        printed, errors = run.end()
        assert run.process.returncode == 0, errors
        assert json.loads(printed) == {"interrupted": False, "models": ["quick", "slow"]}
        error = load_costs(run.out).models["slow"].error
        assert error is not None
        assert error.kind == "WorkerDiedError"


def test_a_second_run_to_the_same_output_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    with measuring(tmp_path, "on_infer") as run:
        with pytest.raises(UsageError, match=f"process {run.process.pid}"):
            profile_models(
                models("", when="never"),
                ProfileSettings(out=run.out, device="host", budget_bytes=2 * 1024**3),
                RecordingObserver(),
            )
        run.process.send_signal(signal.SIGTERM)
        run.end()


@contextmanager
def filling_disk() -> Generator[Callable[[], None]]:
    """Give a function after which no file may grow, as on a full disk (EFBIG for ENOSPC)."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_fills_is_one_clear_error_and_the_old_file_stays(tmp_path: Path) -> None:
    out = tmp_path / "costs.json"
    settings = ProfileSettings(out=out, device="host", budget_bytes=2 * 1024**3, repeats=1)
    quick = models("", when="never")[:1]
    profile_models(quick, settings, RecordingObserver())
    before = out.read_bytes()
    with filling_disk() as fill, pytest.raises(UsageError, match="free some space"):
        profile_models(
            quick,
            settings,
            RecordingObserver(lambda _, step: fill() if step.startswith("unload") else None),
        )
    assert out.read_bytes() == before


def test_a_database_that_cannot_be_written_loses_nothing_that_was_measured(tmp_path: Path) -> None:
    class Finishing(RecordingObserver):
        def model_finished(self, tag: str, cost: ModelCost) -> None:
            super().model_finished(tag, cost)
            fill()

    out = tmp_path / "costs.json"
    settings = ProfileSettings(out=out, device="host", budget_bytes=2 * 1024**3, repeats=1)
    quick = models("", when="never")[:1]
    with filling_disk() as fill, pytest.raises(UsageError, match="--resume"):
        profile_models(quick, settings, Finishing())
    assert [path.name for path in tmp_path.iterdir()] == [journal_path(out).name]
    observer = RecordingObserver()
    profile_models(quick, msgspec.structs.replace(settings, resume=True), observer)
    assert observer.started == ()  # nothing was left to measure
    assert list(load_costs(out).models) == ["quick"]
