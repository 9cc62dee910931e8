"""What ``profile`` shows while it works: a live display on a terminal, a log elsewhere."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys

import msgspec
import pytest
from rich.console import Console

from modelmgr.errors import InferenceError, OutOfMemoryError
from modelmgr.records.costs import CostError, ModelCost
from modelmgr.units import GIB, NS_PER_S
from modelmgr_cli.render.progress import LiveDisplay, Progress, finished_line
from support.command_line import clean_environment, make_cost

_SCRIPT = """
import sys
from support.command_line import make_cost
from modelmgr_cli.render.progress import display_for
from modelmgr_cli.terminal import Terminal
with display_for(Terminal(quiet="quiet" in sys.argv, verbose="verbose" in sys.argv)) as display:
    display.run_started(("bert", "t5"), device="host", limit_bytes=8 * 1024**3)
    display.model_started("bert", steps=2)
    display.step_started("bert", "load 1/1")
    display.memory_read(2 * 1024**3, 8 * 1024**3)
    display.noticed("something else moved the memory")
    display.model_finished("bert", make_cost(417.6, 171.3, 145.1))
print("the result")
"""


class _Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def _run(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-c", _SCRIPT, *flags],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(PYTHONPATH=os.pathsep.join(sys.path)),
    )


def _run_on_a_terminal(columns: int, program: str = _SCRIPT, **environment: str) -> tuple[str, str]:
    """Run with stderr on a terminal and return what stdout and the terminal got."""
    ours, theirs = pty.openpty()
    settings = {
        "TERM": "xterm-256color",
        "NO_COLOR": "" if program is _SCRIPT else "1",
        "COLUMNS": str(columns),
        **environment,
    }
    with subprocess.Popen(  # noqa: S603  # our own program
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env=clean_environment(PYTHONPATH=os.pathsep.join(sys.path), **settings),
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 65536):
                seen += chunk
        except OSError:
            pass  # Linux says EIO when the other side of a terminal closed
        os.close(ours)
        out, _ = process.communicate(timeout=60)
    return out, seen.decode()


def test_a_log_has_a_line_for_each_model_on_stderr_and_nothing_on_stdout() -> None:
    finished = _run()

    assert finished.stdout == "the result\n"
    lines = [line.partition("] ")[2] or line for line in finished.stderr.splitlines()]
    assert lines == [
        "measuring 2 models on host, limit 8.0 GiB",
        "1/2 bert: 2 steps",
        "warning: something else moved the memory",
        "1/2 ok bert: resident 563.9 MiB, peak 738.6 MiB, load 1.23 s, took "
        + lines[3].partition("took ")[2],
    ]
    assert "\x1b" not in finished.stderr


def test_verbose_logs_every_step_and_quiet_only_warnings() -> None:
    assert "1/2 bert: step 1/2: load 1/1" in _run("verbose").stderr
    assert _run("quiet").stderr == "warning: something else moved the memory\n"


def test_a_terminal_gets_the_live_display_and_gets_its_cursor_back() -> None:
    out, seen = _run_on_a_terminal(80)

    assert out == "the result\n"
    assert "✓" in seen
    assert "bert: resident 563.9 MiB" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")  # shown again after it was hidden


def test_a_terminal_without_colours_gets_the_live_display_too() -> None:
    _, seen = _run_on_a_terminal(80, NO_COLOR="1")

    assert "\x1b[?25l" in seen
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", seen) is None


def test_a_terminal_that_cannot_move_its_cursor_gets_the_log() -> None:
    _, seen = _run_on_a_terminal(80, TERM="dumb")

    assert "1/2 bert: 2 steps" in seen
    assert "\x1b" not in seen


def test_the_display_is_as_wide_as_the_window_is_at_that_moment() -> None:
    program = _SCRIPT.replace("import sys\n", "import fcntl, struct, sys, termios, time\n", 1)
    program = program.replace(
        "    display.memory_read(", "    display.memory_read(3 * 1024**3, 8 * 1024**3)\n"
        "    time.sleep(0.4)\n"  # long enough for it to be drawn once
        "    fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 44, 0, 0))\n"
        "    time.sleep(0.6)\n"
        "    display.memory_read(", 1)  # fmt: skip
    _, seen = _run_on_a_terminal(120, program, COLUMNS="")

    drawn = [line for line in re.split(r"[\r\n]+", _bare(seen)) if line.startswith("memory")]
    assert len(drawn[0]) > 44 >= len(drawn[-1]) > 30


def _bare(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_the_live_display_shows_model_step_memory_and_time_within_the_width() -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    display = LiveDisplay(console)
    display.run_started(("bert", "t5"), device="host", limit_bytes=8 * GIB)
    display.model_started("bert", steps=4)
    display.step_started("bert", "batch_size=4 sequence_length=128")
    display.memory_read(6 * GIB, 8 * GIB)
    display.memory_read(2 * GIB, 12 * GIB)  # the device's size: the bar is against the limit

    with console.capture() as capture:
        console.print(display)
    lines = capture.get().splitlines()

    assert lines[0].split() == [
        "1/2", "bert", "batch_size=4", "sequence_length=128", "step", "1", "of", "4",
    ]  # fmt: skip
    assert "time left not known yet" in lines[1]
    assert "2.0 GiB of 8.0 GiB on host, highest 6.0 GiB" in lines[2]
    assert lines[2].count("━") == round(0.25 * (lines[2].count("━") + lines[2].count("┄")))
    assert all(len(line) <= 80 for line in lines)


def _left(progress: Progress) -> int | None:
    return progress.left_ns  # a call: checkers think that a property stays as it was


def test_the_time_left_is_told_only_from_what_was_measured() -> None:
    clock = _Clock()
    progress = Progress(clock)
    progress.run_started(("a", "b", "c"), device="host", limit_bytes=1)
    progress.model_started("a", steps=2)
    assert _left(progress) is None

    clock.now_ns = 10 * NS_PER_S
    progress.model_finished()
    assert _left(progress) == 20 * NS_PER_S

    progress.model_started("b", steps=2)
    clock.now_ns = 14 * NS_PER_S
    assert _left(progress) == 16 * NS_PER_S

    clock.now_ns = 60 * NS_PER_S  # b takes longer than a did: c's share is what is left
    assert _left(progress) == 10 * NS_PER_S


def test_a_slow_model_is_judged_by_its_own_steps_once_half_of_them_are_done() -> None:
    """A list that began with small models said seconds while a large one took minutes."""
    clock = _Clock()
    progress = Progress(clock)
    progress.run_started(("small", "large", "last"), device="host", limit_bytes=1)
    progress.model_started("small", steps=4)
    clock.now_ns = 10 * NS_PER_S
    progress.model_finished()

    progress.model_started("large", steps=4)
    for step in ("1", "2", "3"):
        progress.step_started("large", step)
    clock.now_ns = 60 * NS_PER_S  # two of four steps took 50 s: 50 more, and 55 on average after
    assert _left(progress) == (50 + (10 + 100) // 2) * NS_PER_S


def test_the_only_model_has_a_time_left_once_half_of_it_is_done() -> None:
    clock = _Clock()
    progress = Progress(clock)
    progress.run_started(("only",), device="host", limit_bytes=1)
    progress.model_started("only", steps=4)
    progress.step_started("only", "1")
    clock.now_ns = 6 * NS_PER_S
    assert _left(progress) is None
    progress.step_started("only", "2")
    progress.step_started("only", "3")
    assert _left(progress) == 6 * NS_PER_S


def test_the_share_done_grows_within_a_model() -> None:
    progress = Progress(_Clock())
    progress.run_started(("a", "b"), device="host", limit_bytes=1)
    progress.model_started("a", steps=4)
    shares = [progress.fraction]
    for step in ("1", "2", "3"):
        progress.step_started("a", step)
        shares.append(progress.fraction)
    progress.model_finished()
    shares.append(progress.fraction)

    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 0.5)


def _failed(message: str) -> ModelCost:
    return ModelCost(error=CostError(kind="OutOfMemoryError", message=message))


def test_a_failed_model_is_told_with_its_reason_to_the_end() -> None:
    # Only the first line was told: "Validation error for field 'num_hidden_layers':" and no more.
    line = finished_line("big", _failed("Validation error:\n\n    expected int, got 'x'"), 1)

    assert line == "big: OutOfMemoryError: Validation error:\n    expected int, got 'x'"


def test_a_reason_of_many_screens_is_told_in_few_lines_the_last_one_among_them() -> None:
    line = finished_line("big", _failed("\n".join(f"line {n}" for n in range(500))), 1)

    assert len(line.splitlines()) <= 10
    assert line.startswith("big: OutOfMemoryError: line 0\n")
    assert line.endswith("line 499")
    assert "492 lines left out" in line


def test_a_reason_is_never_cut_by_the_live_display() -> None:
    console = Console(file=io.StringIO(), width=40, color_system=None)
    display = LiveDisplay(console)
    display.run_started(("big",), device="host", limit_bytes=8 * GIB)
    display.model_started("big", steps=4)

    with console.capture() as capture:
        display.model_finished("big", _failed("it asked for nine GiB of the eight that are there"))

    assert " ".join(capture.get().split()).endswith("of the eight that are there")


def test_no_figure_of_a_finished_model_is_cut_by_the_live_display() -> None:
    console = Console(file=io.StringIO(), width=40, color_system=None)
    display = LiveDisplay(console)
    display.run_started(("bert",), device="host", limit_bytes=8 * GIB)
    display.model_started("bert", steps=4)

    with console.capture() as capture:
        display.model_finished("bert", make_cost(417.6, 171.3, 145.1))

    assert "peak 738.6 MiB, load 1.23 s, took" in " ".join(capture.get().split())


@pytest.mark.parametrize("columns", [40, 80])
def test_a_message_is_broken_between_words_on_a_terminal(columns: int) -> None:
    # "go on with the same comman/d and --resume" is what 80 columns used to show.
    sentence = "interrupted with 1 of 2 models not measured; go on with the same command, --resume"
    program = f"from modelmgr_cli.terminal import Terminal; Terminal().warn({sentence!r})"
    _, seen = _run_on_a_terminal(columns, program)

    lines = seen.splitlines()
    assert " ".join(seen.split()) == f"warning: {sentence}"
    assert len(lines) > 1
    assert all(len(line) <= columns for line in lines)
    assert all(line.startswith("         ") for line in lines[1:])


def test_a_sampled_figure_is_marked_in_the_log_too() -> None:
    cost = make_cost(417.6, 171.3, 145.1)
    assert cost.peak_bytes is not None
    sampled = msgspec.structs.replace(
        cost, peak_bytes=msgspec.structs.replace(cost.peak_bytes, evidence="sampled")
    )

    assert "peak ~738.6 MiB" in finished_line("bert", sampled, 1)


@pytest.mark.parametrize("debug", [False, True])
def test_a_failing_models_own_traceback_is_left_above_the_display_on_demand(debug: bool) -> None:
    page = io.StringIO()
    display = LiveDisplay(Console(file=page, width=100), debug=debug)
    cause = InferenceError("inner", details='  File "model.py", line 3\nValueError: \x1b[31mred')
    error = OutOfMemoryError("the model grew beyond the budget")
    error.__cause__ = cause
    display.model_failed("bert", error)
    told = page.getvalue()
    assert ("bert: OutOfMemoryError, in its own process:" in told) is debug
    assert ('File "model.py", line 3' in told) is debug
    assert "\x1b[31m" not in told
