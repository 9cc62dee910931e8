"""How ``profile`` shows that it works: a live display on a terminal, a plain log elsewhere.

Both are ``ProfileObserver``s that write to stderr only. They show what they are told; the only
thing computed here is the time left.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.text import Text

from modelmgr.errors import ModelmgrError
from modelmgr.measuring.observer import ProfileObserver
from modelmgr.records.costs import ModelCost
from modelmgr.units import NS_PER_S, format_bytes, format_duration
from modelmgr_cli.render import cells
from modelmgr_cli.render.reasons import shortened, traced
from modelmgr_cli.terminal import Terminal, printable

_REFRESH_PER_S = 8
_BAR_WIDTH = 32


class Display(ProfileObserver, Protocol):
    """A ``ProfileObserver`` that is switched on and off, and knows what is still to be done."""

    @property
    def models_left(self) -> int | None:
        """How many models of the run are not finished, None before it began."""
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


def display_for(terminal: Terminal) -> Display:
    """Return the live display where stderr is a terminal that can move its cursor, else the log."""
    console = terminal.live_console()
    if console is None:
        return PlainLog(terminal)
    return LiveDisplay(console, debug=terminal.debug)


class Progress:
    """What was told so far, and what that says about the time left.

    Args:
        now_ns: the clock; a test gives its own.
    """

    def __init__(self, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._now_ns = now_ns
        self.started_ns = now_ns()
        self.tags: tuple[str, ...] = ()
        self.device = ""
        self.limit_bytes = 0
        self.used_bytes: int | None = None
        self.highest_bytes = 0
        self.tag: str | None = None
        self.step = ""
        self.step_number = 0
        self.steps = 0
        self.model_started_ns = self.started_ns
        self.durations_ns: list[int] = []

    @property
    def elapsed_ns(self) -> int:
        """How long the run takes already."""
        return self._now_ns() - self.started_ns

    @property
    def position(self) -> int:
        """The current model's number, from 1."""
        return self.tags.index(self.tag) + 1 if self.tag in self.tags else len(self.durations_ns)

    @property
    def models_left(self) -> int | None:
        """How many models are not finished, None before the run began."""
        return len(self.tags) - len(self.durations_ns) if self.tags else None

    @property
    def fraction(self) -> float:
        """The share of the work that is done, every model counting the same, 0 to 1."""
        if not self.tags:
            return 0.0
        inside = max(0, self.step_number - 1) / self.steps if self.tag and self.steps else 0.0
        return min(1.0, (len(self.durations_ns) + min(inside, 1.0)) / len(self.tags))

    @property
    def left_ns(self) -> int | None:
        """The time left if the rest takes as long as what is done; None before that is known.

        Models differ by far, so nothing is said until one is finished or half done. From its half
        on, the current one is judged by its own steps and not by the others.
        """
        spent_ns = self._now_ns() - self.model_started_ns if self.tag else 0
        own_ns = self._own_ns(spent_ns)
        seen_ns = [*self.durations_ns, *([] if own_ns is None else [own_ns])]
        if not seen_ns or self.models_left is None:
            return None
        mean_ns = sum(seen_ns) / len(seen_ns)
        current_ns = mean_ns if own_ns is None else own_ns
        return round(max(0.0, current_ns - spent_ns) + mean_ns * (self.models_left - 1))

    def _own_ns(self, spent_ns: int) -> float | None:
        """Return what the current model will have taken by its own steps, from its half on."""
        done = self.step_number - 1
        if self.tag is None or not self.steps or 2 * done < self.steps:
            return None
        return spent_ns * self.steps / min(done, self.steps)

    def run_started(self, tags: tuple[str, ...], *, device: str, limit_bytes: int) -> None:
        """Keep what the run is about."""
        self.tags, self.device, self.limit_bytes = tags, device, limit_bytes

    def model_started(self, tag: str, *, steps: int) -> None:
        """Begin a model."""
        self.tag, self.steps, self.step, self.step_number = tag, steps, "", 0
        self.highest_bytes = 0
        self.model_started_ns = self._now_ns()

    def step_started(self, tag: str, step: str) -> None:
        """Begin a step."""
        self.tag, self.step, self.step_number = tag, step, self.step_number + 1

    def memory_read(self, used_bytes: int, limit_bytes: int) -> None:
        """Keep the last and the highest use."""
        # What is read is against all of the device; the run's own limit may be lower.
        self.used_bytes, self.limit_bytes = used_bytes, self.limit_bytes or limit_bytes
        self.highest_bytes = max(self.highest_bytes, used_bytes)

    def model_finished(self) -> int:
        """End the model and return how long it took, ns."""
        took_ns = self._now_ns() - self.model_started_ns
        self.durations_ns.append(took_ns)
        self.tag = None
        return took_ns


