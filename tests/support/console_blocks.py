"""``console`` blocks of pages: their command lines, and whether a page shows what one writes.

Below a command line (``$``) stands what it writes to stdout, or nothing where that does not matter.
A line of three dots stands for any number of lines, an ellipsis (…) for any words within a line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from support.written_pages import Block

ANY_LINES = "..."
ANY_WORDS = "…"


@dataclass(slots=True)
class Command:
    """A command line of a ``console`` block, as one and as written, and what it is said to show."""

    line: str
    written: list[str]
    shown: list[str] = field(default_factory=list[str])


def commands_of(block: Block) -> list[Command]:
    """Return a console block's command lines; a backslash at an end goes on in the next line."""
    found: list[Command] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], [line]))
        elif not found:
            raise AssertionError(f"{block.place}: output before the first command")
        elif found[-1].line.endswith("\\"):
            found[-1].line = f"{found[-1].line[:-1]}{line.strip()}"
            found[-1].written.append(line)
        else:
            found[-1].shown.append(line)
    return found


def masked(text: str) -> str:
    """Return a text without what a machine and its load change: figures, units, widths, bars."""
    text = re.sub(r"sha256:[0-9a-f]+", "#", text)
    text = re.sub(r"\b[\dT:-]{10,}Z\b", "#", text)
    text = re.sub(r"[-+±]?\d[\d,.]*(e[-+]\d+)?( ?([KMGT]i)?B\b| ?[nµm]?s\b| ?%)?", "#", text)
    text = re.sub(r"\b([KMGT]iB|[nµm]s)\b", "#", text)
    text = re.sub(r"(?<=\s)-(?=\s)", "#", text)
    text = re.sub(r"[─█]+", "", text)
    return " ".join(text.split())


def is_shown(shown: Sequence[str], real: Sequence[str], *, measured: bool) -> bool:
    """Say whether a page shows what a command wrote; of what is measured, all but the figures."""
    parts = "\n".join(["", *shown, ""]).split(f"\n{ANY_LINES}\n")
    text = "\n".join(["", *real, ""])
    if measured:
        parts, text = [masked(part) for part in parts], masked(text)
    pattern = ".*".join(re.escape(part).replace(ANY_WORDS, "[^\n]*") for part in parts)
    return re.fullmatch(pattern, text, re.DOTALL) is not None
