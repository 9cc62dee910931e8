"""An eviction told: what went, for whom, and what other policies would have taken instead."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from modelmgr.records.costs import Eviction
from modelmgr.units import format_bytes
from modelmgr_cli.render.ages import brief
from modelmgr_cli.render.packing import one_line, packed

_WHEN = 15


def eviction_lines(eviction: Eviction, now_ns: int, width: int) -> list[Text]:
    """Return an eviction's lines.

    Args:
        eviction: as the manager explains it.
        now_ns: nanoseconds since the manager started.
        width: columns that there are.
    """
    when = f"{brief(max(0, now_ns - eviction.at_ns))} ago"
    name = (one_line(eviction.tag), "bold")
    what = [Text.assemble(name, f" (copy {eviction.copy})")]
    what.append(Text(f"left {one_line(eviction.device)}"))
    if eviction.requested_by is not None:
        what.append(Text.assemble("for ", (one_line(eviction.requested_by), "bold")))
    what[-1].append(":")
    what.append(Text(f"{eviction.reason}, {format_bytes(eviction.freed_bytes)}"))
    first, *others = packed(what, width, indent=_WHEN, gap=1)
    first = Text.assemble((f"{when:<{_WHEN}}", "dim"), first[_WHEN:])
    why = [Text(piece, style="dim") for piece in _explanation(eviction)]
    return [first, *others, *packed(why, width, indent=_WHEN, gap=1)]


def _explanation(eviction: Eviction) -> list[str]:
    """Return what was chosen, of how many, and what each other policy would have taken.

    In pieces, between which a line may be broken.
    """
    if not eviction.candidates:
        return []  # a copy that had to go: there was nothing to choose
    tags = {candidate.copy: candidate.tag for candidate in eviction.candidates}

    def names(copies: Sequence[int]) -> list[str]:
        told = [f"{one_line(tags.get(copy, eviction.tag))} {copy}" for copy in copies]
        return [*(f"{name} +" for name in told[:-1]), *told[-1:]] or ["nothing"]

    chosen = tuple(sorted(eviction.chosen))
    others: dict[tuple[int, ...], list[str]] = {}
    for policy, copies in eviction.instead.items():
        others.setdefault(tuple(sorted(copies)), []).append(policy)
    pieces = [f"chosen of {len(eviction.candidates)}:", *names(chosen)]
    for copies, policies in others.items():
        pieces[-1] += ";"
        pieces.append(f"{', '.join(policies)}:")
        pieces += ["the same"] if copies == chosen else names(copies)
    return pieces
