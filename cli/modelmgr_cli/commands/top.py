"""Watch the shared manager: devices, copies, queue, clients, evictions, rates.

Shows what modelmgr serve has loaded and for whom, again and again, until Ctrl-C. Into a file or a
pipe, or with --once, it writes the present state once.

  modelmgr top
  modelmgr top --interval '250 ms' --socket /run/models.sock
  modelmgr top --once
  modelmgr top --json | jq '.snapshot.queue | length'

When the server goes away or stops answering, the last state stays on the screen and says so,
until it is back.

Exit status: 0 shown; 2 bad usage; 5 no server listens there; 130 ended by Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from modelmgr.errors import ServiceLostError, UsageError
from modelmgr.measuring.interruption import StopRequested, StopSignals
from modelmgr.runtime.service.client import RemoteManager, connect
from modelmgr.units import NS_PER_S, parse_duration_ns
from modelmgr_cli.commands import options
from modelmgr_cli.lazy import DocCommand
from modelmgr_cli.outcome import Outcome
from modelmgr_cli.render.json import answer
from modelmgr_cli.render.live_page import LivePage
from modelmgr_cli.render.manager_page import ManagerView, manager_page
from modelmgr_cli.render.rates import History
from modelmgr_cli.terminal import Terminal, terminal_of

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_EVICTIONS_SHOWN = 20
_SHORTEST_NS = NS_PER_S // 20
_LOST = "the server is gone or stopped; this was its last state, until it is back"
# A page that stands still looks like a quiet server: it is told sooner than a client gives up.
_PATIENCE_S = 4.0


@app.command(help=__doc__, cls=DocCommand)
def top(
    context: typer.Context,
    *,
    socket: Annotated[
        Path | None,
        typer.Option(
            "--socket", metavar="PATH", help="Where the server listens, if not by default."
        ),
    ] = None,
    interval: Annotated[
        str, typer.Option("--interval", metavar="TIME", help="Between two looks.")
    ] = "1 s",
    once: Annotated[
        bool, typer.Option("--once", help="Write the present state once and end.")
    ] = False,
    json: options.AsJson = False,
) -> Outcome:
    """Connect, then show once or again and again."""
    terminal = terminal_of(context)
    interval_ns = options.read_value("--interval", interval, parse_duration_ns)
    if interval_ns < _SHORTEST_NS:
        raise UsageError(f"--interval: {interval!r} is too short to read; write '1 s'")
    with StopSignals() as signals, connect(socket, patience_s=_PATIENCE_S) as manager:
        source = _Source(manager)
        try:
            with signals.interruptible():
                view = source.look()
            if json:
                terminal.out(answer("top", _document(view)))
            elif once or not LivePage.is_possible(sys.stdout):
                terminal.show(*manager_page(view, terminal.width(sys.stdout)))
            else:
                _watch(source, view, terminal, signals, interval_s=interval_ns / NS_PER_S)
        except StopRequested:
            return Outcome.INTERRUPTED  # that is how one leaves: nothing to say
    return Outcome.FINE


class _Source:
    """Asks the server, and comes back to it when it was away."""

    def __init__(self, manager: RemoteManager) -> None:
        self._manager = manager
        self._history = History()

    def look(self) -> ManagerView:
        """Return the present state.

        Raises:
            ServiceLostError: the server is gone.
        """
        manager = self._manager
        snapshot = manager.snapshot()
        return ManagerView(
            path=str(manager.path),
            server_pid=manager.server_pid,
            snapshot=snapshot,
            evictions=manager.evictions(_EVICTIONS_SHOWN),
            clients=tuple(each for each in manager.clients() if each.pid != os.getpid()),
            recent=self._history.add(snapshot.totals),
        )

    def look_again(self) -> ManagerView:
        """As ``look``; connects anew where the connection was lost."""
        try:
            return self.look()
        except ServiceLostError:
            self._manager.reconnect()
            return self.look()


def _watch(
    source: _Source,
    view: ManagerView,
    terminal: Terminal,
    signals: StopSignals,
    *,
    interval_s: float,
) -> None:
    """Show the state until a signal ends it; never in the middle of drawing.

    Interrupted there, the console writes no more, and the terminal would not be given back.
    """
    resized = {signal.SIGWINCH}
    # Blocked, it is waited for: a new size is drawn at once, and the wait ends no sooner for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, resized)
    try:
        with LivePage(sys.stdout, coloured=terminal.coloured(sys.stdout)) as page:
            while True:
                page.show(partial(manager_page, view))
                with signals.interruptible():
                    if signal.sigtimedwait(resized, interval_s) is not None:
                        continue
                    try:
                        # It is said that the server is gone before another one is looked for.
                        view = source.look_again() if view.lost else source.look()
                    except ServiceLostError:
                        view = replace(view, lost=_LOST)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, resized)


def _document(view: ManagerView) -> dict[str, object]:
    return {
        "socket": view.path,
        "server_pid": view.server_pid,
        "snapshot": view.snapshot,
        "evictions": view.evictions,
        "clients": view.clients,
    }
