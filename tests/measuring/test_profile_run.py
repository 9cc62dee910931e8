"""Real worker processes of stated sizes, through the real manager, into a real database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelmgr.devices.host_available import total_host_bytes
from modelmgr.errors import InputError, UsageError
from modelmgr.measuring.host_gauge import HostGauge
from modelmgr.measuring.journal import Journal, JournalRecord, journal_path
from modelmgr.measuring.ledger import ledger_total_bytes, model_growth_bytes
from modelmgr.measuring.profile import profile_models
from modelmgr.measuring.settings import ProfileOutcome, ProfileSettings
from modelmgr.records.codec import load_costs, save_costs
from modelmgr.records.costs import DeviceInfo, ModelCost
from modelmgr.records.measured import MeasuredBytes
from modelmgr.workload.model_spec import ModelSpec
from support.profile_observer import RecordingObserver

MIB = 1024**2
GIB = 1024**3


def stated(tag: str, *, batches: tuple[int, ...] = (1, 4), **options: object) -> ModelSpec:
    return ModelSpec(
        tag=tag, loader="synthetic", options=options, input={"batch_size": batches}, repeats=2
    )


def awkward(tag: str, **options: object) -> ModelSpec:
    return ModelSpec(
        tag=tag,
        loader="python",
        target="workers.worker_models:load",
        options=options,
        input={"batch_size": (1,)},
        repeats=1,
    )


def host(out: Path, **changes: Any) -> ProfileSettings:
    return msgspec.structs.replace(
        ProfileSettings(out=out, device="host", budget_bytes=2 * GIB), **changes
    )


def value(figure: MeasuredBytes | None) -> int:
    assert figure is not None
    return figure.value


def error_kind(cost: ModelCost) -> str | None:
    return None if cost.error is None else cost.error.kind


class Finished:
    """One run over a large and a small model, measured once for many claims."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "costs.json"
        self.observer = RecordingObserver()
        self.outcome: ProfileOutcome = profile_models(
            [
                stated(
                    "large",
                    resident_bytes="100 MiB",
                    activation_bytes="10 MiB",
                    load_peak_bytes="150 MiB",
                    service_ns="2 ms",
                ),
                stated("small", resident_bytes="20 MiB", activation_bytes="1 MiB"),
            ],
            host(self.out, command="profile test"),
            self.observer,
        )

    def cost(self, tag: str) -> ModelCost:
        return self.outcome.database.models[tag]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(tmp_path_factory.mktemp("profile"))


@pytest.mark.parametrize(("tag", "size"), [("large", 100 * MIB), ("small", 20 * MIB)])
def test_what_a_model_holds_at_rest_is_its_true_size(
    finished: Finished, tag: str, size: int
) -> None:
    cost = finished.cost(tag)
    assert cost.ledger is not None
    assert cost.ledger.weights_bytes == size
    growth = model_growth_bytes(cost.ledger, value(cost.resident_bytes))
    assert growth is not None
    assert abs(growth - size) < MIB  # the kernel's counters lag by up to 256 KiB a core
    assert cost.resident_bytes is not None
    assert cost.resident_bytes.evidence == "exact"


def test_every_shapes_activation_is_its_true_peak(finished: Finished) -> None:
    shapes = finished.cost("large").shapes
    assert [shape.dims for shape in shapes] == [{"batch_size": 1}, {"batch_size": 4}]
    for shape, size in zip(shapes, (10 * MIB, 40 * MIB), strict=True):
        assert abs(value(shape.activation_bytes) - size) < MIB
        assert shape.latency_ns is not None
        assert len(shape.latency_ns.samples) >= 6  # two processes, three batches each at least
        assert shape.latency_ns.min >= 2_000_000
        assert shape.throughput_per_s is not None


def test_the_ledger_adds_up_to_the_peak_and_explains_nearly_all_of_it(finished: Finished) -> None:
    for tag in ("large", "small"):
        cost = finished.cost(tag)
        assert cost.ledger is not None
        assert ledger_total_bytes(cost.ledger) == value(cost.peak_bytes)
        unaccounted = cost.ledger.unaccounted_bytes
        assert unaccounted is not None
        assert abs(unaccounted) <= max(8 * MIB, 0.03 * value(cost.peak_bytes))


def test_the_load_peak_is_seen_although_it_passed(finished: Finished) -> None:
    cost = finished.cost("large")
    assert abs(value(cost.load_peak_bytes) - value(cost.resident_bytes) - 50 * MIB) < 2 * MIB


def test_the_estimate_to_preload_is_an_upper_figure(finished: Finished) -> None:
    for cost in finished.outcome.database.models.values():
        assert cost.peak_bytes is not None
        assert cost.initial_estimate_bytes is not None
        assert cost.initial_estimate_bytes >= max(cost.peak_bytes.samples)


def test_a_second_copy_costs_its_own_pages_and_not_the_shared_ones(finished: Finished) -> None:
    cost = finished.cost("large")
    assert cost.copies is not None
    second = value(cost.copies.second_copy_bytes)
    assert 100 * MIB <= second < value(cost.resident_bytes)


def test_an_unload_is_timed_until_the_memory_is_back(finished: Finished) -> None:
    unload = finished.cost("large").unload
    assert unload is not None
    assert unload.reclaim_ns is not None
    assert unload.reclaim_ns.min > 0
    assert unload.residue_bytes == 0


def test_a_models_isolation_evicts_the_model_before_and_says_why(finished: Finished) -> None:
    evictions = finished.outcome.database.evictions
    flushed = [eviction for eviction in evictions if eviction.requested_by == "small"]
    assert {eviction.tag for eviction in flushed} == {"large"}
    assert all(eviction.reason == "isolation" for eviction in flushed)