def finished_line(tag: str, cost: ModelCost, took_ns: int) -> str:
    """Return one line about a finished model without its mark; its whole reason if it failed."""
    if cost.error is not None:
        return f"{printable(tag)}: {cost.error.kind}: {shortened(cost.error.message)}"
    facts = [
        f"{name} {cells.MARKS[figure.evidence]}{format_bytes(figure.value)}"
        for name, figure in (("resident", cost.resident_bytes), ("peak", cost.peak_bytes))
        if figure is not None
    ]
    if cost.load_ns is not None:
        facts.append(f"load {format_duration(cost.load_ns.median)}")
    facts.append(f"took {format_duration(took_ns)}")
    return f"{printable(tag)}: {', '.join(facts)}"


class PlainLog:
    """A line for what happens, for logs and CI; with ``--verbose`` also for every step."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._progress = Progress()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave nothing behind; there is nothing to take away."""

    @property
    def models_left(self) -> int | None:
        """How many models are not finished, None before the run began."""
        return self._progress.models_left

    def run_started(self, tags: tuple[str, ...], *, device: str, limit_bytes: int) -> None:
        """Tell what will be measured."""
        self._progress.run_started(tags, device=device, limit_bytes=limit_bytes)
        models = "1 model" if len(tags) == 1 else f"{len(tags)} models"
        self._line(f"measuring {models} on {device}, limit {format_bytes(limit_bytes)}")

    def model_started(self, tag: str, *, steps: int) -> None:
        """Tell which model begins."""
        self._progress.model_started(tag, steps=steps)
        self._line(f"{self._counter()} {printable(tag)}: {steps} steps{self._left()}")

    def step_started(self, tag: str, step: str) -> None:
        """Tell the step, if every one is wanted."""
        self._progress.step_started(tag, step)
        if self._terminal.verbose and self._progress.steps:
            number = f"{self._progress.step_number}/{self._progress.steps}"
            self._line(f"{self._counter()} {printable(tag)}: step {number}: {printable(step)}")

    def memory_read(self, used_bytes: int, limit_bytes: int) -> None:
        """Keep it; a log has no live bar."""
        self._progress.memory_read(used_bytes, limit_bytes)

    def model_failed(self, tag: str, error: ModelmgrError) -> None:
        """Tell the traceback, if tracebacks are wanted, quiet or not."""
        if self._terminal.debug:
            self._terminal.trace(traced(tag, error))

    def model_finished(self, tag: str, cost: ModelCost) -> None:
        """Tell the main figures, or the failure."""
        counter = self._counter()
        took_ns = self._progress.model_finished()
        line = finished_line(tag, cost, took_ns)
        if cost.error is None:
            self._line(f"{counter} ok {line}")
        elif self._terminal.quiet:
            self._terminal.complain(line)
        else:
            self._line(f"{counter} failed " + line.replace("\n", "\n    "))

    def noticed(self, message: str) -> None:
        """Warn, quiet or not."""
        self._terminal.warn(message)

    def _counter(self) -> str:
        return f"{self._progress.position}/{len(self._progress.tags)}"

    def _left(self) -> str:
        left_ns = self._progress.left_ns
        return "" if left_ns is None else f", about {_coarse(left_ns)} left"

    def _line(self, text: str) -> None:
        self._terminal.tell(f"[{self._progress.elapsed_ns / NS_PER_S:8.1f} s] {text}")


