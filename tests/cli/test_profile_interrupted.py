"""``modelmgr profile`` that is ended by a signal: what is kept, what is said, what goes on."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from modelmgr.records.codec import load_costs
from modelmgr_cli.app import main
from support.command_line import Program
from support.profile_lists import ON_HOST, ONE_MODEL


def _profile_until(told: str, modelmgr: Program, *arguments: str) -> subprocess.Popen[str]:
    """Start a profile in a session of its own and return it once a load step was told."""
    process = modelmgr.start(
        "profile", "models.yaml", *ON_HOST, "--verbose", *arguments, own_session=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if told in line and "load" in line:
            break
    return process


def test_ctrl_c_ends_with_130_keeps_what_is_measured_and_resume_goes_on(
    modelmgr: Program, models: Path, tmp_path: Path
) -> None:
    # GIVEN a run that is done with its first model and busy with its second
    slow = ONE_MODEL.replace("    input", "    repeats: 1\n    input") + (
        "  - tag: slow\n    loader: synthetic\n"
        "    options: {resident: 8 MiB, load: 60 s}\n    input: {batch_size: [1]}\n"
    )
    models.write_text(slow)
    process = _profile_until("slow: step", modelmgr)

    # WHEN somebody presses Ctrl-C
    os.killpg(process.pid, signal.SIGINT)
    out, rest = process.communicate(timeout=60)

    # THEN it says so, keeps the first model, and leaves no process behind
    assert process.returncode == 130
    assert "interrupted with 1 of 2 models not measured" in rest
    assert "--resume" in rest
    assert "small" in out
    assert "Traceback" not in rest
    assert load_costs(tmp_path / "costs.json").models["small"].error is None
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)

    # AND the same command with --resume measures only the rest
    models.write_text(slow.replace("load: 60 s", "load: 1 ms"))
    resumed = modelmgr("profile", "models.yaml", *ON_HOST, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "measuring 1 model on host" in resumed.stderr
    assert set(load_costs(tmp_path / "costs.json").models) == {"small", "slow"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_ended_before_its_first_model_says_that_nothing_was_written(
    modelmgr: Program, models: Path, tmp_path: Path, number: signal.Signals
) -> None:
    # It used to say "costs written to k.json" and left no such file.
    models.write_text(ONE_MODEL.replace("load: 10 ms", "load: 60 s"))
    process = _profile_until("small: step", modelmgr, "--export", "csv")

    os.killpg(process.pid, number)
    out, rest = process.communicate(timeout=60)

    assert process.returncode == 130
    assert out == ""
    assert "interrupted: nothing was measured, nothing was written" in " ".join(rest.split())
    assert "written to" not in rest
    assert [path.name for path in tmp_path.iterdir()] == ["models.yaml"]


def test_an_interrupted_run_does_not_count_the_figures_of_an_earlier_one(
    modelmgr: Program, models: Path, tmp_path: Path
) -> None:
    assert modelmgr("profile", "models.yaml", *ON_HOST).returncode == 0
    before = (tmp_path / "costs.json").read_bytes()
    models.write_text(ONE_MODEL.replace("load: 10 ms", "load: 60 s"))
    process = _profile_until("small: step", modelmgr)

    os.killpg(process.pid, signal.SIGINT)
    out, rest = process.communicate(timeout=60)

    assert out == ""
    assert "costs.json is as it was" in " ".join(rest.split())
    assert (tmp_path / "costs.json").read_bytes() == before


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("journaled", "words"),
    [(True, "costs.json.journal keeps what was measured"), (False, "nothing was written")],
)
def test_a_second_ctrl_c_says_what_is_kept_and_how_to_go_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    journaled: bool,
    words: str,
) -> None:
    # GIVEN a run that is ended in the middle of its ending
    def ended_at_once(*_: object, **__: object) -> None:
        if journaled:
            Path("costs.json.journal").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("modelmgr_cli.commands.profile.profile_models", ended_at_once)
    monkeypatch.setattr("sys.argv", ["modelmgr", "profile", "models.yaml", *ON_HOST])

    # WHEN it ends
    with pytest.raises(SystemExit) as ended:
        main()

    # THEN it says so
    told = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 130
    assert words in told
    assert ("--resume" in told) is journaled
