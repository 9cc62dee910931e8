"""A comparison in the formats that ``--export`` knows.

markdown          for people: a pull request, a job's summary
csv               every figure in its base unit, nothing rounded (RFC 4180)
junit             a test case for each gated figure (JUnit's XML, as Jenkins reads it)
benchmark-action  the new values, for github-action-benchmark's customSmallerIsBetter
bencher           the new values with their limits, Bencher Metric Format
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal
from xml.etree import ElementTree as ET

import msgspec

from modelmgr.comparing.comparison import Comparison, FigureComparison
from modelmgr.reporting.comparison_words import (
    WORDS,
    change_text,
    decision_lines,
    headline,
    interval_text,
    owned,
    remarks,
    value_texts,
)
from modelmgr.reporting.markdown_text import escaped, table

ComparisonFormat = Literal["markdown", "csv", "junit", "benchmark-action", "bencher"]
_MARKDOWN_ROWS = 50
_CONTROLS = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SIGNS = {"bad": "❌ ", "odd": "⚠️ ", "plain": ""}
_MARKS = {"worse": "❌", "differs": "❌", "cannot-say": "❔", "better": "✅"}


def export_comparison(found: Comparison, form: ComparisonFormat) -> str:
    """Return a comparison in a format.

    Exports of all figures need a comparison that was made with ``keep_same``.
    """
    return _EXPORTS[form](found)


def _markdown(found: Comparison) -> str:
    parts = [f"### {escaped(found.baseline)} and {escaped(found.new)}: {headline(found)}"]
    said = [f"- {_SIGNS[each.level]}{escaped(each.text)}" for each in remarks(found)]
    if said:
        parts.append("\n".join(said))
    moved = [each for each in found.figures if each.verdict != "same"]
    if moved:
        titles = ("", "figure", "baseline", "new", "change", "99 % interval", "limit", "")
        rows = [
            (
                f"{_MARKS.get(each.verdict, '')} {WORDS[each.verdict]}"
                if each.gated
                else f"{WORDS[each.verdict]} (not gated)",
                escaped(owned(each)),
                *value_texts(each),
                change_text(each),
                interval_text(each),
                each.limit,
                escaped(each.reason or ""),
            )
            for each in moved[:_MARKDOWN_ROWS]
        ]
        parts.append(table(titles, rows, right=range(2, 6)))
        if len(moved) > _MARKDOWN_ROWS:
            parts.append(f"{len(moved) - _MARKDOWN_ROWS} more figures moved less.")
    if found.decisions is not None:
        lines = list(decision_lines(found.decisions))
        mark = "❌ " if found.decisions.failed else ""
        parts.append(f"{mark}{escaped(lines[0])}")
        if len(lines) > 1:
            parts.append("\n".join(["```text", *(_fenced(line) for line in lines[1:]), "```"]))
    if found.thresholds:
        limits = ", ".join(f"`{_fenced(each)}`" for each in found.thresholds)
        parts.append(f"<sub>Fails on: {limits}</sub>")
    return "\n\n".join(parts) + "\n"


def _csv(found: Comparison) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(
        (
            *("model", "device", "figure", "unit", "verdict", "gated", "failed", "old", "new"),
            *("change", "low_99", "high_99", "exact", "limit", "reason"),
        )
    )
    for each in found.figures:
        low, high = each.interval_99 or (None, None)
        writer.writerow(
            (
                *(each.model, each.device, each.figure, each.unit, each.verdict),
                *(int(each.gated), int(each.failed), each.old, each.new),
                *(each.change, low, high, int(each.exact), each.limit, each.reason),
            )
        )
    return text.getvalue()


def _junit(found: Comparison) -> str:
    suites = ET.Element("testsuites", name="modelmgr compare")
    groups: dict[str, list[ET.Element]] = {}
    for each in found.figures:
        if each.gated:
            owner = each.model or each.device or "run"
            groups.setdefault(owner, []).append(_figure_case(each, owner))
    for tag in found.vanished:
        case = _case(tag, "model")
        _ended(case, "failure", "vanished", f"{tag} vanished: only {found.baseline} has it")
        groups.setdefault(tag, []).append(case)
    for model in found.failing:
        case = _case(model.model, "measurement")
        _ended(case, "failure", "failing", model.message)
        groups.setdefault(model.model, []).append(case)
    if found.decisions is not None:
        groups.setdefault("run", []).append(_decisions_case(found))
    totals = [0, 0, 0]
    for name, cases in groups.items():
        counts = [
            len(cases),
            sum(case.find("failure") is not None for case in cases),
            sum(case.find("skipped") is not None for case in cases),
        ]
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        attributes = {"name": _xml(name), **_counted(counts), "skipped": str(counts[2])}
        suite = ET.SubElement(suites, "testsuite", attributes)
        suite.extend(cases)
    for key, value in _counted(totals).items():
        suites.set(key, value)
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def _counted(counts: list[int]) -> dict[str, str]:
    return {"tests": str(counts[0]), "failures": str(counts[1]), "errors": "0", "time": "0"}


def _figure_case(figure: FigureComparison, owner: str) -> ET.Element:
    case = _case(owner, figure.figure)
    old, new = value_texts(figure)
    told = f"{old} became {new} ({change_text(figure)}; {interval_text(figure)})"
    limit = f"limit {figure.limit}"
    reason = f"; {figure.reason}" if figure.reason else ""
    if figure.failed:
        _ended(case, "failure", figure.verdict, f"{owned(figure)}: {told}; {limit}{reason}")
    elif figure.verdict in {"cannot-say", "not-comparable"}:
        _ended(case, "skipped", None, f"{WORDS[figure.verdict]}: {told}{reason}")
    else:
        ET.SubElement(case, "system-out").text = _xml(f"{WORDS[figure.verdict]}: {told}; {limit}")
    return case


def _decisions_case(found: Comparison) -> ET.Element:
    case = _case("run", "decisions")
    if found.decisions is None:
        return case
    lines = list(decision_lines(found.decisions))
    if found.decisions.failed:
        _ended(case, "failure", "differs", lines[0], "\n".join(lines[1:]))
    elif found.decisions.verdict == "not-comparable":
        _ended(case, "skipped", None, lines[0])
    else:
        ET.SubElement(case, "system-out").text = _xml("\n".join(lines))
    return case


def _case(owner: str, name: str) -> ET.Element:
    return ET.Element("testcase", classname=_xml(owner), name=_xml(name), time="0")


def _ended(case: ET.Element, how: str, kind: str | None, message: str, text: str = "") -> None:
    element = ET.SubElement(case, how, message=_xml(message))
    if kind is not None:
        element.set("type", kind)
    if text:
        element.text = _xml(text)


def _benchmark_action(found: Comparison) -> str:
    """Return what https://github.com/benchmark-action/github-action-benchmark reads.

    Its ``customSmallerIsBetter`` knows one direction: figures that are better when they are
    higher are left out.
    """
    return _json([_action_entry(each) for each in found.figures if _is_tracked(each)])


def _action_entry(figure: FigureComparison) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": owned(figure), "unit": figure.unit, "value": figure.new}
    if figure.interval_99 is not None:
        low, high = figure.interval_99
        reach = (high - low) / 2 * abs(figure.old)
        if math.isfinite(reach):
            entry["range"] = f"± {reach:.6g}"
    entry["extra"] = (
        f"{WORDS[figure.verdict]} than the baseline's {figure.old}"
        if figure.verdict in {"worse", "better"}
        else f"{WORDS[figure.verdict]}; the baseline's: {figure.old}"
    )
    return entry


def _bencher(found: Comparison) -> str:
    """Return Bencher Metric Format: by benchmark and measure the value, and what it lies between.

    A measure is a figure, with its unit in its name; ``latency`` is Bencher's own, in nanoseconds.
    """
    benchmarks: dict[str, dict[str, dict[str, int | float]]] = {}
    for each in found.figures:
        if not _is_tracked(each):
            continue
        shape, _, measure = each.figure.rpartition("].")
        place = f" {shape.removeprefix('shapes[')}" if shape else ""
        benchmark = f"{each.model or each.device or 'run'}{place}"
        slug = "latency" if measure == "latency_ns" else re.sub(r"[^a-z0-9]+", "-", measure)
        metric: dict[str, int | float] = {"value": each.new}
        if each.interval_99 is not None:
            low, high = (each.old * (1 + end) for end in each.interval_99)
            metric["lower_value"] = min(low, each.new)
            if math.isfinite(high):  # of two values far apart the interval ends nowhere
                metric["upper_value"] = max(high, each.new)
        benchmarks.setdefault(benchmark, {})[slug] = metric
    return _json(benchmarks)


def _is_tracked(figure: FigureComparison) -> bool:
    return figure.gated


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def _xml(text: str) -> str:
    """Return the text without characters that XML 1.0 cannot hold."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def _fenced(text: str) -> str:
    return text.replace("`", "'").replace("\n", " ")


_EXPORTS: Mapping[ComparisonFormat, Callable[[Comparison], str]] = {
    "markdown": _markdown,
    "csv": _csv,
    "junit": _junit,
    "benchmark-action": _benchmark_action,
    "bencher": _bencher,
}
