"""Why a model failed, short enough to be read: a model's own message may be a whole traceback.

Shortens text; the database and ``--json`` keep all of it.
"""

from __future__ import annotations

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
