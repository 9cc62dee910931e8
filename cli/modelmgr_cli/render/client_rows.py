"""Who uses a shared manager: a row for each client, with what it holds and what it waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from modelmgr.runtime.service.messages import ClientInfo
from modelmgr_cli.render.ages import brief
from modelmgr_cli.render.packing import one_line
from modelmgr_cli.render.rows import Rows

_TITLES = ("client", "user", "holds", "waits for", "connected")


def client_rows(clients: Sequence[ClientInfo], room: int | None) -> list[RenderableType]:
    """Return the clients, those that hold or wait for most first.

    Args:
        clients: who is connected.
        room: lines that there are below the table's head, None for no end of them.
    """
    if not clients:
        return [Text("no client is connected", style="dim")]
    shown = sorted(clients, key=lambda c: (-len(c.held) - len(c.waiting), c.pid))
    if room is not None and len(shown) > room:
        shown = shown[: max(1, room - 1)]
    rows = [
        (
            f"process {client.pid}",
            one_line(client.user),
            _listed(client.held),
            _listed(client.waiting),
            brief(client.connected_ns),
        )
        for client in shown
    ]
    page: list[RenderableType] = [Rows(_TITLES, rows, left=4)]
    if len(shown) < len(clients):
        page.append(Text(f"and {len(clients) - len(shown)} more", style="dim"))
    return page


def _listed(tags: Sequence[str]) -> str:
    """Return ``bert, 2 t5``; nothing for nothing."""
    return ", ".join(
        one_line(tag) if count == 1 else f"{count} {one_line(tag)}"
        for tag, count in sorted(Counter(tags).items())
    )
