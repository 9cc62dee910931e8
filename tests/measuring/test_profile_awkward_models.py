"""Models that fail, do not fit, or do what no other does: noted, and never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from modelmgr.measuring.host_gauge import HostGauge
from modelmgr.measuring.ledger import ledger_total_bytes
from modelmgr.measuring.profile import profile_models
from modelmgr.records.codec import load_costs
from modelmgr.records.costs import ModelCost
from modelmgr.units import GIB, MIB
from support.profile_observer import RecordingObserver
from support.profile_runs import awkward, error_kind, host, python_model, stated, value


def test_failures_are_recorded_by_what_they_were_and_stop_no_other_model(tmp_path: Path) -> None:
    observer = RecordingObserver()
    outcome = profile_models(
        [
            awkward("raises", on_load="value_error"),
            awkward("exits", on_infer="exit_3"),
            awkward("dies", on_infer="segfault"),
            awkward("hangs", on_infer="hang"),
            stated("huge", resident_bytes="3 GiB"),
            awkward("greedy", resident_bytes=4 * GIB),
            awkward("good", resident_bytes=5 * MIB),
        ],
        host(tmp_path / "costs.json", timeout_s=10.0),
        observer,
    )
    models = outcome.database.models
    assert {tag: error_kind(cost) for tag, cost in models.items()} == {
        "raises": "ModelLoadError",
        "exits": "WorkerDiedError",
        "dies": "WorkerDiedError",
        "hangs": "WorkerTimeoutError",
        "huge": "DoesNotFitError",
        "greedy": "OutOfMemoryError",
        "good": None,
    }
    assert outcome.failed == ("raises", "exits", "dies", "hangs")
    assert outcome.did_not_fit == ("huge", "greedy")
    assert observer.steps["huge"] == ["estimate"]  # refused before it was loaded
    assert all(models[tag].initial_estimate_bytes is None for tag in outcome.failed)
    assert load_costs(outcome.path) == outcome.database


def test_a_shape_that_cannot_fit_is_left_out_and_named_and_the_others_are_measured(
    tmp_path: Path,
) -> None:
    model = stated("tb", batches=(1, 100_000), resident_bytes="5 MiB", activation_bytes="1 MiB")
    observer = RecordingObserver()
    outcome = profile_models([model], host(tmp_path / "costs.json", repeats=1), observer)
    cost = outcome.database.models["tb"]
    assert cost.error is None
    assert [shape.dims for shape in cost.shapes] == [{"batch_size": 1}]
    assert any("batch_size=100000 was not measured" in note for note in cost.notes)
    assert any("batch_size=100000" in notice for notice in observer.notices)


def test_a_model_of_which_no_shape_fits_is_refused_at_its_smallest(tmp_path: Path) -> None:
    model = stated("tb", batches=(5_000, 4_000), resident_bytes="5 MiB", activation_bytes="1 MiB")
    settings = host(tmp_path / "costs.json", repeats=1)
    outcome = profile_models([model], settings, RecordingObserver())
    error = outcome.database.models["tb"].error
    assert error is not None
    assert error.kind == "DoesNotFitError"
    assert "at batch_size=4000" in error.message


_CLOSES = {
    "value_error": "its close() raised: closing 'value_error' failed: ValueError: the weights are",
    "sys_exit": (
        "its close() raised: closing 'sys_exit' failed: it ended the process with SystemExit"
    ),
    "exit_3": "its process exited with status 3 during its close()",
    "segfault": "its process was ended by SIGSEGV (11) during its close()",
    "garbage": "its close() gave no answer",
}
_OWN_CODE = """\
import fcntl, subprocess, sys

class Uncounted:
    def __init__(self): self.pages = bytearray(b'x') * (50 << 20)
    def infer(self, batch): return batch

class Parent:
    HOLD = "p = bytearray(b'x') * (50 << 20); print(flush=True); input()"
    def __init__(self):
        self.child = subprocess.Popen([sys.executable, '-c', self.HOLD],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.child.stdout.readline()
    def infer(self, batch): return batch

class Lonely:
    def __init__(self):
        self.lock = open('lock', 'w')
        try: fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError: raise RuntimeError('there can be only one') from None
    def infer(self, batch): return batch
"""


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, ModelCost]:
    """What one run says of all that follow."""
    folder = tmp_path_factory.mktemp("awkward")
    (folder / "awkward_code.py").write_text(_OWN_CODE)
    models = [
        *(awkward(action, on_close=action) for action in (*_CLOSES, "hang")),
        *(python_model(name, f"awkward_code:{name}") for name in ("Uncounted", "Parent", "Lonely")),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        outcome = profile_models(
            models, host(folder / "costs.json", estimate=False), RecordingObserver()
        )
    assert outcome.failed == ()
    return outcome.database.models


def test_a_close_that_hangs_is_noted_and_its_time_out_is_no_figure(
    costs: Mapping[str, ModelCost],
) -> None:
    cost = costs["hang"]
    assert any("close() did not end" in note for note in cost.notes)
    assert any("how long an unload takes is not known" in note for note in cost.notes)
    assert cost.unload is not None
    assert cost.unload.reclaim_ns is None


@pytest.mark.parametrize("action", _CLOSES)
def test_a_close_that_does_something_else_is_noted(
    costs: Mapping[str, ModelCost], action: str
) -> None:
    assert [note for note in costs[action].notes if _CLOSES[action] in note]
    assert costs[action].unload is not None


def test_weights_that_a_loader_does_not_count_are_the_growth_over_its_load(
    costs: Mapping[str, ModelCost],
) -> None:
    cost = costs["Uncounted"]
    assert cost.ledger is not None
    assert cost.ledger.weights_bytes is not None
    assert abs(cost.ledger.weights_bytes - 50 * MIB) < 2 * MIB
    assert any("grew by over the load" in note for note in cost.notes)


def test_a_models_own_processes_are_in_its_figures_which_are_sampled_then(
    costs: Mapping[str, ModelCost],
) -> None:
    cost = costs["Parent"]
    for figure in (cost.resident_bytes, cost.load_peak_bytes, cost.peak_bytes):
        assert figure is not None
        assert figure.evidence == "sampled"
        assert figure.value > 50 * MIB
    assert cost.ledger is not None
    assert cost.ledger.unaccounted_bytes is not None
    assert cost.ledger.unaccounted_bytes > 45 * MIB
    assert ledger_total_bytes(cost.ledger) == value(cost.peak_bytes)
    assert cost.copies is not None
    assert value(cost.copies.second_copy_bytes) > 50 * MIB
    told = "starts 1 process of its own, which held "
    assert any(note.startswith(told) for note in cost.notes)


def test_a_second_copy_that_could_not_be_made_leaves_its_reason(
    costs: Mapping[str, ModelCost],
) -> None:
    cost = costs["Lonely"]
    assert cost.copies is None
    (told,) = (note for note in cost.notes if "second copy could not be measured: " in note)
    assert "there can be only one" in told


def test_a_second_copy_whose_memory_cannot_be_read_leaves_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unread(*_: object) -> None:
        return None

    monkeypatch.setattr(HostGauge, "further_copy", unread)
    settings = host(tmp_path / "costs.json", estimate=False)
    cost = profile_models([awkward("a")], settings, RecordingObserver()).database.models["a"]
    assert cost.error is None
    assert cost.copies is None
    assert any("second copy ran but could not be measured" in note for note in cost.notes)
