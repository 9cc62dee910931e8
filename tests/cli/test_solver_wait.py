"""Ctrl-C ends the wait for a solver, and the run that was simulated is kept."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from modelmgr.errors import UsageError
from modelmgr.records.result import Result
from modelmgr_cli.solver_wait import solved
from support.command_line import Program

LONG_TAIL = Path(__file__).parents[2] / "scenarios" / "long-tail.yaml"


def test_the_answer_and_the_error_are_the_solvers() -> None:
    def fail() -> int:
        raise UsageError("no schedule")

    assert solved(lambda: 5) == 5
    with pytest.raises(UsageError, match="no schedule"):
        solved(fail)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_while_the_solver_goes_on(number: signal.Signals) -> None:
    over = threading.Event()

    def solve() -> None:
        os.kill(os.getpid(), number)
        over.wait()

    with pytest.raises(KeyboardInterrupt):
        solved(solve)
    over.set()


def test_a_bound_that_is_interrupted_costs_no_result(modelmgr: Program, tmp_path: Path) -> None:
    with modelmgr.start(
        *("simulate", str(LONG_TAIL), "--max-requests", "6000"),
        *("--bound", "--bound-time", "10 min", "--out", "r.json"),
    ) as process:
        assert process.stderr is not None
        told = process.stderr.readline()
        while "computing the least possible" not in told:
            told = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        table, told = process.communicate(timeout=120)

    assert process.returncode == 130
    assert table.startswith("long-tail: policy")
    assert "no bound: interrupted" in told
    result = Result.load(tmp_path / "r.json")
    assert result.bound is None
    assert result.requests.total == 6000
    assert not result.partial
