"""Text and tables of GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# What would end a cell, start a tag or an entity, or be read as emphasis, code or a link (GFM).
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>&|#~]")


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] | None = None
) -> str:
    """Return a table; ``right`` are the columns of figures, all but the first where not given."""
    aligned = range(1, len(header)) if right is None else right
    rule = ["---:" if column in aligned else "---" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def escaped(text: str) -> str:
    """Return the text as it stands, on one line."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))
