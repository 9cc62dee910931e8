"""A run on a machine on which others take memory meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelmgr.measuring.profile import profile_models
from modelmgr.units import GIB, MIB
from support.profile_observer import RecordingObserver
from support.profile_runs import error_kind, host, stated


class SmallMachine:
    """A machine of 4 GiB on which only a test and what it measures take memory.

    Of the real one others may take or give back any amount meanwhile.
    """

    total_bytes = 4 * GIB

    def __init__(self) -> None:
        self.taken_bytes = 0

    def read_bytes(self) -> int:
        return self.total_bytes - self.taken_bytes

    def take_at(self, wanted: str, *, times: int = 1) -> RecordingObserver:
        """Return an observer that takes 1000 MiB when that step begins, so many times."""
        left = [1000 * MIB] * times

        def take(tag: str, step: str) -> None:
            assert tag
            if step == wanted and left:
                self.taken_bytes += left.pop()

        return RecordingObserver(take)


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> SmallMachine:
    machine = SmallMachine()
    monkeypatch.setattr("modelmgr.measuring.watch.AvailableMemory", lambda: machine)
    monkeypatch.setattr("modelmgr.measuring.watch.total_host_bytes", lambda: machine.total_bytes)
    return machine


def test_foreign_load_is_told_and_noted_but_no_failure_by_default(
    tmp_path: Path, small_machine: SmallMachine
) -> None:
    observer = small_machine.take_at("batch_size=1 memory 1/1")
    outcome = profile_models(
        [stated("a", batches=(1,))], host(tmp_path / "costs.json", repeats=1), observer
    )
    cost = outcome.database.models["a"]
    assert cost.error is None
    assert any("something else took" in note for note in cost.notes)
    assert any("a: something else took" in notice for notice in observer.notices)


def test_foreign_load_fails_the_model_where_that_was_asked_for(
    tmp_path: Path, small_machine: SmallMachine
) -> None:
    outcome = profile_models(
        [stated("a", batches=(1,))],
        host(tmp_path / "costs.json", repeats=1, isolation_action="error"),
        small_machine.take_at("batch_size=1 memory 1/1"),
    )
    assert error_kind(outcome.database.models["a"]) == "ForeignLoadError"
    assert outcome.failed == ("a",)


def test_waiting_measures_again_once_the_device_is_quiet(
    tmp_path: Path, small_machine: SmallMachine
) -> None:
    observer = small_machine.take_at("batch_size=1 memory 1/1")
    outcome = profile_models(
        [stated("a", batches=(1,))],
        host(tmp_path / "costs.json", repeats=1, isolation_action="wait"),
        observer,
    )
    assert outcome.database.models["a"].error is None
    assert observer.steps["a"].count("load 1/1") >= 2