class LiveDisplay:
    """Finished models scroll away above; below, the current one, memory, and time."""

    def __init__(self, console: Console, *, debug: bool = False) -> None:
        self._console = console
        self._debug = debug
        self._progress = Progress()
        self._live = Live(
            self,
            console=console,
            refresh_per_second=_REFRESH_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

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

    @property
    def models_left(self) -> int | None:
        """How many models are not finished, None before the run began."""
        return self._progress.models_left

    def run_started(self, tags: tuple[str, ...], *, device: str, limit_bytes: int) -> None:
        """Show what will be measured."""
        self._progress.run_started(tags, device=device, limit_bytes=limit_bytes)

    def model_started(self, tag: str, *, steps: int) -> None:
        """Show which model begins."""
        self._progress.model_started(tag, steps=steps)

    def step_started(self, tag: str, step: str) -> None:
        """Show the step."""
        self._progress.step_started(tag, step)

    def memory_read(self, used_bytes: int, limit_bytes: int) -> None:
        """Move the memory bar at the next refresh."""
        self._progress.memory_read(used_bytes, limit_bytes)

    def model_failed(self, tag: str, error: ModelmgrError) -> None:
        """Leave the traceback above the display, if tracebacks are wanted."""
        if self._debug:
            self._console.print(Text(traced(tag, error)))

    def model_finished(self, tag: str, cost: ModelCost) -> None:
        """Leave a line about the model, or why it failed, above the display."""
        took_ns = self._progress.model_finished()
        line = finished_line(tag, cost, took_ns)
        if cost.error is None:
            text = Text.assemble(("✓ ", "green"), line)
        else:
            text = Text.assemble(("✗ ", "red"), line.replace("\n", "\n    "))
        self._console.print(text)  # it wraps: no figure and no reason may be cut

    def noticed(self, message: str) -> None:
        """Leave a warning above the display."""
        self._console.print(Text.assemble(("! ", "yellow"), printable(message)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the display as it stands now; called by the refresh thread."""
        progress = self._progress
        if not progress.tags:  # estimate tells steps only
            now = f"{printable(progress.tag)}: {progress.step} …" if progress.tag else "preparing …"
            yield Text(now, style="dim", no_wrap=True, overflow="ellipsis")
            return
        yield Group(self._now(), _bars(progress, min(_BAR_WIDTH, max(10, options.max_width - 60))))

    def _now(self) -> Text:
        progress = self._progress
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{progress.position}/{len(progress.tags)} ", style="dim")
        if progress.tag is not None:
            line.append(printable(progress.tag), style="bold")
            if progress.step_number:
                line.append(f"  {printable(progress.step)}")
                number = f"  step {progress.step_number} of {progress.steps}"
                line.append(number, style="dim")
            else:
                # Before the first step the framework is imported, for all its workers at once.
                line.append("  starting its framework", style="dim")
        return line


def _bars(progress: Progress, width: int) -> Group:
    left_ns = progress.left_ns
    left = "time left not known yet" if left_ns is None else f"about {_coarse(left_ns)} left"
    words = f"{_coarse(progress.elapsed_ns)} so far, {left}"
    rows = [_row("models", _bar(progress.fraction, width, "cyan"), words)]
    if progress.used_bytes is not None and progress.limit_bytes:
        share = progress.used_bytes / progress.limit_bytes
        colour = "green" if share < 0.75 else "yellow" if share < 0.95 else "red"
        words = (
            f"{format_bytes(progress.used_bytes)} of {format_bytes(progress.limit_bytes)}"
            f" on {printable(progress.device)}, highest {format_bytes(progress.highest_bytes)}"
        )
        rows.append(_row("memory", _bar(share, width, colour), words))
    return Group(*rows)


def _row(label: str, bar: Text, words: str) -> Text:
    """Return one line; what a narrow terminal has no room for is cut."""
    line = Text(no_wrap=True, overflow="ellipsis")
    return line.append(f"{label} ", style="dim").append_text(bar).append(f" {words}")


def _bar(share: float, width: int, style: str) -> Text:
    filled = round(width * max(0.0, min(1.0, share)))
    # Two different lines, so that the bar can be read without colours too.
    return Text.assemble(("━" * filled, style), ("┄" * (width - filled), "bright_black"))


def _coarse(value_ns: int) -> str:
    """Return a duration without false precision: seconds below two minutes, else minutes."""
    seconds = value_ns / NS_PER_S
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
