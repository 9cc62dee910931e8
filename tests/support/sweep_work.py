"""What the tests sweep, and what a sweep's worker does: importable from another process."""

from __future__ import annotations

import os
import signal

from modelmgr.records.sweep import SweepRow
from modelmgr.simulation.sweep import SweepTask, run_row

SCENARIO = """
schema_version: 1
name: small
devices:
  - {name: gpu0, memory: 4 GiB, slack: 0%}
models:
  - {tag: bert, cost: &cost {resident: 1 GiB, peak: 1.5 GiB, load: 2 s, service: 35 ms}}
  - {tag: gpt2, cost: *cost}
  - {tag: t5, cost: *cost}
workload:
  - {mix: {bert: 3, gpt2: 1, t5: 1}, arrivals: {pattern: poisson, rate: 2/s}, duration: 60 s}
"""


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
