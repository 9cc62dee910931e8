"""What a scenario says that is possible, and hardly meant: remarks for whoever runs it.

Nothing here refuses anything.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelmgr.units import NS_PER_S, format_duration
from modelmgr.workload.scenario import Scenario, TracePhase
from modelmgr.workload.traces import check_trace

_LONG_NS = 3_600 * NS_PER_S
"""A trace whose first request comes later than this was recorded with a clock of its own."""


def empty_beginnings(scenario: Scenario) -> Iterator[str]:
    """Yield a remark for each trace that is empty for its first hour or longer.

    Only its first row is read: what ``from`` cuts off does not count.

    Raises:
        InputError: a trace cannot be read.
    """
    for phase in scenario.workload:
        if not isinstance(phase, TracePhase):
            continue
        row = check_trace(phase)
        empty_ns = 0 if row is None else int((row.at_ns - phase.from_ns) / phase.speedup)
        if row is not None and empty_ns >= _LONG_NS:
            yield (
                f"{phase.path}: its first request comes {format_duration(empty_ns)} after the "
                "phase begins, and nothing happens until then\n"
                f"to begin with it, write 'from: {row.at_ns // NS_PER_S} s' beside 'trace'"
            )


def missed_faults(scenario: Scenario, ended_ns: int) -> Iterator[str]:
    """Yield a remark for each fault whose time lies behind a run's end (ns)."""
    for number, fault in enumerate(scenario.faults):
        if fault.at_ns is not None and fault.at_ns > ended_ns:
            yield (
                f"faults[{number}] ({fault.kind} at {format_duration(fault.at_ns)}) never came: "
                f"the run ended at {format_duration(ended_ns)}"
            )
