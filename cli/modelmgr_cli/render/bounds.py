"""How far a run is from the best possible, in a few lines under its tables."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from modelmgr.simulation.run_bound import RunBound
from modelmgr.units import format_duration
from modelmgr_cli.render import cells
from modelmgr_cli.render.rows import Rows

_METHODS = {
    "exact": "exact",
    "windowed": "valid; the schedule was cut into windows, so the least cost may be higher",
    "dual": "valid; the solver's time ended first, so the least cost may be higher (--bound-time)",
}


def bound_page(bound: RunBound) -> list[RenderableType]:
    """Return the bound by device, the whole, and what it is a bound of."""
    several = len(bound.bounds) > 1
    rows: list[tuple[str | Text, ...]] = [
        (
            cells.name(each.device),
            f"{each.jobs:,}",
            cells.seconds(each.reload_cost_ns),
            cells.seconds(each.certified_ns),
            each.method,
        )
        for each in bound.bounds
    ]
    if several:
        whole = bound.total
        jobs = sum(each.jobs for each in bound.bounds)
        rows.append(
            (
                "all",
                f"{jobs:,}",
                cells.seconds(whole.reload_cost_ns),
                cells.seconds(whole.certified_ns),
                whole.method,
            )
        )
    table = Rows(("device", "jobs", "least possible\ns", "proven\ns", "method"), rows)
    ratio = bound.ratio
    times = "" if ratio is None else f", {ratio:.3f} times the least possible"
    return [
        Text(),
        table,
        Text(f"time of loads: {format_duration(bound.cost_ns)}{times}"),
        Text(
            "least possible: of any eviction and prefetch policy that serves these jobs in this "
            f"order, every load at its mean time; {_METHODS[bound.total.method]}",
            style="dim",
        ),
    ]
