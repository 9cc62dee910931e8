"""Find the first decision that two logs do not share, and what led to it on both sides.

Pure: lines and traces in. Decisions are compared without the numbers that only count them, so that
one decision more does not make all later ones look different; logs are read once, line by line.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import msgspec

from modelmgr.comparing.comparison import DecisionComparison, DecisionSide
from modelmgr.errors import InputError
from modelmgr.records.costs import Eviction

CONTEXT = 4
"""Decisions before the first difference that are shown."""

_PLAIN = ("at_ns", "device", "tag", "copy", "reason", "requested_by", "freed_bytes", "chosen")
Decision = dict[str, Any]


def compare_logs(
    old: Iterable[bytes],
    new: Iterable[bytes],
    *,
    old_evictions: Sequence[Eviction] = (),
    new_evictions: Sequence[Eviction] = (),
) -> DecisionComparison:
    """Return the first difference of two decision logs whose hashes differ.

    Args:
        old: the baseline's lines.
        new: the other one's.
        old_evictions: the baseline's explained evictions, empty where there are none.
        new_evictions: the other one's.

    Raises:
        InputError: a line is no decision.
    """
    before: deque[bytes] = deque(maxlen=CONTEXT)
    counts: Counter[tuple[Any, ...]] = Counter()
    found: tuple[int, bytes | None, bytes | None, tuple[bytes, ...]] | None = None
    for index, (old_line, new_line) in enumerate(zip_longest(old, new)):
        if old_line == new_line:
            before.append(old_line)
            continue
        if found is None:
            found = index, old_line, new_line, tuple(before)
        _count(counts, old_line, 1)
        _count(counts, new_line, -1)
    if found is None:
        return DecisionComparison(verdict="differs", reason="the logs beside the results are equal")
    index, old_line, new_line, context = found
    shared = tuple(map(_decoded, context))
    sides = (
        _side(_decoded(line) if line is not None else None, shared, evictions)
        for line, evictions in ((old_line, old_evictions), (new_line, new_evictions))
    )
    old_side, new_side = sides
    is_reordered = not any(counts.values())
    return DecisionComparison(
        verdict="differs",
        source="log",
        index=index,
        at_ns=_earlier(old_side, new_side),
        old=old_side,
        new=new_side,
        reason="the same decisions in another order" if is_reordered else None,
    )


def compare_traces(old: Sequence[Eviction], new: Sequence[Eviction]) -> DecisionComparison:
    """Return the first difference of two evictions traces, where the logs' hashes differ."""
    pairs = zip_longest(old, new)
    index = next((place for place, (left, right) in enumerate(pairs) if left != right), None)
    if index is None:
        return DecisionComparison(
            verdict="differs",
            reason="the evictions are the same; only logs (--log) show which differ",
        )
    old_side, new_side = (
        _side(
            _plain(trace[index]) if index < len(trace) else None,
            tuple(map(_plain, trace[max(0, index - CONTEXT) : index])),
            trace[index : index + 1],
        )
        for trace in (old, new)
    )
    return DecisionComparison(
        verdict="differs",
        source="evictions",
        index=index,
        at_ns=_earlier(old_side, new_side),
        old=old_side,
        new=new_side,
    )


def _side(
    decision: Decision | None, before: tuple[Decision, ...], evictions: Sequence[Eviction]
) -> DecisionSide:
    candidates: tuple[Decision, ...] | None = None
    if decision is not None:
        explained = next(_explaining(decision, evictions), None)
        if explained is not None:
            candidates = tuple(map(msgspec.structs.asdict, explained.candidates))
    return DecisionSide(decision=decision, before=before, candidates=candidates)


def _explaining(decision: Mapping[str, Any], evictions: Sequence[Eviction]) -> Iterator[Eviction]:
    for eviction in evictions:
        if (eviction.at_ns, eviction.tag, eviction.copy, eviction.device) == tuple(
            decision.get(key) for key in ("at_ns", "tag", "copy", "device")
        ):
            yield eviction


def _plain(eviction: Eviction) -> Decision:
    fields = msgspec.structs.asdict(eviction)
    return {"action": "start_unload", **{name: fields[name] for name in _PLAIN}}


def _count(counts: Counter[tuple[Any, ...]], line: bytes | None, by: int) -> None:
    if line is not None:
        decision = _decoded(line)
        key = tuple(decision.get(name) for name in ("action", "tag", "copy", "device", "refusal"))
        counts[key] += by


def _decoded(line: bytes) -> Decision:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InputError(f"a line of a decision log is no decision: {line[:60]!r}") from error


def _earlier(*sides: DecisionSide) -> int | None:
    times = [
        at_ns
        for side in sides
        if side.decision is not None and isinstance(at_ns := side.decision.get("at_ns"), int)
    ]
    return min(times, default=None)
