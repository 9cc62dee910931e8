"""How a command ended, and the exit status that each ending has.

Commands return an ``Outcome`` or raise; ``app.main`` alone turns either into an exit status.

    0    fine
    1    a gate failed: the database no longer holds, a regression
    2    bad usage or bad input (a file, a flag, an output that cannot be written), or a package
         that is not installed
    3    a model does not fit, or ran out of memory; the others were measured
    4    too noisy to say whether anything got worse
    5    nothing measured, of at least one model; or no device to measure on; no baseline, or
         nothing in common with it
    70   a bug of modelmgr itself (EX_SOFTWARE of sysexits.h; Python's own 1 would read as a gate)
    130  interrupted by Ctrl-C, SIGTERM or SIGHUP; what was measured is kept
"""

from __future__ import annotations

from enum import IntEnum


class Outcome(IntEnum):
    """How a command ended; the value is the program's exit status."""

    FINE = 0
    GATE_FAILED = 1
    BAD_INPUT = 2
    DOES_NOT_FIT = 3
    INCONCLUSIVE = 4
    NOTHING_MEASURED = 5
    INTERNAL_ERROR = 70
    INTERRUPTED = 130
