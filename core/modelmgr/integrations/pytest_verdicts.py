"""Whether a model keeps to its limit and to its baseline, and the words for it where it does not.

Pure: costs in, sentences out. What was measured, and when a test is held to it, is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelmgr.comparing.comparison import Comparison, FigureComparison
from modelmgr.comparing.limits import parse_limit
from modelmgr.errors import UsageError
from modelmgr.records.costs import ModelCost
from modelmgr.records.figures import figures
from modelmgr.records.measured import MeasuredBytes
from modelmgr.units import format_bytes, parse_bytes

_ENOUGH_PROCESSES = 3
LEDGER_LINES = ("runtime", "weights", "activation", "cache", "unaccounted")


@dataclass(frozen=True, slots=True)
class Limit:
    """One ``limit_model_memory`` marker.

    Attributes:
        limit_bytes: the most that a model may take at its peak.
        text: the same as it was written.
        model: the tag that it is for, None for every model that the test measures.
        of_test: it stands at the test itself, not at its class or module.
    """

    limit_bytes: int
    text: str
    model: str | None
    of_test: bool


def read_limit(
    arguments: Sequence[object], keywords: Mapping[str, object], *, of_test: bool
) -> Limit:
    """Return what a marker says.

    Raises:
        UsageError: it says something else than ``("1.2 GiB")`` or ``("1.2 GiB", model="bert")``.
    """
    unknown = [name for name in keywords if name != "model"]
    if len(arguments) != 1 or unknown:
        what = f"unknown keyword {unknown[0]!r}" if unknown else f"{len(arguments)} limits"
        raise UsageError(f"{what}; write for example ('1.2 GiB') or ('1.2 GiB', model='bert')")
    (text,) = arguments
    model = keywords.get("model")
    if not isinstance(text, str):
        raise UsageError(f"{text!r} has no unit; write for example '1.2 GiB'")
    if model is not None and not isinstance(model, str):
        raise UsageError(f"model is a tag, not {model!r}; give each model a marker of its own")
    try:
        limit_bytes = parse_bytes(text)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if limit_bytes == 0:
        raise UsageError(f"{text!r} holds no model; write for example '1.2 GiB'")
    return Limit(limit_bytes, text, model, of_test)


def limit_for(tag: str, limits: Sequence[Limit]) -> Limit | None:
    """Return the limit that holds for a model: one that names it before one that names none.

    Args:
        tag: the model.
        limits: the test's, those nearest to it first.
    """
    named = [limit for limit in limits if limit.model == tag]
    general = [limit for limit in limits if limit.model is None]
    return next(iter([*named, *general]), None)


def over_limit(tag: str, cost: ModelCost, limit: Limit) -> str | None:
    """Return what to say of a model above its limit, None where it is not."""
    peak = cost.peak_bytes
    if peak is None:
        return f"{tag!r} has a limit of {limit.text}, and its peak is not known"
    over_bytes = peak.value - limit.limit_bytes
    if over_bytes <= 0:
        return None
    lines = _ledger(cost)
    largest = max(lines, key=lambda name: lines[name] or 0)
    over = f"{format_bytes(over_bytes)} more than its limit of {limit.text}"
    most = f"most of it is {largest}: {format_bytes(lines[largest])}"
    said = f"{tag!r} takes {format_bytes(peak.value)} at its peak, {over}; {most}"
    return "\n".join((said, *_table({**lines, "peak": peak.value})))


def growth(
    tag: str,
    before: ModelCost,
    now: ModelCost,
    found: Comparison,
    *,
    tolerance: str,
    baseline: str,
) -> str | None:
    """Return what to say of a model that grew beyond its baseline, None where it did not.

    Args:
        tag: the model.
        before: its baseline.
        now: what was measured.
        found: both compared.
        tolerance: how far each figure may grow.
        baseline: what to call the baseline.
    """
    plain = _figures_of_few(before, now)
    grown = [
        figure
        for figure in found.figures
        if figure.failed or (figure.figure in plain and _is_unclear(figure))
    ]
    if not grown:
        return None
    order = [figure.name for figure in figures(now)]
    grown.sort(key=lambda figure: order.index(figure.figure))
    lines, earlier = _ledger(now), _ledger(before)
    steps = {name: _step(earlier[name], lines[name]) or 0 for name in lines}
    largest = max(steps, key=steps.__getitem__)
    said = f"{tag!r} grew by more than {tolerance} over {baseline}"
    if steps[largest] > 0:
        said += f"; the part that grew most is {largest}: {_signed(steps[largest])}"
    moved = (f"  {each.figure} {_moved(round(each.old), round(each.new))}" for each in grown)
    return "\n".join((said, *moved, *_table(lines, earlier)))


def looks_grown(found: Comparison) -> bool:
    """Return whether a figure is beyond its limit and nobody can say whether that is noise."""
    return any(map(_is_unclear, found.figures))


def is_of_elsewhere(found: Comparison) -> bool:
    """Return whether figures moved that another machine or version moves."""
    return any(each.gated and each.verdict == "not-comparable" for each in found.figures)


def _figures_of_few(*costs: ModelCost) -> set[str]:
    """Return the figures whose values say more than what so few processes tell of their noise.

    The kernel's or the allocator's own word comes out the same within a per cent; that is what
    makes it exact. With fewer than three processes on a side, the comparison has to allow for ten
    times that, and a model could grow by a tenth unseen.
    """
    exact: list[set[str]] = []
    few: set[str] = set()
    for cost in costs:
        measured = {figure.name: figure.measured for figure in figures(cost)}
        memory = {name: each for name, each in measured.items() if isinstance(each, MeasuredBytes)}
        exact.append({name for name, each in memory.items() if each.evidence == "exact"})
        few |= {name for name, each in memory.items() if len(each.samples) < _ENOUGH_PROCESSES}
    return few.intersection(*exact)


def _is_unclear(figure: FigureComparison) -> bool:
    """Return whether a figure is beyond its limit and nobody can say whether that is noise."""
    if figure.verdict != "cannot-say" or not figure.gated:
        return False
    allowed = parse_limit(figure.limit, "bytes").allowed(figure.old)
    return figure.new - figure.old > allowed


def _ledger(cost: ModelCost) -> dict[str, int | None]:
    return {
        line: None if cost.ledger is None else getattr(cost.ledger, f"{line}_bytes")
        for line in LEDGER_LINES
    }


def _table(
    lines: Mapping[str, int | None], before: Mapping[str, int | None] | None = None
) -> list[str]:
    """Return the parts under each other, with what they were and how far they moved."""
    rows: list[str] = []
    for name, value in lines.items():
        row = f"  {name:<11}  {_known(value):>11}"
        if before is not None:
            was = before[name]
            step = _step(was, value)
            moved = "" if step is None else f"  {_signed(step):>11}"
            row = f"  {name:<11}  {_known(was):>11} -> {_known(value):>11}{moved}"
        rows.append(row)
    return rows


def _step(was: int | None, now: int | None) -> int | None:
    return None if was is None or now is None else now - was


def _moved(was: int, now: int) -> str:
    share = f" ({(now - was) / was:+.1%})" if was > 0 else ""
    return f"{format_bytes(was)} -> {format_bytes(now)}, {_signed(now - was)}{share}"


def _known(value_bytes: int | None) -> str:
    return "unknown" if value_bytes is None else format_bytes(value_bytes)


def _signed(step_bytes: int) -> str:
    return f"{'+' if step_bytes >= 0 else ''}{format_bytes(step_bytes)}"
