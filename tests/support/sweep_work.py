"""What a sweep's worker does in tests; importable by name from another process."""

from __future__ import annotations

import os
import signal

from modelmgr.records.sweep import SweepRow
from modelmgr.simulation.sweep import SweepTask, run_row


def die_on_the_second(task: SweepTask) -> SweepRow | None:
    """Simulate, but be killed on row 1."""
    if task.number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return run_row(task)


def raise_on_the_second(task: SweepTask) -> SweepRow | None:
    """Simulate, but fail on row 1 with an error of nobody's."""
    if task.number == 1:
        raise ZeroDivisionError("a bug")
    return run_row(task)
