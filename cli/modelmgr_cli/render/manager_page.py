"""A shared manager on one page: devices, what happened, copies, queue, clients, evictions.

Pure: from what was fetched to renderables. Where the page has a height, it keeps to it: devices and
figures stay whole, and of copies, tickets, clients and evictions it shows what there is room for
and says how many are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from modelmgr.records.costs import Eviction
from modelmgr.runtime.service.messages import ClientInfo
from modelmgr.runtime.snapshot import CopySnapshot, ManagerSnapshot, TicketSnapshot
from modelmgr_cli.render import cells
from modelmgr_cli.render.ages import brief
from modelmgr_cli.render.client_rows import client_rows
from modelmgr_cli.render.device_bars import device_lines
from modelmgr_cli.render.eviction_lines import eviction_lines
from modelmgr_cli.render.packing import one_line
from modelmgr_cli.render.rates import Activity, since_start
from modelmgr_cli.render.rows import Rows

_HEAD = 2  # the lines of a table above its rows
_LEAST = (3, 2, 2, 4)  # of copies, tickets, clients, and lines of evictions
_AT_REST = "idle"


@dataclass(frozen=True, slots=True)
class ManagerView:
    """What is known of a server at one moment.

    Attributes:
        path: where it listens.
        server_pid: its process.
        snapshot: its manager.
        evictions: the latest ones, oldest first.
        clients: who is connected.
        recent: what was done in the last minute, None where that is not known yet.
        lost: what to say where it does not answer any more, None where it does.
    """

    path: str
    server_pid: int
    snapshot: ManagerSnapshot
    evictions: tuple[Eviction, ...]
    clients: tuple[ClientInfo, ...] = ()
    recent: Activity | None = None
    lost: str | None = None


def manager_page(view: ManagerView, width: int, height: int | None = None) -> list[RenderableType]:
    """Return the page.

    Args:
        view: what is shown.
        width: columns that there are.
        height: lines that there are, None for no end of them.
    """
    snapshot = view.snapshot
    top = _heading(view)
    bars = [line for device in snapshot.devices for line in device_lines(device, width)]
    activity = [_activity_row("since start", since_start(snapshot.totals), lambda n: f"{n:,}")]
    if view.recent is not None:
        activity.insert(0, _activity_row("per minute", view.recent, _by_minute(view.recent)))
    evictions = [
        eviction_lines(eviction, snapshot.totals.age_ns, width)
        for eviction in reversed(view.evictions)
    ]
    room: list[int | None] = [None, None, None, None]
    if height is not None:
        used = len(top) + 1 + len(bars) + 1 + _HEAD + len(activity)
        tables = (len(snapshot.copies), len(snapshot.queue), len(view.clients))
        room = [*_shared_out(height - used, tables, sum(map(len, evictions)))]
    for line in (*top, *bars, *(line for lines in evictions for line in lines)):
        line.truncate(width, overflow="ellipsis")
    return [
        *top,
        "",
        *bars,
        "",
        Rows(_ACTIVITY_TITLES, activity),
        "",
        *_copies(snapshot.copies, room[0]),
        "",
        *_tickets(snapshot.queue, room[1]),
        "",
        *client_rows(view.clients, room[2]),
        "",
        *_evictions(evictions, room[3]),
    ]


def _heading(view: ManagerView) -> list[Text]:
    line = Text()
    line.append("modelmgr top", style="bold")
    line.append(f"  process {view.server_pid}, up {brief(view.snapshot.totals.age_ns)}")
    if view.snapshot.closed:
        line.append(", stopping", style="yellow")
    line.append(f"  {one_line(view.path)}", style="dim")
    if view.lost is None:
        return [line]
    return [line, Text(f"! {view.lost}", style="red")]


_ACTIVITY_TITLES = (
    *("", "requests", "hits", "hit %", "loads", "evictions", "refused"),
    *("wait ms", "load s"),
)


def _activity_row(name: str, activity: Activity, show: Callable[[int], str]) -> tuple[str, ...]:
    return (
        name,
        show(activity.requests),
        show(activity.hits),
        cells.percent(activity.hit_share),
        show(activity.loads),
        show(activity.evictions),
        show(activity.refused),
        cells.milliseconds(activity.mean_wait_ns),
        cells.seconds(activity.mean_load_ns),
    )


def _by_minute(activity: Activity) -> Callable[[int], str]:
    return lambda count: cells.rate(activity.per_minute(count)) if count else "0"


def _copies(copies: Sequence[CopySnapshot], room: int | None) -> list[RenderableType]:
    if not copies:
        return [Text("no copy is loaded", style="dim")]
    shown = list(copies)
    if room is not None and len(shown) > room:
        # Those that something happens with first; they are shown in the order that they had.
        kept = sorted(shown, key=lambda copy: copy.state == _AT_REST)[: max(1, room - 1)]
        numbers = {copy.copy for copy in kept}
        shown = [copy for copy in shown if copy.copy in numbers]
    rows = [
        (
            cells.name(one_line(copy.tag)),
            str(copy.copy),
            one_line(copy.device),
            f"{copy.state}, pinned" if copy.pinned else copy.state,
            _whereabouts(copy),
            cells.mebibytes(copy.charged_bytes),
        )
        for copy in shown
    ]
    titles = ("model", "copy", "device", "state", "held by, idle for", "MiB")
    page: list[RenderableType] = [Rows(titles, rows, left=5)]
    if len(shown) < len(copies):
        states = Counter(copy.state for copy in copies) - Counter(copy.state for copy in shown)
        told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        page.append(Text(f"and {len(copies) - len(shown)} more: {told}", style="dim"))
    return page


def _whereabouts(copy: CopySnapshot) -> str:
    if copy.holder is not None:
        return one_line(copy.holder)
    return "" if copy.idle_ns is None else brief(copy.idle_ns)


def _tickets(tickets: Sequence[TicketSnapshot], room: int | None) -> list[RenderableType]:
    if not tickets:
        return [Text("nobody waits", style="dim")]
    shown = tickets
    if room is not None and len(tickets) > room:
        shown = tickets[: max(1, room - 1)]
    rows = [
        (
            cells.name(one_line(ticket.tag)),
            "being loaded" if ticket.committed else "waiting",
            str(ticket.ticket_num),
            str(ticket.priority),
            brief(ticket.waited_ns),
            str(ticket.passed_over),
        )
        for ticket in shown
    ]
    titles = ("requested", "state", "ticket", "priority", "waited", "passed over")
    page: list[RenderableType] = [Rows(titles, rows, left=2)]
    if len(shown) < len(tickets):
        page.append(Text(f"and {len(tickets) - len(shown)} more", style="dim"))
    return page


def _evictions(evictions: Sequence[Sequence[Text]], room: int | None) -> list[RenderableType]:
    """Return what fits, newest first; one is shown whole or not at all, but the first."""
    if not evictions:
        return [Text("nothing was evicted", style="dim")]
    page: list[RenderableType] = []
    for number, lines in enumerate(evictions):
        if room is not None and number and len(page) + len(lines) > room:
            break
        page += lines
    return page


def _shared_out(room: int, tables: Sequence[int], evictions: int) -> list[int]:
    """Share lines out: some for each, the rest for the tables and the evictions in that order."""
    # Each has a blank line before it; the tables have a head where they have a row.
    room -= len(tables) + 1 + _HEAD * sum(rows > 0 for rows in tables)
    wanted = [max(1, lines) for lines in (*tables, evictions)]
    given = [min(each, few) for each, few in zip(wanted, _LEAST, strict=True)]
    left = room - sum(given)
    for at, each in enumerate(wanted):
        more = max(0, min(each - given[at], left))
        given[at] += more
        left -= more
    return given
