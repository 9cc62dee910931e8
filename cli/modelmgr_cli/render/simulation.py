"""How ``simulate`` shows that it works: a live line on a terminal, a plain line elsewhere.

Both write to stderr only; they are told the simulated time and the requests so far.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from modelmgr.units import NS_PER_S, format_duration
from modelmgr_cli.terminal import Terminal

_REFRESH_PER_S = 8
_BAR_WIDTH = 32
_BETWEEN_LINES_NS = 5 * NS_PER_S


class SimulationDisplay(Protocol):
    """Shows how far a simulation is; call it with the simulated time (ns) and the requests."""

    def __call__(self, at_ns: int, requests: int) -> None:
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


def simulation_display(terminal: Terminal, horizon_ns: int | None) -> SimulationDisplay:
    """Return the live line where stderr is a terminal that can move its cursor, else the log.

    Args:
        terminal: where to.
        horizon_ns: when the traffic ends, None where only its trace knows.
    """
    console = terminal.console(sys.stderr)
    movable = sys.stderr.isatty() and not console.is_dumb_terminal
    if movable and not terminal.quiet:
        return LiveLine(console, horizon_ns)
    return PlainLines(terminal, horizon_ns)


class Pace:
    """How far a simulation is, and how fast.

    Args:
        horizon_ns: when the traffic ends, None where that is not known.
        now_ns: the clock; a test gives its own.
    """

    def __init__(
        self, horizon_ns: int | None, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._now_ns = now_ns
        self._started_ns = now_ns()
        self._horizon_ns = horizon_ns
        self.at_ns = 0
        self.requests = 0

    def note(self, at_ns: int, requests: int) -> None:
        """Take note of the simulated time and the requests so far."""
        self.at_ns, self.requests = at_ns, requests

    @property
    def elapsed_ns(self) -> int:
        """How long it takes already."""
        return self._now_ns() - self._started_ns

    @property
    def share(self) -> float | None:
        """The share of the traffic's time that is simulated; None where its end is not known."""
        return min(1.0, self.at_ns / self._horizon_ns) if self._horizon_ns else None

    def __str__(self) -> str:
        """Return ``12 min of 1 h simulated, 240,000 requests, 48,000 requests/s``."""
        of = f" of {format_duration(self._horizon_ns)}" if self._horizon_ns else ""
        rate = self.requests * NS_PER_S / max(1, self.elapsed_ns)
        return (
            f"{format_duration(self.at_ns)}{of} simulated, {self.requests:,} requests, "
            f"{rate:,.0f} requests/s"
        )


class PlainLines:
    """A line every few seconds, for logs and CI."""

    def __init__(self, terminal: Terminal, horizon_ns: int | None) -> None:
        self._terminal = terminal
        self._pace = Pace(horizon_ns)
        self._next_ns = _BETWEEN_LINES_NS

    def __call__(self, at_ns: int, requests: int) -> None:
        """Write a line if the last one is a while ago."""
        self._pace.note(at_ns, requests)
        elapsed_ns = self._pace.elapsed_ns
        if elapsed_ns >= self._next_ns:
            self._next_ns = elapsed_ns + _BETWEEN_LINES_NS
            self._terminal.tell(f"[{elapsed_ns / NS_PER_S:8.1f} s] {self._pace}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave nothing behind; there is nothing to take away."""


class LiveLine:
    """A bar, the simulated time, the requests and their rate."""

    def __init__(self, console: Console, horizon_ns: int | None) -> None:
        self._pace = Pace(horizon_ns)
        self._live = Live(
            self,
            console=console,
            refresh_per_second=_REFRESH_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __call__(self, at_ns: int, requests: int) -> None:
        """Move the bar at the next refresh."""
        self._pace.note(at_ns, requests)

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
        line = Text(no_wrap=True, overflow="ellipsis")
        share = self._pace.share
        if share is not None:
            width = min(_BAR_WIDTH, max(10, options.max_width - 70))
            filled = round(width * share)
            line.append("━" * filled, style="cyan")
            line.append("┄" * (width - filled), style="bright_black")
            line.append(" ")
        line.append(str(self._pace))
        yield line
