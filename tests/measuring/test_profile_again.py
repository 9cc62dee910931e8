"""A run beside an earlier one: what is kept, measured again, taken over, refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from modelmgr.errors import InputError, UsageError
from modelmgr.measuring.journal import Journal, JournalRecord, journal_path
from modelmgr.measuring.profile import profile_models
from modelmgr.records.codec import load_costs, save_costs
from modelmgr.records.costs import DeviceInfo, ModelCost
from modelmgr.units import GIB
from support.profile_observer import RecordingObserver
from support.profile_runs import awkward, error_kind, host, stated


def test_measuring_one_model_again_keeps_the_others(tmp_path: Path) -> None:
    out = tmp_path / "costs.json"
    first = profile_models(
        [stated("a", batches=(1,)), stated("b", batches=(1,))],
        host(out, repeats=1),
        RecordingObserver(),
    )
    second = profile_models(
        [stated("b", batches=(2,), resident_bytes="30 MiB")],
        host(out, repeats=1),
        RecordingObserver(),
    )
    models = load_costs(out).models
    assert models["a"] == first.database.models["a"]
    assert models["b"].shapes[0].dims == {"batch_size": 2}
    assert len(second.database.runs) == 2


def test_a_new_failure_stands_beside_the_earlier_figures(tmp_path: Path) -> None:
    out = tmp_path / "costs.json"
    settings = host(out, repeats=1)
    first = profile_models([awkward("a")], settings, RecordingObserver())
    profile_models([awkward("a", on_load="value_error")], settings, RecordingObserver())
    cost = load_costs(out).models["a"]
    assert error_kind(cost) == "ModelLoadError"
    assert cost.resident_bytes == first.database.models["a"].resident_bytes
    assert any("earlier run" in note for note in cost.notes)


def test_a_database_of_another_device_is_refused_before_anything_is_measured(
    tmp_path: Path,
) -> None:
    out = tmp_path / "costs.json"
    models = [stated("a", batches=(1,))]
    outcome = profile_models(models, host(out, repeats=1), RecordingObserver())
    machine = msgspec.structs.replace(
        outcome.database.machine,
        device=DeviceInfo(kind="cuda", name="Fake RTX", total_bytes=GIB, driver="1"),
    )
    save_costs(msgspec.structs.replace(outcome.database, machine=machine), out)
    before = out.read_bytes()
    observer = RecordingObserver()
    with pytest.raises(UsageError, match="another device"):
        profile_models(models, host(out, repeats=1), observer)
    assert out.read_bytes() == before
    assert observer.steps == {}


@pytest.mark.parametrize(
    "text", [b"{", b'{"kind": "modelmgr.costs", "schema_version": 999}', b"not json"]
)
def test_a_file_that_is_no_database_we_can_read_is_left_as_it_is(
    tmp_path: Path, text: bytes
) -> None:
    out = tmp_path / "costs.json"
    out.write_bytes(text)
    with pytest.raises(InputError):
        profile_models([stated("a")], host(out), RecordingObserver())
    assert out.read_bytes() == text


def test_a_list_that_makes_no_sense_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "costs.json"
    for models, settings in (
        ([], host(out)),
        ([stated("a"), stated("a")], host(out)),
        ([stated("a", frobnicate=1)], host(out)),
        ([stated("a")], host(out, repeats=0)),
        ([stated("a")], host(out, seed=-1)),  # numpy and torch take none below 0
        ([stated("a")], host(out, seed=2**64)),
        ([stated("a")], host(out, timeout_s=-1.0)),
        ([stated("a")], host(out, budget_bytes=-1)),
        ([stated("a")], host(out, budget_bytes=2**50)),  # more than any machine's memory
        ([stated("a")], host(out, device="cuda:77")),
        ([stated("a")], host(out, device="fixed:1GiB", budget_bytes=None)),
    ):
        with pytest.raises(UsageError):
            profile_models(models, settings, RecordingObserver())
    assert list(tmp_path.iterdir()) == []


def test_a_finished_model_is_taken_over_and_a_changed_or_failed_one_is_not(tmp_path: Path) -> None:
    out = tmp_path / "costs.json"
    kept, changed = stated("kept", batches=(1,)), stated("changed", batches=(1,))
    settings = host(out, repeats=1)

    def stop(tag: str, step: str) -> None:
        if (tag, step) == ("last", "estimate"):
            raise KeyboardInterrupt  # as a second Ctrl-C: at once, with no clean end

    with pytest.raises(KeyboardInterrupt):
        profile_models(
            [kept, changed, awkward("failed", on_load="value_error"), stated("last")],
            settings,
            RecordingObserver(stop),
        )
    assert not out.exists()
    assert journal_path(out).exists()
    observer = RecordingObserver()
    outcome = profile_models(
        [kept, stated("changed", batches=(2,)), awkward("failed"), stated("last", batches=(1,))],
        msgspec.structs.replace(settings, resume=True),
        observer,
    )
    assert observer.started == ("changed", "failed", "last")
    assert list(outcome.database.models) == ["kept", "changed", "failed", "last"]
    assert outcome.failed == ()
    assert not journal_path(out).exists()


@pytest.mark.parametrize("resume", [False, True])
def test_what_an_unfinished_run_measured_of_models_not_chosen_now_is_not_lost(
    tmp_path: Path, resume: bool
) -> None:
    out = tmp_path / "costs.json"
    first, second = stated("first", batches=(1,)), stated("second", batches=(1,))
    settings = host(out, repeats=1)

    def stop(tag: str, step: str) -> None:
        if (tag, step) == ("second", "estimate"):
            raise KeyboardInterrupt  # as a second Ctrl-C: at once, with no clean end

    with pytest.raises(KeyboardInterrupt):
        profile_models([first, second], settings, RecordingObserver(stop))
    observer = RecordingObserver()
    outcome = profile_models([second], msgspec.structs.replace(settings, resume=resume), observer)
    assert observer.started == ("second",)
    assert list(load_costs(out).models) == ["first", "second"]
    assert load_costs(out).models["first"].error is None
    assert any("first" in notice for notice in observer.notices)
    assert outcome.written
    assert not journal_path(out).exists()


def test_what_was_measured_on_another_machine_is_neither_merged_nor_lost(tmp_path: Path) -> None:
    out = tmp_path / "costs.json"
    with Journal(out, resume=False) as journal:
        journal.begin(machine="sha256:another")
        cost = ModelCost(initial_estimate_bytes=5)
        journal.append(JournalRecord(tag="theirs", fingerprint="sha256:a", cost=cost))
    before = journal_path(out).read_bytes()
    with pytest.raises(UsageError, match=r"another machine.*theirs"):
        profile_models([stated("ours", batches=(1,))], host(out, repeats=1), RecordingObserver())
    assert journal_path(out).read_bytes() == before
