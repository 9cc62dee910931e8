"""How far a scenario is while it is simulated or run: a live line on a terminal, else plain lines.

Both write to stderr only; they are told the scenario's time and the requests so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from modelmgr.units import NS_PER_S, format_duration
from modelmgr_cli.terminal import Terminal

_REFRESH_PER_S = 4
_BAR_WIDTH = 32
_LEAST_BAR_WIDTH = 5
_BETWEEN_LINES_NS = 5 * NS_PER_S


class Pace:
    """How far a scenario is, and how fast.

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
        self.under_way = 0

    def note(self, at_ns: int, requests: int, under_way: int) -> None:
        """Take note of the scenario's time, the requests so far and those that have not ended."""
        self.at_ns, self.requests, self.under_way = at_ns, requests, under_way

    @property
    def elapsed_ns(self) -> int:
        """How long it takes already."""
        return self._now_ns() - self._started_ns

    @property
    def share(self) -> float | None:
        """The share of the traffic's time that is over; None where its end is not known."""
        return min(1.0, self.at_ns / self._horizon_ns) if self._horizon_ns else None

    @property
    def time(self) -> str:
        """Return ``12 min of 1 h``."""
        of = f" of {format_duration(self._horizon_ns)}" if self._horizon_ns else ""
        return format_duration(self.at_ns) + of


Words = Callable[[Pace], str]
"""What to say of a pace."""


def simulated_words(pace: Pace) -> str:
    """Return ``12 min of 1 h simulated, 240,000 requests, 48,000 requests/s``."""
    rate = pace.requests * NS_PER_S / max(1, pace.elapsed_ns)
    return f"{pace.time} simulated, {pace.requests:,} requests, {rate:,.0f} requests/s"


def run_words(pace: Pace) -> str:
    """Return ``12 s of 1 min, 240 requests, 3 under way``."""
    return f"{pace.time}, {pace.requests:,} requests, {pace.under_way:,} under way"


class PaceDisplay(Protocol):
    """Shows how far a scenario is; call it with its time (ns) and the requests so far."""

    def __call__(self, at_ns: int, requests: int, under_way: int = 0) -> None:
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


def pace_display(terminal: Terminal, horizon_ns: int | None, words: Words) -> PaceDisplay:
    """Return the live line where stderr is a terminal that can move its cursor, else the log.

    Args:
        terminal: where to.
        horizon_ns: when the traffic ends, None where only its trace knows.
        words: what to say of how far it is.
    """
    console = terminal.live_console()
    if console is None:
        return _PlainLines(terminal, Pace(horizon_ns), words)
    return _LiveLine(console, Pace(horizon_ns), words)


class _PlainLines:
    """A line every few seconds, for logs and CI."""

    def __init__(self, terminal: Terminal, pace: Pace, words: Words) -> None:
        self._terminal = terminal
        self._pace = pace
        self._words = words
        self._next_ns = _BETWEEN_LINES_NS

    def __call__(self, at_ns: int, requests: int, under_way: int = 0) -> None:
        """Write a line if the last one is a while ago."""
        self._pace.note(at_ns, requests, under_way)
        elapsed_ns = self._pace.elapsed_ns
        if elapsed_ns >= self._next_ns:
            self._next_ns = elapsed_ns + _BETWEEN_LINES_NS
            self._terminal.tell(f"[{elapsed_ns / NS_PER_S:8.1f} s] {self._words(self._pace)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave nothing behind; there is nothing to take away."""


class _LiveLine:
    """A bar and the words."""

    def __init__(self, console: Console, pace: Pace, words: Words) -> None:
        self._pace = pace
        self._words = words
        self._live = Live(
            self,
            console=console,
            refresh_per_second=_REFRESH_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __call__(self, at_ns: int, requests: int, under_way: int = 0) -> None:
        """Move the bar at the next refresh."""
        self._pace.note(at_ns, requests, under_way)

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
        words = self._words(self._pace)
        line = Text(no_wrap=True, overflow="ellipsis")
        share = self._pace.share
        width = min(_BAR_WIDTH, options.max_width - len(words) - 1)
        if share is not None and width >= _LEAST_BAR_WIDTH:
            filled = round(width * share)
            line.append("━" * filled, style="cyan")
            line.append("┄" * (width - filled), style="bright_black")
            line.append(" ")
        line.append(words)
        yield line
