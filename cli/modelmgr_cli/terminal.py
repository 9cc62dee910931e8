"""What a command writes to: results on stdout, everything else on stderr.

Owns the streams, their colour and width, and the flags that every command shares. It decides
nothing and imports rich only when something is rendered, so that ``--help`` stays cheap.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PLAIN_WIDTH = 100
"""Columns of a result that goes to a file or a pipe, where ``COLUMNS`` does not say."""

# C0 and C1 controls but tab and newline: a tag or a worker's message must not steer the terminal.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Return the text with control characters (escape sequences) made visible."""
    return _CONTROLS.sub(lambda match: f"\\x{ord(match.group()):02x}", text)


@dataclass(frozen=True, slots=True)
class Terminal:
    """The streams of one invocation and the flags that every command has.

    Attributes:
        debug: show tracebacks.
        quiet: no progress and no remarks, warnings and errors only.
        verbose: more of both.
        colour: True and False force it; None asks the environment and the stream.
    """

    debug: bool = False
    quiet: bool = False
    verbose: bool = False
    colour: bool | None = None

    def coloured(self, stream: TextIO) -> bool:
        """Say whether the stream may carry escape sequences.

        The order is https://no-color.org's and https://force-color.org's: a flag, ``NO_COLOR``,
        ``FORCE_COLOR``, then ``TERM=dumb``, then whether it is a terminal.
        """
        if self.colour is not None:
            return self.colour
        if os.environ.get("NO_COLOR"):
            return False
        if os.environ.get("FORCE_COLOR"):
            return True
        return os.environ.get("TERM") != "dumb" and stream.isatty()

    def width(self, stream: TextIO) -> int:
        """Return the columns to fill."""
        if not stream.isatty():
            columns = os.environ.get("COLUMNS", "")
            return max(40, int(columns)) if columns.isdecimal() else PLAIN_WIDTH
        return max(40, shutil.get_terminal_size().columns)

    def out(self, text: str) -> None:
        """Write a part of the result to stdout; a reader that went away is no error."""
        try:
            sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
            sys.stdout.flush()
        except OSError as error:
            # Python would flush once more at exit and complain, so give it somewhere to write.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            # `modelmgr costs show | head` has what it wanted.
            if not isinstance(error, BrokenPipeError):
                raise OSError(error.errno, error.strerror, "stdout") from error

    def show(self, *renderables: RenderableType) -> None:
        """Render tables and texts to stdout, as wide as it is."""
        console = self.console(sys.stdout)
        # Not rich's own capture: it touches the stream, whose errors are `out`'s to tell.
        console.file = page = io.StringIO()
        for renderable in renderables:
            console.print(renderable)
        self.out("\n".join(line.rstrip() for line in page.getvalue().splitlines()))

    def tell(self, text: str) -> None:
        """Write a remark to stderr, unless quiet."""
        if not self.quiet:
            self._err("\n".join(self._wrapped(line, "    ") for line in text.split("\n")))

    def trace(self, text: str) -> None:
        """Write a traceback to stderr, quiet or not: it is written where it was asked for."""
        self._err(printable(text))

    def warn(self, text: str) -> None:
        """Write a warning to stderr, quiet or not."""
        self._labelled("warning:", "33;1", text)

    def complain(self, text: str) -> None:
        """Write an error to stderr: the first line is what, further lines are what to do."""
        self._labelled("error:", "31;1", text)

    def _labelled(self, label: str, code: str, text: str) -> None:
        indent = " " * (len(label) + 1)
        lines = (
            self._wrapped(f"{indent}{line}", indent)
            for line in printable(text).splitlines() or [""]
        )
        message = "\n".join(lines)
        self._err(f"{self.styled(label, code)} {message[len(indent) :]}")

    def _wrapped(self, line: str, indent: str) -> str:
        """Break a line between words where a terminal would break it inside one."""
        if not sys.stderr.isatty():
            return line  # a log is searched line by line
        width = self.width(sys.stderr)
        if len(line) <= width:
            return line
        own = line[: len(line) - len(line.lstrip(" "))]
        return textwrap.fill(
            line.strip(),
            width,
            initial_indent=own,
            subsequent_indent=own or indent,
            break_long_words=False,
            break_on_hyphens=False,
        )

    def styled(self, text: str, code: str) -> str:
        """Return the text for stderr in an SGR style (ECMA-48), bare where there is no colour."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.coloured(sys.stderr) else text

    def console(self, stream: TextIO) -> Console:
        """Return a rich console for the stream that keeps to these rules."""
        from rich.console import Console  # noqa: PLC0415  # --help and --version need none

        coloured = self.coloured(stream)
        return Console(
            file=stream,
            width=self.width(stream),
            force_terminal=coloured,
            no_color=not coloured,
            color_system="auto"
            if coloured and stream.isatty()
            else "standard"
            if coloured
            else None,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=False,
        )

    def live_console(self) -> Console | None:
        """Return a console on stderr for what is drawn again and again; None where none can be.

        It asks for the width every time, as a window may change its size meanwhile. Without colours
        it moves the cursor all the same: that is what a terminal can, whatever it may show.
        """
        if self.quiet or not sys.stderr.isatty():
            return None
        from rich.console import Console  # noqa: PLC0415  # --help and --version need none

        console = Console(
            file=sys.stderr,
            force_terminal=True,
            no_color=not self.coloured(sys.stderr),
            highlight=False,
            markup=False,
            emoji=False,
        )
        return None if console.is_dumb_terminal else console

    def _err(self, text: str) -> None:
        try:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
        except OSError:
            pass  # nobody reads the diagnostics; the result and the exit status still count


def take_shared_flags(arguments: Sequence[str]) -> tuple[Terminal, list[str]]:
    """Take ``--debug``, ``--quiet``, ``--verbose`` and ``--no-color`` from anywhere in a command.

    A person adds ``--debug`` at the end of the line that failed; a parser that wants it before the
    command's name would refuse it. What follows ``--`` is left alone.
    """
    terminal = Terminal()
    rest: list[str] = []
    for position, argument in enumerate(arguments):
        match argument:
            case "--":
                rest.extend(arguments[position:])
                break
            case "--debug":
                terminal = replace(terminal, debug=True)
            case "--quiet" | "-q":
                terminal = replace(terminal, quiet=True)
            case "--verbose" | "-v":
                terminal = replace(terminal, verbose=True)
            case "--no-color" | "--no-colour":
                terminal = replace(terminal, colour=False)
            case _:
                rest.append(argument)
    return terminal, rest


def terminal_of(context: typer.Context) -> Terminal:
    """Return the invocation's terminal from a typer context."""
    terminal: object = context.obj
    if not isinstance(terminal, Terminal):
        raise TypeError(f"the context carries {terminal!r} instead of a Terminal")
    return terminal
