"""Whether a model keeps to its limit and to its baseline, and the words for it where it does not.

Pure: costs in, sentences out. What was measured, and when a test is held to it, is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelmgr.errors import UsageError
from modelmgr.records.costs import ModelCost
from modelmgr.records.figures import Figure, figures
from modelmgr.units import MIB, format_bytes, parse_bytes

LEDGER_LINES = ("runtime", "weights", "activation", "cache", "unaccounted")
_NOISE_BYTES = MIB
"""Growth below this is none: the kernel counts a process's pages core by core and adds them up
late, by up to 256 KiB a core, and a small activation is no larger than that."""


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
    tag: str, before: ModelCost, now: ModelCost, *, tolerance: float, baseline: str
) -> str | None:
    """Return what to say of a model that grew beyond its baseline, None where it did not.

    Compared are the peak, what is held at rest, and each shape's activation that both have.

    Args:
        tag: the model.
        before: its baseline.
        now: what was measured.
        tolerance: the share that each figure may grow.
        baseline: what to call the baseline.
    """
    old = {figure.name: figure.value for figure in figures(before) if _is_compared(figure)}
    new = {figure.name: figure.value for figure in figures(now) if figure.name in old}
    grown: list[str] = []
    lost: list[str] = []
    for name, was in old.items():
        if was is None or name not in new:
            continue  # it was never known, or the shape is not measured any more
        value = new[name]
        if value is None:
            lost.append(f"  {name} was {format_bytes(round(was))} and is not known now")
        elif value - was > max(_NOISE_BYTES, was * tolerance):
            grown.append(f"  {name} {_moved(round(was), round(value))}")
    if not grown and not lost:
        return None
    lines, earlier = _ledger(now), _ledger(before)
    steps = {name: _step(earlier[name], lines[name]) or 0 for name in lines}
    largest = max(steps, key=steps.__getitem__)
    what = f"grew by more than {tolerance * 100:g}% over" if grown else "cannot be compared with"
    said = f"{tag!r} {what} {baseline}"
    if steps[largest] > 0:
        said += f"; the part that grew most is {largest}: {_signed(steps[largest])}"
    return "\n".join((said, *grown, *lost, *_table(lines, earlier)))


def _is_compared(figure: Figure) -> bool:
    shape = figure.name.startswith("shapes[") and figure.name.endswith(".activation_bytes")
    return shape or figure.name in {"peak_bytes", "resident_bytes"}


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
