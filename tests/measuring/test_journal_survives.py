"""The journal keeps finished models through kills, full disks and second runs."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelmgr.errors import UsageError
from modelmgr.measuring.journal import Journal, JournalRecord, fingerprint_of, journal_path
from modelmgr.records.costs import CostError, ModelCost, ShapeCost


def record(tag: str, fingerprint: str = "sha256:a") -> JournalRecord:
    return JournalRecord(
        tag=tag,
        fingerprint=fingerprint,
        cost=ModelCost(
            initial_estimate_bytes=5,
            shapes=(
                ShapeCost(
                    dims={"batch_size": 2},
                    activation_bytes=None,
                    latency_ns=None,
                    throughput_per_s=None,
                ),
            ),
        ),
    )


def left_by_a_killed_run(out: Path, *tags: str) -> None:
    with Journal(out, resume=False) as journal:
        journal.begin()
        for tag in tags:
            journal.append(record(tag))


def test_a_resumed_run_finds_every_finished_model_whole(tmp_path: Path) -> None:
    out = tmp_path / "costs.json"
    left_by_a_killed_run(out, "a", "b")
    with Journal(out, resume=True) as journal:
        assert dict(journal.records) == {"a": record("a"), "b": record("b")}
        journal.begin()
        journal.append(record("c"))
    with Journal(out, resume=True) as journal:
        assert list(journal.records) == ["a", "b", "c"]


def test_a_failed_model_and_its_reason_are_kept_too(tmp_path: Path) -> None:
    out = tmp_path / "costs.json"
    failed = JournalRecord(
        tag="a",
        fingerprint="sha256:a",
        cost=ModelCost(error=CostError(kind="ModelLoadError", message="no such file")),
    )
    with Journal(out, resume=False) as journal:
        journal.begin()
        journal.append(failed)
    with Journal(out, resume=True) as journal:
        assert journal.records["a"] == failed


@pytest.mark.parametrize("kept_bytes", [0, 1, 20, 40, -1, -5, -40])
def test_a_line_torn_by_a_kill_loses_only_itself(tmp_path: Path, kept_bytes: int) -> None:
    out = tmp_path / "costs.json"
    left_by_a_killed_run(out, "a", "b")
    path = journal_path(out)
    text = path.read_bytes()
    path.write_bytes(text[:kept_bytes])
    with Journal(out, resume=True) as journal:
        assert list(journal.records) == (["a"] if kept_bytes < 0 else [])
        journal.begin()
        journal.append(record("c"))
    with Journal(out, resume=True) as journal:
        assert list(journal.records) == (["a", "c"] if kept_bytes < 0 else ["c"])


def test_a_run_that_does_not_resume_starts_empty_and_says_what_it_threw_away(
    tmp_path: Path,
) -> None:
    out = tmp_path / "costs.json"
    left_by_a_killed_run(out, "a", "b")
    with Journal(out, resume=False) as journal:
        assert journal.discarded == 2
        assert not journal.records


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_is_refused_before_it_begins_changes_nothing(
    tmp_path: Path, resume: bool
) -> None:
    out = tmp_path / "costs.json"
    Journal(out, resume=resume).close()
    assert list(tmp_path.iterdir()) == []
    left_by_a_killed_run(out, "a")
    before = journal_path(out).read_bytes()
    Journal(out, resume=resume).close()
    assert journal_path(out).read_bytes() == before


def test_a_run_that_finished_no_model_leaves_no_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "costs.json", resume=False) as journal:
        journal.begin()
        assert journal.path.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_model_measured_twice_counts_as_last_measured(tmp_path: Path) -> None:
    out = tmp_path / "costs.json"
    with Journal(out, resume=False) as journal:
        journal.begin()
        journal.append(record("a", "sha256:old"))
        journal.append(record("a", "sha256:new"))
    with Journal(out, resume=True) as journal:
        assert journal.records["a"].fingerprint == "sha256:new"


def test_two_runs_never_write_to_one_output_and_the_second_is_told_who_does(
    tmp_path: Path,
) -> None:
    out = tmp_path / "costs.json"
    with Journal(out, resume=False) as journal:
        journal.begin()
        with pytest.raises(UsageError, match=f"process {os.getpid()}"):
            Journal(out, resume=True)
    Journal(out, resume=True).close()


def test_the_lock_of_a_killed_run_is_gone_with_it(tmp_path: Path) -> None:
    out = tmp_path / "costs.json"
    program = (
        "import sys, signal\nfrom pathlib import Path\n"
        "from modelmgr.measuring.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]), resume=False)\njournal.begin()\n"
        "print('locked', flush=True)\nsignal.pause()\n"
    )
    with subprocess.Popen(  # noqa: S603 - our own interpreter on our own text
        [sys.executable, "-c", program, str(out)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(UsageError, match=f"process {holder.pid}"):
            Journal(out, resume=True)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    Journal(out, resume=True).close()


def test_a_finished_run_leaves_no_journal(tmp_path: Path) -> None:
    out = tmp_path / "costs.json"
    journal = Journal(out, resume=False)
    journal.begin()
    journal.append(record("a"))
    journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_clear_error_and_loses_nothing_written_before(tmp_path: Path) -> None:
    out = tmp_path / "costs.json"
    with Journal(out, resume=False) as journal:
        journal.begin()
        journal.append(record("a"))
        whole = journal.path.read_bytes()
        # The kernel refuses to let the file grow, as a full disk would (EFBIG for ENOSPC).
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, before[1]))
        try:
            with pytest.raises(UsageError, match="free some space"):
                journal.append(record("b"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert journal.path.read_bytes() == whole


@pytest.mark.parametrize("text", [b"hello\nworld\n", b'{"journal":"other"}\n', b"x"])
def test_a_file_that_is_no_journal_is_not_overwritten(tmp_path: Path, text: bytes) -> None:
    out = tmp_path / "costs.json"
    journal_path(out).write_bytes(text)
    for resume in (False, True):
        with pytest.raises(UsageError, match="no journal of profile"):
            Journal(out, resume=resume)
    assert journal_path(out).read_bytes() == text


def test_an_output_that_cannot_be_written_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        Journal(tmp_path / "missing" / "costs.json", resume=False)
    with pytest.raises(UsageError, match="is a folder"):
        Journal(tmp_path, resume=False)


def test_a_fingerprint_depends_on_content_and_not_on_the_order_of_keys() -> None:
    assert fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})
    assert fingerprint_of({"a": 1}) != fingerprint_of({"a": 2})
