"""What no other row of a sweep beats: the Pareto front, and the curve over memory.

Pure: rows in, numbers of rows out. Rows without figures take no part.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelmgr.records.sweep import SweepCurve, SweepFigures, SweepKey, SweepRow


def unserved_share(figures: SweepFigures) -> float:
    """Return the share of requests that timed out, were refused or failed."""
    requests = figures.requests
    lost = requests.timed_out + requests.refused + requests.failed
    return lost / requests.total if requests.total else 0.0


def pareto_front(rows: Sequence[SweepRow]) -> tuple[int, ...]:
    """Return the rows that none beats in memory, reload cost and 95th percentile of the wait.

    The share of requests that were not served counts as well: waits are of those that were, so a
    small device that refuses half of them would look fast. A wait that is not known beats none.
    """
    points = {row.number: point for row in rows if (point := _point(row)) is not None}
    return tuple(
        number
        for number, point in points.items()
        if not any(_beats(other, point) for other in points.values())
    )


def _point(row: SweepRow) -> tuple[float, ...] | None:
    figures = row.figures
    if figures is None or row.memory_bytes is None:
        return None
    wait = figures.wait_ns
    p95_ns = float("inf") if wait is None or wait.p95 is None else wait.p95
    return row.memory_bytes, figures.reload_cost_ns, p95_ns, unserved_share(figures)


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Say whether one is nowhere worse and somewhere better."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def memory_curves(keys: Sequence[SweepKey], rows: Sequence[SweepRow]) -> tuple[SweepCurve, ...]:
    """Return reload cost over memory, a curve for each combination of the keys that are no memory.

    Nothing where no device's memory was swept.
    """
    others = [key.key for key in keys if not is_memory(key.key)]
    if len(others) == len(keys):
        return ()
    grouped: dict[tuple[str, ...], list[tuple[int, int, int]]] = {}
    for row in rows:
        if row.figures is not None and row.memory_bytes is not None:
            group = grouped.setdefault(tuple(row.values[key] for key in others), [])
            group.append((row.memory_bytes, row.number, row.figures.reload_cost_ns))
    return tuple(
        SweepCurve(
            values=dict(zip(others, values, strict=True)),
            rows=tuple(number for _, number, _ in sorted(group)),
            memory_bytes=tuple(memory for memory, _, _ in sorted(group)),
            reload_cost_ns=tuple(cost for _, _, cost in sorted(group)),
        )
        for values, group in grouped.items()
    )


def is_memory(key: str) -> bool:
    """Say whether a key is a device's memory."""
    return key.startswith("devices.") and key.endswith(".memory")
