"""A run as a Chrome trace, which ui.perfetto.dev opens: a process for each device, a track a copy.

Drawn from the decision log, and from what was served where that was kept. The log has decisions
only, so it is not said where a load or an unload ends: a load is drawn up to the copy's first
grant, an unload as the moment of its order, and a grant as one where nobody knows how long it held.
Waiting requests are not in it at all. Counters are left out where copies may have gone without an
order (faults, failed loads).

Format: the object form of the Trace Event Format
(docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU); ``ts`` and ``dur`` are
microseconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from modelmgr.records.result import Result
from modelmgr.units import MIB

MOST_DECISIONS = 1_000_000
"""Of a trace; its file takes about 150 bytes for each, and no viewer shows more."""

Event = dict[str, Any]
Served = tuple[str, str, int, int]
"""Tag, device, start and end (ns) of a request that had a copy."""


class _Decision(msgspec.Struct, frozen=True):
    """A line of the decision log; what its kind does not have is None."""

    at_ns: int
    action: str
    tag: str
    copy: int | None = None
    device: str | None = None
    ticket: int | None = None
    hit: bool | None = None
    reserved_bytes: int | None = None
    isolated: bool | None = None
    reason: str | None = None
    requested_by: str | None = None
    freed_bytes: int | None = None
    refusal: str | None = None


class TraceLines:
    """Collects a decision log's first lines, as many as a trace may have.

    Attributes:
        left_out: how many lines were too many.
    """

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self.left_out = 0

    def write(self, lines: bytes) -> None:
        """Take whole lines."""
        found = lines.splitlines()
        kept = found[: MOST_DECISIONS - len(self._lines)]
        self._lines += kept
        self.left_out += len(found) - len(kept)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._lines)


def export_trace(
    result: Result, lines: Iterable[bytes], served: Sequence[Served] | None, *, steady: bool
) -> str:
    """Return the trace as JSON text.

    Args:
        result: of the run.
        lines: of its decision log, from its first one.
        served: every request that had a copy; None where that is not known.
        steady: no copy went without an order: no faults, no failed loads, no lost holders.
    """
    decoder = msgspec.json.Decoder(_Decision)
    decisions = [decoder.decode(line) for line in lines]
    pids = {name: number for number, name in enumerate(result.devices, start=1)}
    events = [*_names(pids, decisions)]
    events += _slices(pids, decisions, served or (), result.duration_ns)
    if steady:
        events += _counters(pids, decisions)
    document = {
        "displayTimeUnit": "ms",
        "otherData": {
            "scenario": result.scenario,
            "mode": result.mode,
            "policy": result.policy,
            "decisions": result.decisions,
            "decisions_sha256": result.decisions_sha256,
        },
        "traceEvents": events,
    }
    return msgspec.json.encode(document).decode() + "\n"


def _names(pids: dict[str, int], decisions: Sequence[_Decision]) -> Iterator[Event]:
    """Name the tracks."""
    for pid, name in ((0, "requests without a copy"), *((pid, name) for name, pid in pids.items())):
        yield {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}
    for each in decisions:
        if each.action == "start_load" and each.device is not None:
            yield {
                "ph": "M",
                "name": "thread_name",
                "pid": pids[each.device],
                "tid": each.copy,
                "args": {"name": f"{each.tag} #{each.copy}"},
            }


def _slices(
    pids: dict[str, int],
    decisions: Sequence[_Decision],
    served: Sequence[Served],
    ended_ns: int,
) -> Iterator[Event]:
    of_copy: dict[int, list[_Decision]] = defaultdict(list)
    ends: dict[tuple[str, str, int], list[int]] = defaultdict(list)
    for tag, device, start_ns, end_ns in served:
        ends[tag, device, start_ns].append(end_ns)
    for known in ends.values():
        known.sort()
    for each in decisions:
        if each.copy is not None:
            of_copy[each.copy].append(each)
        else:
            yield _moment(each, 0, {"ticket": each.ticket, "refusal": each.refusal})
    for own in of_copy.values():
        nexts = [each.at_ns for each in own[1:]]
        for each, next_ns in zip(own, [*nexts, ended_ns], strict=True):
            device = each.device or ""
            pid = pids[device]
            if each.action == "start_load":
                args: dict[str, Any] = {
                    "ticket": each.ticket,
                    "reserved_bytes": each.reserved_bytes,
                    "isolated": each.isolated,
                }
                yield _slice(each, "load", pid, next_ns, args)
            elif each.action == "start_unload":
                args = {
                    "reason": each.reason,
                    "requested_by": each.requested_by,
                    "freed_bytes": each.freed_bytes,
                }
                yield _moment(each, pid, args)
            else:
                known = ends[each.tag, device, each.at_ns]
                place = bisect_right(known, next_ns) - 1  # of those that fit, the longest
                args = {"ticket": each.ticket, "hit": each.hit}
                if place < 0:
                    yield _moment(each, pid, args)
                else:
                    yield _slice(each, "serve", pid, known.pop(place), args)


def _counters(pids: dict[str, int], decisions: Sequence[_Decision]) -> Iterator[Event]:
    """Yield what copies are there by the decisions, and what was reserved for their loads."""
    reserved: dict[int, int] = {}
    copies: dict[str, int] = defaultdict(int)
    held_bytes: dict[str, int] = defaultdict(int)
    for each in decisions:
        if each.copy is None or each.device is None or each.action == "grant":
            continue
        if each.action == "start_load":
            reserved[each.copy] = each.reserved_bytes or 0
            step, step_bytes = 1, reserved[each.copy]
        else:
            step, step_bytes = -1, -reserved.pop(each.copy, 0)
        copies[each.device] += step
        held_bytes[each.device] += step_bytes
        for name, value in (
            ("copies", copies[each.device]),
            ("reserved for copies, MiB", held_bytes[each.device] / MIB),
        ):
            yield {
                "ph": "C",
                "name": name,
                "pid": pids[each.device],
                "tid": 0,
                "ts": each.at_ns / 1000,
                "args": {"value": value},
            }


def _slice(each: _Decision, name: str, pid: int, end_ns: int, args: dict[str, Any]) -> Event:
    return {
        "ph": "X",
        "name": name,
        "cat": each.tag,
        "pid": pid,
        "tid": each.copy,
        "ts": each.at_ns / 1000,
        "dur": max(0, end_ns - each.at_ns) / 1000,
        "args": args,
    }


def _moment(each: _Decision, pid: int, args: dict[str, Any]) -> Event:
    return {
        "ph": "i",
        "s": "t",
        "name": each.action.removeprefix("start_"),
        "cat": each.tag,
        "pid": pid,
        "tid": each.copy or 0,
        "ts": each.at_ns / 1000,
        "args": args,
    }
