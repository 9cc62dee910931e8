"""Why a model failed, short enough to be read: a model's own message may be a whole traceback.

Shortens text; the database and ``--json`` keep all of it.
"""

from __future__ import annotations

import traceback

from modelmgr.workers.failures import remote_details
from modelmgr_cli.terminal import printable

_FIRST, _LAST = 5, 3  # lines that are kept; the last ones are where Python says what it was
_LINE_MAX = 300  # characters


def shortened(message: str) -> str:
    """Return the message without its blank lines, the middle of many lines and the end of long."""
    lines = [line.rstrip() for line in printable(message).splitlines() if line.strip()]
    if len(lines) > _FIRST + _LAST + 1:
        left_out = len(lines) - _FIRST - _LAST
        lines[_FIRST:-_LAST] = [f"… {left_out} lines left out …"]
    return "\n".join(
        line if len(line) <= _LINE_MAX else f"{line[: _LINE_MAX - 1]}…" for line in lines
    )


def traced(tag: str, error: BaseException) -> str:
    """Return the traceback of a model's own process and its last output, as ``--debug`` shows them.

    Where the process told none, the traceback of this program.
    """
    details = remote_details(error)
    whose = "in its own process" if details else "in this program"
    told = details or "".join(traceback.format_exception(error))
    return printable(f"{tag}: {type(error).__name__}, {whose}:\n{told.rstrip()}")
