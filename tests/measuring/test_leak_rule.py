"""A leak is growth that does not stop; whatever comes once, or comes and goes, is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmgr.measuring.leak import RunGrowth, find_leak, worst_leak
from modelmgr.measuring.profile import profile_models
from modelmgr.measuring.settings import ProfileSettings
from modelmgr.records.costs import ModelCost
from modelmgr.units import GIB, MIB
from modelmgr.workload.model_spec import ModelSpec
from support.profile_observer import RecordingObserver

KIB = 1024
_NOTE = "memory grew by "


def runs(*pairs: tuple[int, int]) -> list[RunGrowth]:
    return [RunGrowth(batches=batches, grown_bytes=grown) for batches, grown in pairs]


@pytest.mark.parametrize(
    "grown",
    [
        runs((1, MIB), (1, MIB), (3, 3 * MIB), (4, 4 * MIB)),
        runs((1, MIB), (1, 4 * MIB), (3, 3 * MIB), (3, 12 * MIB)),  # with the batch's size
        runs((1, 100 * KIB), (3, 300 * KIB), (27, 2700 * KIB)),
        runs((1, 0), (3, 3 * MIB), (4, 4 * MIB), (8, 8 * MIB), (3, 3 * MIB)),  # one was hidden
    ],
)
def test_memory_that_grows_with_every_batch_is_a_leak(grown: list[RunGrowth]) -> None:
    leak = find_leak(grown)
    assert leak is not None
    assert leak.total_bytes == sum(run.grown_bytes for run in grown)
    assert leak.batches == sum(run.batches for run in grown)
    assert str(leak).startswith(_NOTE)
    assert f"over {leak.batches} batches" in str(leak)


@pytest.mark.parametrize(
    "grown",
    [
        [],
        runs((30, 300 * MIB)),  # one run alone: made once, for all that can be seen
        runs((1, 2 * MIB), (1, 2 * MIB)),  # too few batches
        runs((1, 64 * MIB), (3, 0), (4, 0), (8, 0)),  # a cache that was filled once
        runs((1, 64 * MIB), (3, 60 * KIB), (4, 90 * KIB), (8, 200 * KIB)),  # and a counter's lag
        runs((1, 5 * MIB), (3, 5 * MIB), (4, -5 * MIB), (8, 100 * KIB)),  # it comes and goes
        runs((1, MIB), (3, 3 * MIB), (4, 4 * MIB), (8, 0)),  # it stopped
        runs((1, 20 * KIB), (3, 60 * KIB), (8, 160 * KIB)),  # nobody needs to know
        runs((1, -MIB), (3, -3 * MIB), (8, -8 * MIB)),
    ],
)
def test_growth_that_has_an_end_is_none(grown: list[RunGrowth]) -> None:
    assert find_leak(grown) is None


@given(
    st.lists(
        st.builds(
            RunGrowth,
            batches=st.integers(1, 30),
            grown_bytes=st.integers(-512 * KIB, 512 * KIB),
        ),
        max_size=4,
    )
)
def test_what_counters_lag_by_is_no_leak_in_a_few_runs(grown: list[RunGrowth]) -> None:
    if sum(run.grown_bytes for run in grown) < 2 * MIB:
        assert find_leak(grown) is None


def test_a_leak_that_not_every_process_had_is_none() -> None:
    small = find_leak(runs((1, MIB), (3, 3 * MIB)))
    large = find_leak(runs((1, 2 * MIB), (3, 6 * MIB)))
    assert worst_leak([small, large, small]) == large
    assert worst_leak([small, None]) is None
    assert worst_leak([]) is None


def _profile(tmp_path: Path, body: str) -> ModelCost:
    (tmp_path / "growing_or_not.py").write_text(body)
    model = ModelSpec(
        tag="a",
        loader="python",
        target="growing_or_not:Model",
        input={"batch_size": (1, 2)},
        repeats=1,
    )
    settings = ProfileSettings(
        out=tmp_path / "costs.json", device="host", budget_bytes=2 * GIB, estimate=False
    )
    outcome = profile_models([model], settings, RecordingObserver())
    cost = outcome.database.models["a"]
    assert cost.error is None
    return cost


@pytest.mark.parametrize("kept_kib", [256, 2048])
def test_a_model_that_keeps_its_batches_is_told_with_how_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_kib: int
) -> None:
    monkeypatch.chdir(tmp_path)
    cost = _profile(
        tmp_path,
        "class Model:\n"
        "    def __init__(self): self.kept = []\n"
        f"    def infer(self, batch): self.kept.append(bytearray(b'x') * {kept_kib * KIB})\n",
    )
    [note] = [note for note in cost.notes if note.startswith(_NOTE)]
    assert "per batch over " in note


@pytest.mark.parametrize(
    "infer",
    [
        "pass",
        "bytearray(b'x') * (8 << 20)",  # freed at once
        "self.kept = bytearray(b'x') * (8 << 20)",  # the last one is kept
        "self.kept = self.kept or bytearray(b'x') * (64 << 20)",  # made once
        "self.kept = [bytes(5000 + i % 7000) for i in range(3000)]",  # fragments the heap
        "self.pages[:] if self.pages[-1] else None",
    ],
)
def test_an_ordinary_model_is_not_told_to_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, infer: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mapped").write_bytes(bytes(32 << 20))
    cost = _profile(
        tmp_path,
        "import mmap\n"
        "class Model:\n"
        "    def __init__(self):\n"
        "        self.kept = None\n"
        "        with open('mapped', 'rb') as file:\n"
        "            self.pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\n"
        f"    def infer(self, batch): {infer}\n",
    )
    assert not any(note.startswith(_NOTE) for note in cost.notes)
