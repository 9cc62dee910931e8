"""A comparison in words: shared by its exports and the command line's page, so that they agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from modelmgr.comparing.catalogue import Compared
from modelmgr.comparing.comparison import (
    Comparison,
    DecisionComparison,
    DecisionSide,
    Ending,
    FigureComparison,
    KnownOnce,
    Mismatch,
    Verdict,
)
from modelmgr.comparing.limits import format_value
from modelmgr.units import format_bytes, format_duration

WORDS: Mapping[Verdict, str] = {
    "worse": "worse",
    "differs": "differs",
    "cannot-say": "cannot say",
    "not-comparable": "not comparable",
    "better": "better",
    "same": "same",
}
_ENDINGS: Mapping[Ending, str] = {
    "fine": "Nothing got worse.",
    "regression": "It got worse.",
    "nothing-in-common": "Nothing could be compared.",
}
_TOO_NOISY: Mapping[Compared, str] = {
    "costs": "Too noisy to say: measure both with more repeats.",
    "result": "Too noisy to say: run both for longer.",
}
_TOUCHED = {
    "all": "no figure is comparable",
    "measured": "what was measured is not comparable",
    "times": "measured times are not comparable",
    "judged": "what it changes is judged",
    "none": "no figure depends on it",
}
_LISTED = 10
_LEAST_CHANGE = 0.01
_MOST_CHANGE = 99_999
_MOST_END = 999
"""In per cent: what lies beyond is said to, as no more digits would help anybody who reads them."""

Level = Literal["bad", "odd", "plain"]


class Remark(NamedTuple):
    """Something to say beside the figures; ``bad`` fails the gate, ``odd`` is worth a look."""

    level: Level
    text: str


def headline(found: Comparison) -> str:
    """Return how it ends, and how many figures came to which verdict."""
    counts = [f"{count} {WORDS[verdict]}" for verdict, count in found.counts.items() if count]
    figures = f" Figures: {', '.join(counts)}." if counts else ""
    return f"{ending_text(found)}{figures}"


def ending_text(found: Comparison) -> str:
    """Return how it ends; what is only told may be worse where nothing that fails is."""
    compared = {verdict for verdict, count in found.counts.items() if count} - {"not-comparable"}
    if found.ending == "fine" and "worse" in compared:
        return "Nothing that is gated got worse."
    if found.ending == "nothing-in-common" and compared:
        return "Nothing that is gated could be compared."
    if found.ending == "inconclusive":
        return _TOO_NOISY[found.compared]
    return _ENDINGS[found.ending]


def remarks(found: Comparison) -> Iterator[Remark]:
    """Yield what has to be known before the figures: first what explains the rest."""
    for mismatch in found.mismatches:
        yield Remark("plain" if mismatch.touches == "none" else "odd", _mismatch(found, mismatch))
    nothing = "gates nothing: no such model or shape in either, or null in both"
    yield from _first("odd", [f"{each} {nothing}" for each in found.unused])
    yield from _first(
        "bad", [f"{tag} vanished: only {found.baseline} has it" for tag in found.vanished]
    )
    yield from _first(
        "bad", [f"{each.model} can no longer be measured: {each.message}" for each in found.failing]
    )
    nulls = [each for each in found.known_once if each.new is None and each.gated]
    yield from _first(
        "odd", [f"{owned(each)} became unknown (it was {_old(each)})" for each in nulls]
    )
    others = [each for each in found.known_once if each.new is not None or not each.gated]
    unknown = sum(each.new is None for each in others)
    for count, what in ((unknown, "became unknown"), (len(others) - unknown, "became known")):
        if count:
            yield Remark("plain", f"{count} other figure{'s' * (count > 1)} {what}")
    yield from _first("plain", [f"{tag} is new: only {found.new} has it" for tag in found.added])
    yield from _first(
        "plain", [f"{tag} is measured now, and was not before" for tag in found.fixed]
    )
    yield from _first("odd", [f"{each.model}: {each.message}" for each in found.noted])
    if found.common_shift is not None:
        yield Remark(
            "odd",
            f"the times of nearly all models moved by {found.common_shift:+.0%} together: a slower "
            "or faster machine, or something that all of them share",
        )
    if found.ending == "nothing-in-common" and found.counts and any(found.counts.values()):
        compared = sum(each.gated for each in found.figures)
        if not compared and not found.unused:
            yield Remark("odd", "no figure that would fail is known in both")


def _first(level: Level, texts: Sequence[str]) -> Iterator[Remark]:
    """Yield a remark for each of the first texts, and how many more there are."""
    yield from (Remark(level, text) for text in texts[:_LISTED])
    if len(texts) > _LISTED:
        yield Remark(level, f"... and {len(texts) - _LISTED} more like that")


def owned(figure: FigureComparison | KnownOnce) -> str:
    """Return a figure's name with its model or device."""
    owner = figure.model or figure.device
    return figure.figure if owner is None else f"{owner} {figure.figure}"


