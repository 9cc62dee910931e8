"""The program around its commands: help, exit statuses, streams, colours, completion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelmgr import errors
from modelmgr_cli.diagnostics import explain, outcome_of_failures
from modelmgr_cli.outcome import Outcome
from modelmgr_cli.terminal import Terminal, printable, take_shared_flags
from support.command_line import Program, clean_environment

_COMMANDS = ("profile", "estimate", "costs", "doctor", "init", "schema")
_HEAVY = ("rich", "msgspec", "yaml", "numpy", "psutil", "pydantic", "scipy", "torch")


def test_help_names_every_command_on_stdout(modelmgr: Program) -> None:
    finished = modelmgr("--help")

    assert finished.returncode == 0
    assert finished.stderr == ""
    for command in _COMMANDS:
        assert f"  {command}" in finished.stdout
    assert max(len(line) for line in finished.stdout.splitlines()) <= 80


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from modelmgr_cli import app; sys.argv = ['modelmgr', '--help']\n"
        "try: app.main()\n"
        f"finally: print('HEAVY', [m for m in {_HEAVY!r} if m in sys.modules])"
    )
    finished = subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(),
    )

    assert finished.stdout.splitlines()[-1] == "HEAVY []"


def test_an_interrupt_while_the_program_is_imported_ends_it_in_a_word(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n", "utf-8")
    finished = subprocess.run(  # our own program
        [sys.executable, "-c", "from modelmgr_cli.start import main; main()"],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path])),
    )

    assert (finished.returncode, finished.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize(
    ("module", "named"), [("typer", "typer"), ("msgspec", "msgspec"), ("yaml", "pyyaml")]
)
@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("ModuleNotFoundError('gone', name={module!r})", "is not installed; try: "),
        ("ImportError('of another Python')", "cannot be imported (of another Python); try: "),
    ],
)
def test_a_package_that_is_missing_or_broken_is_named_with_how_to_install_it(
    tmp_path: Path, module: str, named: str, raised: str, said: str
) -> None:
    """It read as a bug of modelmgr, with exit status 70, or as a traceback."""
    (tmp_path / f"{module}.py").write_text(f"raise {raised.format(module=module)}\n", "utf-8")
    finished = subprocess.run(  # noqa: S603  # our own program
        [
            *(sys.executable, "-c", "from modelmgr_cli.start import main; main()"),
            *("profile", "models.yaml"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path])),
    )

    assert finished.returncode == 2
    (line,) = finished.stderr.splitlines()
    assert line.startswith(f"error: the package {named} {said}python -m pip install ")
    assert line.endswith(f" {named}")


def test_an_import_of_our_own_that_fails_is_a_bug_of_ours() -> None:
    for error in (ImportError("no name", name="modelmgr.units"), ImportError("nobody's")):
        assert explain(error)[0] is Outcome.INTERNAL_ERROR


def test_what_breaks_while_an_interrupt_unwinds_is_the_interrupt() -> None:
    program = (
        "import sys; from modelmgr_cli import app\n"
        "def asked_twice(*_):\n"
        "    try: raise KeyboardInterrupt\n"
        "    finally: raise RuntimeError('release unlocked lock')\n"
        "app._run = asked_twice; app.main()"
    )
    finished = subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
    )

    assert (finished.returncode, finished.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_explains_itself_with_examples(
    started_modelmgr: Program, command: str
) -> None:
    finished = started_modelmgr(command, "--help")

    assert finished.returncode == 0, finished.stderr
    assert f"\n  modelmgr {command}" in finished.stdout  # an example keeps its line
    assert max(len(line) for line in finished.stdout.splitlines()) <= 80


def test_the_version_is_printed(modelmgr: Program) -> None:
    finished = modelmgr("--version")

    assert (finished.returncode, finished.stdout.split()[0]) == (0, "modelmgr")


def test_no_command_is_wrong_usage_and_shows_the_help_on_stderr(modelmgr: Program) -> None:
    assert modelmgr.refused().startswith("Usage: modelmgr")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prfile"], "error: No such command 'prfile'. Did you mean 'profile'?"),
        (["xyzzy"], "error: No such command 'xyzzy'. Commands: profile,"),
        (["init", "--forse"], "error: No such option: --forse. Did you mean --force?"),
        (["init", "a", "b"], "error: Got unexpected extra argument"),
        (["profile"], "error: Missing argument 'MODELS.yaml'."),
        (["costs", "shwo"], "error: No such command 'shwo'. Did you mean 'show'?"),
    ],
)
def test_wrong_usage_is_one_message_with_the_nearest_name(
    modelmgr: Program, arguments: list[str], message: str
) -> None:
    first, hint = modelmgr.refused(*arguments).splitlines()

    assert first.startswith(message)
    assert hint.strip().startswith("Try 'modelmgr")


def test_a_flag_that_every_command_has_may_stand_anywhere() -> None:
    terminal, rest = take_shared_flags(["profile", "-q", "m.yaml", "--debug", "--", "--verbose"])

    assert terminal == Terminal(quiet=True, debug=True)
    assert rest == ["profile", "m.yaml", "--", "--verbose"]


def test_a_traceback_is_shown_only_for_debug(modelmgr: Program) -> None:
    modelmgr("init")

    modelmgr.refused("init")
    debugged = modelmgr("init", "--debug")
    assert "Traceback" in debugged.stderr
    assert debugged.returncode == 2


def test_a_closed_stdout_is_no_error_of_ours(modelmgr: Program) -> None:
    # GIVEN a reader that goes away before anything is written
    reading, writing = os.pipe()
    os.close(reading)

    # WHEN the program writes
    with os.fdopen(writing, "w") as pipe:
        ended = modelmgr.into(pipe, "schema", "costs")

    # THEN it ends as if it had been read
    assert ended == (0, "")


def test_a_full_disk_behind_stdout_is_told(modelmgr: Program) -> None:
    with Path("/dev/full").open("w") as full:
        ended = modelmgr.into(full, "schema", "costs")

    assert ended == (2, "error: stdout: No space left on device\n")


@pytest.mark.parametrize(
    ("environment", "flags", "coloured"),
    [
        ({}, (), False),
        ({"FORCE_COLOR": "1"}, (), True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, (), False),
        ({"FORCE_COLOR": "1"}, ("--no-color",), False),
    ],
)
def test_colour_follows_the_flag_then_the_environment_then_the_stream(
    modelmgr: Program, environment: dict[str, str], flags: tuple[str, ...], coloured: bool
) -> None:
    finished = modelmgr("--help", *flags, environment=environment)
    refused = modelmgr("nonsense", *flags, environment=environment)

    assert ("\x1b[" in finished.stdout) is coloured
    assert ("\x1b[" in refused.stderr) is coloured


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_command_names_without_importing_commands(modelmgr: Program, shell: str) -> None:
    finished = modelmgr(
        environment={
            "_MODELMGR_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_ARGS": "modelmgr pro",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "COMP_WORDS": "modelmgr pro",
            "COMP_CWORD": "1",
        }
    )

    assert finished.returncode == 0, finished.stderr
    assert "profile" in finished.stdout
    assert "doctor" not in finished.stdout


def test_shells_get_the_options_of_a_command(modelmgr: Program) -> None:
    finished = modelmgr(
        environment={
            "_MODELMGR_COMPLETE": "complete_bash",
            "COMP_WORDS": "modelmgr init --fo",
            "COMP_CWORD": "2",
        }
    )

    assert finished.stdout.split() == ["--force"]


def test_shells_get_the_tags_of_the_list_on_the_line(modelmgr: Program) -> None:
    modelmgr("init")
    finished = modelmgr(
        environment={
            "_MODELMGR_COMPLETE": "complete_bash",
            "COMP_WORDS": "modelmgr profile models.yaml --only syn",
            "COMP_CWORD": "4",
        }
    )

    assert finished.stdout.split() == ["synthetic-small"], finished.stderr


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (errors.UsageError("x"), Outcome.BAD_INPUT),
        (errors.InputError("x", path="f", line=3), Outcome.BAD_INPUT),
        (errors.DoesNotFitError("x"), Outcome.DOES_NOT_FIT),
        (errors.OutOfMemoryError("x"), Outcome.DOES_NOT_FIT),
        (errors.WorkerDiedError("x"), Outcome.NOTHING_MEASURED),
        (errors.DeviceLostError("x"), Outcome.NOTHING_MEASURED),
        (errors.ForeignLoadError("x"), Outcome.NOTHING_MEASURED),
        (errors.InvalidTransitionError("x"), Outcome.INTERNAL_ERROR),
        (PermissionError(13, "Permission denied", "/f"), Outcome.BAD_INPUT),
        (ZeroDivisionError("x"), Outcome.INTERNAL_ERROR),
    ],
)
def test_every_error_has_its_exit_status(error: Exception, outcome: Outcome) -> None:
    assert explain(error)[0] is outcome


def test_a_bug_of_ours_asks_to_be_reported() -> None:
    _, message = explain(KeyError("resident"))

    assert message.splitlines()[0] == "unexpected KeyError: 'resident'"
    assert "--debug" in message


@pytest.mark.parametrize(
    ("kinds", "did_not_fit", "outcome"),
    [
        (set[str](), False, Outcome.FINE),
        ({"ModelLoadError", "MissingPackageError"}, False, Outcome.BAD_INPUT),
        ({"ModelLoadError", "WorkerDiedError"}, False, Outcome.NOTHING_MEASURED),
        ({"ModelLoadError"}, True, Outcome.DOES_NOT_FIT),
    ],
)
def test_models_that_failed_decide_how_a_profile_ended(
    kinds: set[str], did_not_fit: bool, outcome: Outcome
) -> None:
    assert outcome_of_failures(frozenset(kinds), did_not_fit=did_not_fit) is outcome


def test_text_from_elsewhere_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[31mb\nc\td\x07") == "a\\x1b[31mb\nc\td\\x07"
