"""What is refused before it is measured leaves every file as it was, and makes no new one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from modelmgr.errors import UsageError
from modelmgr.measuring.profile import profile_models
from modelmgr.measuring.settings import ProfileSettings
from modelmgr.workload.model_spec import ModelSpec
from support.profile_observer import RecordingObserver

GIB = 1024**3


def stated(tag: str) -> ModelSpec:
    return ModelSpec(tag=tag, loader="synthetic", input={"batch_size": (1,)}, repeats=1)


def host(out: Path) -> ProfileSettings:
    return ProfileSettings(out=out, device="host", budget_bytes=2 * GIB)


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file that a journal was opened for, even where it is removed again."""
    opened: list[Path] = []
    real = Path.with_name

    def noting(self: Path, name: str) -> Path:
        if name.endswith(".journal"):
            opened.append(self)
        return real(self, name)

    monkeypatch.setattr(Path, "with_name", noting)
    return opened


@pytest.mark.parametrize("text", [b"{", b'{"a": 1}', b"models:\n- tag: a\n", b"some notes"])
def test_an_output_that_is_no_database_gets_no_journal_beside_it(
    tmp_path: Path, created: list[Path], text: bytes
) -> None:
    out = tmp_path / "notes.txt"
    out.write_bytes(text)
    with pytest.raises(UsageError):
        profile_models([stated("a")], host(out), RecordingObserver())
    assert created == []
    assert out.read_bytes() == text
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("name", ["/dev/null", "/dev/full"])
def test_a_device_file_keeps_no_database_and_gets_no_journal(
    name: str, created: list[Path]
) -> None:
    with pytest.raises(UsageError, match="no regular file"):
        profile_models([stated("a")], host(Path(name)), RecordingObserver())
    assert created == []


def test_a_run_that_is_stopped_before_its_first_model_says_that_nothing_was_written(
    tmp_path: Path,
) -> None:
    observer = RecordingObserver(lambda _tag, _step: os.kill(os.getpid(), signal.SIGTERM))
    outcome = profile_models([stated("a")], host(tmp_path / "costs.json"), observer)
    assert outcome.interrupted
    assert not outcome.written
    assert list(tmp_path.iterdir()) == []