def change_text(figure: FigureComparison) -> str:
    """Return ``+5.2 %``; from nothing there is no share."""
    if figure.change is None:
        return "from 0"
    per_cent = figure.change * 100
    if 0 < abs(per_cent) < _LEAST_CHANGE:
        return f"{'< +' if per_cent > 0 else '> -'}{_LEAST_CHANGE} %"
    if abs(per_cent) < 999.5:
        return f"{per_cent:+.3g} %"
    return f"{_per_cent(per_cent, 0, _MOST_CHANGE)} %"


def interval_text(figure: FigureComparison) -> str:
    """Return ``+4.1 to +6.3 %``; ``exact`` of an exact figure, ``?`` where nobody knows the noise.

    As fine as the interval is narrow. Of an end that is farther away than any reader can use it
    says only that it is: ``-93 to > +999 %``.
    """
    if figure.interval_99 is None:
        return "exact" if figure.exact else "?"
    low, high = (end * 100 for end in figure.interval_99)
    width = high - low
    decimals = 0 if width >= 10 else 1 if width >= 0.1 else 2
    ends = (_per_cent(end, decimals, _MOST_END) for end in (low, high))
    return f"{' to '.join(ends)} %"


def _per_cent(value: float, decimals: int, most: int) -> str:
    """Return a signed number of per cent without exponent; ``> +999`` where it is beyond."""
    if abs(value) > most:
        return f"{'> +' if value > 0 else '< -'}{most:,}"
    text = f"{value:+,.{decimals}f}"
    return text if any(digit in text for digit in "123456789") else text[1:]


def value_texts(figure: FigureComparison) -> tuple[str, str]:
    """Return both values with their unit; whole numbers where rounding would hide the move."""
    texts = tuple(format_value(value, figure.unit) for value in (figure.old, figure.new))
    if texts[0] == texts[1] and figure.old != figure.new:
        suffix = {"bytes": " B", "ns": " ns", "count": "", "ratio": ""}[figure.unit]
        texts = tuple(f"{value:,}{suffix}" for value in (figure.old, figure.new))
    return texts[0], texts[1]


def decision_lines(found: DecisionComparison) -> Iterator[str]:
    """Yield what is known of the first differing decision, and what led to it on both sides."""
    if found.verdict == "same":
        yield "Decisions: the same."
        return
    reason = f": {found.reason}" if found.reason else ""
    if found.verdict == "not-comparable":
        yield f"Decisions: not comparable{reason}."
        return
    yield f"Decisions: they differ{reason}."
    if found.index is None or found.old is None or found.new is None:
        return
    what = "decision" if found.source == "log" else "eviction"
    yield f"The first that differs is {what} {found.index + 1}, at {format_duration(found.at_ns)}."
    shared = found.old.before == found.new.before
    if shared and found.old.before:
        yield "Before it, on both sides:"
        yield from (f"  {decision_text(each)}" for each in found.old.before)
    for name, side in (("baseline", found.old), ("new", found.new)):
        if not shared:
            yield f"Before it, {name}:"
            yield from (f"  {decision_text(each)}" for each in side.before)
        yield f"{name}:"
        yield from (f"  {line}" for line in _side(side))


def decision_text(decision: Mapping[str, Any]) -> str:
    """Return a decision as a line of words."""
    what = f"{format_duration(decision.get('at_ns'))}  {decision.get('action')}"
    named = f"{decision.get('tag')}"
    if decision.get("copy") is not None:
        named += f" copy {decision['copy']} on {decision.get('device')}"
    extras: list[str] = []
    if decision.get("ticket") is not None:
        extras.append(f"ticket {decision['ticket']}")
    if "hit" in decision:
        extras.append("a hit" if decision["hit"] else "after a load")
    extras += [
        f"{key.removesuffix('_bytes')} {format_bytes(decision[key])}"
        for key in ("reserved_bytes", "freed_bytes")
        if isinstance(decision.get(key), int)
    ]
    extras += [
        f"{words} {decision[key]}"
        for key, words in (
            ("reason", "to"),
            ("requested_by", "for"),
            ("refusal", "refused:"),
        )
        if decision.get(key)
    ]
    if decision.get("chosen"):
        extras.append(f"chosen copies {', '.join(map(str, decision['chosen']))}")
    return f"{what} {named}" + (f" ({', '.join(extras)})" if extras else "")


def _side(side: DecisionSide) -> Iterator[str]:
    if side.decision is None:
        yield "there is no further decision"
        return
    yield decision_text(side.decision)
    if side.candidates:
        yield "it could have chosen:"
        for each in side.candidates:
            size = format_bytes(each["size_bytes"])
            yield f"  {each['tag']} copy {each['copy']} ({size}, worth {each['value']:.6g})"


def _mismatch(found: Comparison, mismatch: Mismatch) -> str:
    values = [
        format_bytes(int(text)) if text is not None and mismatch.name.endswith("_bytes") else text
        for text in (mismatch.old, mismatch.new)
    ]
    is_setting = mismatch.touches == "judged"
    old, new = (text or ("none" if is_setting else "unknown") for text in values)
    effect = _TOUCHED[mismatch.touches]
    if found.mismatch_allowed and mismatch.touches not in {"judged", "none"}:
        effect = "compared all the same"
    return f"another {mismatch.name}: {old}, now {new} ({effect})"


def _old(gone: KnownOnce) -> str:
    return format_value(gone.old, gone.unit)
