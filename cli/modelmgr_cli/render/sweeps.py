"""A sweep as tables: a row for each combination, what no row beats, and the device that suffices.

Renders records and shows how far the work is; never measures and never decides.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from modelmgr.records.sweep import SloAnswer, Sweep, SweepRow
from modelmgr.simulation.pareto import unserved_share
from modelmgr.units import NS_PER_S, format_bytes
from modelmgr_cli.render import cells
from modelmgr_cli.render.rows import Cell, Rows
from modelmgr_cli.terminal import Terminal, printable

_REFRESH_PER_S = 4
_BETWEEN_LINES_S = 5.0
_BAR_WIDTH = 32


def sweep_page(sweep: Sweep) -> list[RenderableType]:
    """Return the table of all rows, what failed, and the answer to the goals."""
    heading = Text(printable(" ".join(sweep.scenario.split())), style="bold")
    heading.append(f": {len(sweep.rows)} of {sweep.planned} combinations", style="not bold")
    if sweep.partial:
        heading.append(", interrupted", style="yellow not bold")
    page: list[RenderableType] = [heading, Text(), _table(sweep)]
    legend = (
        "*: no other row is as good in memory, time of loads, p95 wait and unserved requests and "
        "better in one"
    )
    page.append(Text(legend, style="dim"))
    for row in sweep.rows:
        if row.error is not None:
            line = row.error.message.partition("\n")[0]
            page.append(Text(f"row {row.number} failed: {printable(line)}", style="red"))
    if sweep.slo is not None:
        page += _answer(sweep, sweep.slo)
    return page


def _table(sweep: Sweep) -> Rows:
    bounded = any(row.figures is not None and row.figures.bound is not None for row in sweep.rows)
    titles = [
        "row",
        *(key.key.replace(".", ".\n", 1) for key in sweep.keys),
        "memory\nGiB",
        "loads",
        "time of\nloads s",
        *(["over\nbound"] if bounded else []),
        "evictions",
        "unserved\n%",
        "wait\nmean ms",
        "wait\np95 ms",
    ]
    rows = [_row(sweep, row, bounded=bounded) for row in sweep.rows]
    return Rows(titles, rows, left=1 + len(sweep.keys))


def _row(sweep: Sweep, row: SweepRow, *, bounded: bool) -> list[Cell]:
    star = "*" if row.number in sweep.pareto else ""
    names: list[Cell] = [f"{row.number}{star}"]
    names += [cells.name(row.values[key.key]) for key in sweep.keys]
    memory = row.memory_bytes
    names.append(cells.UNKNOWN if memory is None else f"{memory / 2**30:,.1f}")
    figures = row.figures
    if figures is None:
        return [*names, *([cells.UNKNOWN] * (6 + bounded))]
    wait = figures.wait_ns
    over: list[Cell] = []
    if bounded:
        ratio = None if figures.bound is None else figures.bound.ratio
        over = [cells.UNKNOWN if ratio is None else f"{ratio:.3f}"]
    return [
        *names,
        f"{figures.loads:,}",
        cells.seconds(figures.reload_cost_ns),
        *over,
        f"{figures.evictions:,}",
        cells.percent(unserved_share(figures)),
        cells.milliseconds(None if wait is None else wait.mean),
        cells.milliseconds(None if wait is None else wait.p95),
    ]


def _answer(sweep: Sweep, slo: SloAnswer) -> list[RenderableType]:
    rows = {row.number: row for row in sweep.rows}
    goals = " and ".join((*slo.goals, *slo.implied))
    if all(row.figures is None for row in sweep.rows):
        return [Text(f"\nWhich meets {goals} is not known: no row has figures.", style="bold")]
    done = "" if slo.complete else " of those done"
    if slo.smallest is not None:
        row = rows[slo.smallest]
        return [
            Text(
                f"\nThe smallest{done} that meets {goals}: {_named(row)} (row {row.number}).",
                style="bold",
            )
        ]
    sizes = "the swept sizes" if slo.complete else "those done"
    page: list[RenderableType] = [Text(f"\nNone of {sizes} meets {goals}.", style="bold red")]
    if slo.closest is not None:
        row = rows[slo.closest]
        page.append(Text(f"The closest is {_named(row)} (row {row.number}):"))
        page += [Text(f"  {miss}") for miss in slo.misses]
    return page


def _named(row: SweepRow) -> str:
    values = ", ".join(f"{key}={printable(text)}" for key, text in row.values.items())
    memory = row.memory_bytes
    return values if memory is None else f"{values}, {format_bytes(memory)} in all"


class SweepDisplay:
    """How many rows are done: a live line on a terminal, a plain line now and then elsewhere.

    A verbose terminal gets a line for every row.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._started_s = time.monotonic()
        self._next_s = _BETWEEN_LINES_S
        console = terminal.live_console()
        self._live: Live | None = None
        if console is not None:
            self._live = Live(
                console=console,
                refresh_per_second=_REFRESH_PER_S,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )

    def __call__(self, done: int, planned: int) -> None:
        """Take note of how far it is."""
        elapsed_s = time.monotonic() - self._started_s
        text = f"{done:,} of {planned:,} rows, {elapsed_s:.0f} s"
        if self._live is not None:
            filled = round(_BAR_WIDTH * done / max(1, planned))
            bar = Text("━" * filled, style="cyan")
            bar.append("┄" * (_BAR_WIDTH - filled), style="bright_black")
            self._live.update(bar.append(f" {text}", style="default"))
        elif self._terminal.verbose or elapsed_s >= self._next_s:
            self._next_s = elapsed_s + _BETWEEN_LINES_S
            self._terminal.tell(f"[{elapsed_s:8.1f} s] {text}")

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the display away and give the cursor back."""
        if self._live is not None:
            self._live.stop()


def rate_line(sweep: Sweep, took_ns: int) -> str:
    """Return what the sweep took, for stderr."""
    requests = sum(row.figures.requests.total for row in sweep.rows if row.figures is not None)
    seconds = max(1, took_ns) / NS_PER_S
    return (
        f"{_count(len(sweep.rows), 'row')}, {_count(requests, 'request')} in {seconds:.1f} s, "
        f"{requests / seconds:,.0f} requests/s"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
