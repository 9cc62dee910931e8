"""How ``run`` shows that it works: a live line on a terminal, a plain line elsewhere.

Both write to stderr only; they are told the scenario's time, the requests that came, and those that
have not ended.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from modelmgr.units import NS_PER_S, format_duration
from modelmgr_cli.terminal import Terminal

_REFRESH_PER_S = 4
_BAR_WIDTH = 32
_BETWEEN_LINES_NS = 10 * NS_PER_S


class RunDisplay(Protocol):
    """Shows how far a run is; call it with its time (ns), requests, and those under way."""

    def __call__(self, at_ns: int, requests: int, under_way: int) -> None:
        """Take note of how far it is."""
        ...

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was."""
        ...


def run_display(terminal: Terminal, horizon_ns: int | None) -> RunDisplay:
    """Return the live line where stderr is a terminal that can move its cursor, else the log.

    Args:
        terminal: where to.
        horizon_ns: when the traffic ends, None where only its trace knows.
    """
    console = terminal.console(sys.stderr)
    movable = sys.stderr.isatty() and not console.is_dumb_terminal
    if movable and not terminal.quiet:
        return LiveRun(console, horizon_ns)
    return PlainRun(terminal, horizon_ns)


def _described(at_ns: int, horizon_ns: int | None, requests: int, under_way: int) -> str:
    of = f" of {format_duration(horizon_ns)}" if horizon_ns else ""
    return f"{at_ns / NS_PER_S:,.0f} s{of}, {requests:,} requests, {under_way:,} under way"


class PlainRun:
    """A line every ten seconds, for logs and CI."""

    def __init__(self, terminal: Terminal, horizon_ns: int | None) -> None:
        self._terminal = terminal
        self._horizon_ns = horizon_ns
        self._next_ns = _BETWEEN_LINES_NS

    def __call__(self, at_ns: int, requests: int, under_way: int) -> None:
        """Write a line if the last one is a while ago."""
        if at_ns >= self._next_ns:
            self._next_ns = at_ns + _BETWEEN_LINES_NS
            self._terminal.tell(_described(at_ns, self._horizon_ns, requests, under_way))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave nothing behind; there is nothing to take away."""


class LiveRun:
    """A bar, the time, the requests and how many are under way."""

    def __init__(self, console: Console, horizon_ns: int | None) -> None:
        self._horizon_ns = horizon_ns
        self._now = (0, 0, 0)
        self._live = Live(
            self,
            console=console,
            refresh_per_second=_REFRESH_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __call__(self, at_ns: int, requests: int, under_way: int) -> None:
        """Move the bar at the next refresh."""
        self._now = (at_ns, requests, under_way)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the display away and give the cursor back."""
        self._live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the line as it stands now; called by the refresh thread."""
        del console
        at_ns, requests, under_way = self._now
        line = Text(no_wrap=True, overflow="ellipsis")
        if self._horizon_ns:
            width = min(_BAR_WIDTH, max(10, options.max_width - 60))
            filled = round(width * min(1.0, at_ns / self._horizon_ns))
            line.append("━" * filled, style="cyan")
            line.append("┄" * (width - filled), style="bright_black")
            line.append(" ")
        line.append(_described(at_ns, self._horizon_ns, requests, under_way))
        yield line
