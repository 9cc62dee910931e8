"""A page that fills the terminal and is drawn anew, in the terminal's other screen.

What was on the terminal before is there again at the end. It draws when it is told to; there is no
thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.live import Live

_FALLBACK = os.terminal_size((80, 24))


class LivePage:
    """Draws a page as large as the terminal is at that moment.

    Args:
        stream: a terminal that can move its cursor (``is_possible``).
        coloured: whether it may be coloured; bold and dim remain without.
    """

    def __init__(self, stream: TextIO, *, coloured: bool) -> None:
        self._stream = stream
        self._console = Console(
            file=stream,
            force_terminal=True,
            no_color=not coloured,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    @staticmethod
    def is_possible(stream: TextIO) -> bool:
        """Say whether a stream is a terminal that can move its cursor."""
        return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")

    def show(self, page: Callable[[int, int], Sequence[RenderableType]]) -> None:
        """Draw what ``page`` returns for so many columns and lines."""
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except OSError:
            size = _FALLBACK
        # A terminal that was just made may not know its size.
        columns, lines = size.columns or _FALLBACK.columns, size.lines or _FALLBACK.lines
        self._console.size = ConsoleDimensions(columns, lines)
        self._live.update(Group(*page(columns, lines)), refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the terminal back as it was."""
        self._live.stop()