def test_the_guess_stands_beside_the_measurement(finished: Finished) -> None:
    estimate = finished.cost("large").estimate
    assert estimate is not None
    assert estimate["weights_bytes"] == 100 * MIB
    assert estimate["activation_bytes"] == 40 * MIB


def test_the_file_holds_what_the_outcome_says_and_no_journal_is_left(finished: Finished) -> None:
    assert load_costs(finished.out) == finished.outcome.database
    assert [path.name for path in finished.out.parent.iterdir()] == ["costs.json"]
    [run] = finished.outcome.database.runs
    assert run.command == "profile test"
    assert finished.outcome.failed == ()
    assert finished.outcome.did_not_fit == ()
    assert not finished.outcome.interrupted


def test_the_observer_hears_of_every_planned_step(finished: Finished) -> None:
    observer = finished.observer
    assert observer.started == ("large", "small")
    for tag in observer.started:
        assert len(observer.steps[tag]) == observer.planned_steps[tag]
    assert observer.steps["small"][:3] == ["estimate", "load 1/2", "batch_size=1 memory 1/2"]
    assert observer.finished == dict(finished.outcome.database.models)
    assert observer.limit_bytes == round(0.9 * 2 * GIB)
    assert {limit for _, limit in observer.readings} == {2 * GIB}
    assert max(used for used, _ in observer.readings) > 100 * MIB


def test_the_devices_memory_is_told_apart_from_the_budget(finished: Finished) -> None:
    device = finished.outcome.database.machine.device
    assert device.total_bytes == total_host_bytes()
    assert device.budget_bytes == 2 * GIB


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


def test_a_close_that_hangs_is_noted_and_its_time_out_is_no_figure(tmp_path: Path) -> None:
    outcome = profile_models(
        [awkward("a", on_close="hang")],
        host(tmp_path / "costs.json", estimate=False),
        RecordingObserver(),
    )
    cost = outcome.database.models["a"]
    assert cost.error is None
    assert any("close() did not end" in note for note in cost.notes)
    assert any("how long an unload takes is not known" in note for note in cost.notes)
    assert cost.unload is not None
    assert cost.unload.reclaim_ns is None


@pytest.mark.parametrize(
    ("action", "told"),
    [
        ("value_error", "its close() raised: closing 'a' failed: ValueError: the weights are"),
        (
            "sys_exit",
            "its close() raised: closing 'a' failed: it ended the process with SystemExit",
        ),
        ("exit_3", "its process exited with status 3 during its close()"),
        ("segfault", "its process was ended by SIGSEGV (11) during its close()"),
        ("garbage", "its close() gave no answer"),
    ],
)
def test_a_close_that_does_something_else_is_noted(tmp_path: Path, action: str, told: str) -> None:
    outcome = profile_models(
        [awkward("a", on_close=action)],
        host(tmp_path / "costs.json", estimate=False),
        RecordingObserver(),
    )
    cost = outcome.database.models["a"]
    assert cost.error is None
    assert [note for note in cost.notes if told in note]
    assert cost.unload is not None


def test_weights_that_a_loader_does_not_count_are_the_growth_over_its_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uncounted.py").write_text(
        "class Model:\n    def __init__(self): self.pages = bytearray(b'x') * (50 << 20)\n"
        "    def infer(self, batch): return batch\n"
    )
    monkeypatch.chdir(tmp_path)
    model = ModelSpec(
        tag="a",
        loader="python",
        target="uncounted:Model",
        input={"batch_size": (1,)},
        repeats=1,
    )
    settings = host(tmp_path / "costs.json", estimate=False)
    cost = profile_models([model], settings, RecordingObserver()).database.models["a"]
    assert cost.error is None
    assert cost.ledger is not None
    assert cost.ledger.weights_bytes is not None
    assert abs(cost.ledger.weights_bytes - 50 * MIB) < 2 * MIB
    assert any("grew by over the load" in note for note in cost.notes)


def test_a_models_own_processes_are_in_its_figures_which_are_sampled_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parenting.py").write_text(
        "import subprocess, sys\n"
        "HOLD = \"p = bytearray(b'x') * (50 << 20); print(flush=True); input()\"\n"
        "class Model:\n"
        "    def __init__(self):\n"
        "        self.child = subprocess.Popen([sys.executable, '-c', HOLD],\n"
        "            stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "        self.child.stdout.readline()\n"
        "    def infer(self, batch): return batch\n"
    )
    monkeypatch.chdir(tmp_path)
    model = ModelSpec(
        tag="a",
        loader="python",
        target="parenting:Model",
        input={"batch_size": (1,)},
        repeats=1,
    )
    settings = host(tmp_path / "costs.json", estimate=False)
    cost = profile_models([model], settings, RecordingObserver()).database.models["a"]
    assert cost.error is None
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lonely.py").write_text(
        "import fcntl\n"
        "class Model:\n"
        "    def __init__(self):\n"
        "        self.lock = open('lock', 'w')\n"
        "        try: fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "        except BlockingIOError: raise RuntimeError('there can be only one') from None\n"
        "    def infer(self, batch): return batch\n"
    )
    monkeypatch.chdir(tmp_path)
    model = ModelSpec(
        tag="a", loader="python", target="lonely:Model", input={"batch_size": (1,)}, repeats=1
    )
    settings = host(tmp_path / "costs.json", estimate=False)
    cost = profile_models([model], settings, RecordingObserver()).database.models["a"]
    assert cost.error is None
    assert cost.copies is None
    told = [note for note in cost.notes if "second copy could not be measured: " in note]
    assert len(told) == 1
    assert "there can be only one" in told[0]


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
