"""An eviction told: what went, for whom, and what other policies would have taken instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from modelmgr.records.costs import Eviction
from modelmgr.units import format_bytes
from modelmgr_cli.render.ages import brief
from modelmgr_cli.render.packing import packed
from modelmgr_cli.terminal import printable

_WHEN = 15


def eviction_lines(eviction: Eviction, now_ns: int, width: int) -> list[Text]:
    """Return an eviction's lines.

    Args:
        eviction: as the manager explains it.
        now_ns: nanoseconds since the manager started.
        width: columns that there are.
    """
    when = f"{brief(max(0, now_ns - eviction.at_ns))} ago"
    name = (printable(eviction.tag), "bold")
    what = [Text.assemble(name, f" (copy {eviction.copy})")]
    what.append(Text(f"left {printable(eviction.device)}"))
    if eviction.requested_by is not None:
        what.append(Text.assemble("for ", (printable(eviction.requested_by), "bold")))
    what[-1].append(":")
    what.append(Text(f"{eviction.reason}, {format_bytes(eviction.freed_bytes)}"))
    first, *others = packed(what, width, indent=_WHEN, gap=1)
    first = Text.assemble((f"{when:<{_WHEN}}", "dim"), first[_WHEN:])
    why = (Text(f"{part};", style="dim") for part in _explanation(eviction))
    lines = packed(why, width, indent=_WHEN, gap=1)
    for last in lines[-1:]:
        last.right_crop(1)
    return [first, *others, *lines]


def _explanation(eviction: Eviction) -> Iterator[str]:
    """Yield what was chosen, of how many, and what each other policy would have taken."""
    if not eviction.candidates:
        return  # a copy that had to go: there was nothing to choose
    tags = {candidate.copy: candidate.tag for candidate in eviction.candidates}

    def names(copies: Sequence[int]) -> str:
        told = (f"{tags.get(copy, eviction.tag)} {copy}" for copy in sorted(copies))
        return printable(" + ".join(told)) or "nothing"

    yield f"chosen of {len(eviction.candidates)}: {names(eviction.chosen)}"
    chosen = sorted(eviction.chosen)
    others: dict[tuple[int, ...], list[str]] = {}
    for policy, copies in eviction.instead.items():
        others.setdefault(tuple(sorted(copies)), []).append(policy)
    for copies, policies in others.items():
        would = "the same" if list(copies) == chosen else names(copies)
        yield f"{', '.join(policies)}: {would}"
