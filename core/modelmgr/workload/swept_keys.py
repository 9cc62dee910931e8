"""Give keys of a scenario other values: ``devices.gpu0.memory=8GiB..80GiB:8GiB``.

Owns the grammar of a sweep's keys and values, and the way from a scenario's document to the same
document with other values. What a scenario may say is checked by its reader, which is given the
changed document, so a bad value is refused in the same words and with the line it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as AbstractMapping
from collections.abc import Sequence as AbstractSequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from msgspec import inspect

from modelmgr.errors import InputError, UsageError
from modelmgr.records.sweep import Quantity, SweepKey, SweepValue
from modelmgr.records.type_paths import KeyPath, fields_of, types_at, unwrap, value_at
from modelmgr.records.validation import nearest, shorten
from modelmgr.units import parse_bytes, parse_duration_ns, parse_fraction, parse_rate_per_s
from modelmgr.workload.document import Document, read_document
from modelmgr.workload.scenario import Scenario
from modelmgr.workload.scenario_entries import (
    AnyLoadedEntry,
    MixEntry,
    ScenarioFile,
    StandInEntry,
    TraceEntry,
)
from modelmgr.workload.scenario_reader import build_scenario
from modelmgr.workload.yaml_scalars import resolve
from modelmgr.workload.yaml_tree import Mapping, Mark, Node, Scalar, Sequence

MAX_VALUES = 10_000
"""Of one key."""

_RANGE = re.compile(r"(?P<first>[^:]*?)\.\.(?P<last>[^:]*):(?P<step>.*)")
_NUMBER = re.compile(r"\s*([+-]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20}))\s*(\D.*?)?\s*")
_EXAMPLE = "write for example devices.gpu0.memory=8GiB..80GiB:8GiB or manager.policy=lru,gdsf"


def read_swept_key(text: str) -> SweepKey:
    """Return the key and the values of ``KEY=VALUES``: a list ``a,b,c``, or ranges in it.

    Raises:
        UsageError: it is no such text, or a range makes no sense.
    """
    key, equals, written = text.partition("=")
    key = key.strip()
    if not equals or not key or not written.strip():
        raise UsageError(f"{shorten(text)!r} is no KEY=VALUES\n{_EXAMPLE}")
    texts: list[str] = []
    for item in written.split(","):
        stripped = item.strip()
        if not stripped:
            raise UsageError(f"{key}: an empty value in {shorten(written)!r}\n{_EXAMPLE}")
        match = _RANGE.fullmatch(stripped)
        if match is not None:
            texts += _range(key, stripped, *match.group("first", "last", "step"))
        elif ".." in stripped:
            raise UsageError(f"{key}: the range {shorten(stripped)!r} has no step\n{_EXAMPLE}")
        else:
            texts.append(stripped)
        if len(texts) > MAX_VALUES:
            raise UsageError(f"{key}: more than {MAX_VALUES} values")
    repeated = next((value for value in texts if texts.count(value) > 1), None)
    if repeated is not None:
        raise UsageError(f"{key}: {shorten(repeated)!r} is given twice")
    amounts = [_amount(value) for value in texts]
    kinds = {kind for kind, _ in amounts}
    quantity = amounts[0][0] if len(kinds) == 1 else "text"
    values = (
        SweepValue(text=value, amount=amount if quantity != "text" else None)
        for value, (_, amount) in zip(texts, amounts, strict=True)
    )
    return SweepKey(key=key, quantity=quantity, values=tuple(values))


@dataclass(frozen=True, slots=True)
class ScenarioTemplate:
    """A scenario whose keys can be given other values."""

    document: Document
    path: Path
    _places: dict[str, KeyPath] = field(
        default_factory=dict[str, KeyPath], init=False, repr=False, compare=False
    )

    @classmethod
    def read(cls, path: str | Path) -> ScenarioTemplate:
        """Read a scenario file; InputError where it is no YAML. Its rules are checked later."""
        return cls(read_document(path, what="scenario"), Path(path))

    def place(self, key: str) -> KeyPath:
        """Return where a dotted key leads; lists take an index, a name or a tag.

        Raises:
            UsageError: there is no such key; names the nearest known one.
        """
        if key not in self._places:
            self._places[key] = self._find(key)
        return self._places[key]

    def _find(self, key: str) -> KeyPath:
        steps: list[str | int] = []
        node: Node | None = self.document.root
        rest = key
        while rest:
            known = self._known(tuple(steps), node)
            step = _longest(rest, known)
            if step is None:
                where = ".".join(map(str, steps))
                head = rest.partition(".")[0]
                owner = f" in {where}" if where else ""
                problem = f"{key}: there is no {shorten(head)!r}{owner}"
                raise UsageError(f"{problem}\n{nearest(head, known)}")
            rest = rest[len(step) + 1 :]
            steps.append(known[step])
            node = _child(node, known[step])
        is_whole = self._is_struct(tuple(steps)) if node is None else not isinstance(node, Scalar)
        if is_whole:
            known = self._known(tuple(steps), node)
            raise UsageError(
                f"{key} is not a single value\nsweep one within it: "
                + ", ".join(f"{key}.{step}" for step in list(known)[:8])
            )
        return tuple(steps)

    def with_values(self, values: AbstractMapping[str, str]) -> Scenario:
        """Return the scenario with these values, by key.

        Raises:
            UsageError: a key is not known, or the scenario that results is refused; an
                ``ImpossibleValueError`` where it is one of the values that is.
        """
        root = self.document.root
        places = {key: self.place(key) for key in values}
        for key, text in values.items():
            root = _with_value(root, places[key], text, root.mark)
        document = Document(self.document.path, root)
        try:
            return build_scenario(document, self.path)
        except InputError as error:
            shown = ", ".join(f"{key}={text}" for key, text in values.items())
            for key, place in places.items():
                mark = document.find(place)
                if (error.line, error.column) == (mark.line, mark.column):
                    raise ImpossibleValueError(f"{key}={values[key]}: {error}") from error
            raise UsageError(f"with {shown}: {error}") from error

    def _known(self, at: KeyPath, node: Node | None) -> dict[str, str | int]:
        """Return what a key may go on with at a place, as written and as a step."""
        if isinstance(node, Sequence):
            named: dict[str, str | int] = {}
            for index, item in enumerate(node.items):
                for title in ("name", "tag"):
                    entry = item.entries.get(title) if isinstance(item, Mapping) else None
                    if entry is not None and isinstance(entry[1], Scalar):
                        named.setdefault(entry[1].text, index)
            return named | {str(index): index for index in range(len(node.items))}
        if isinstance(node, Scalar):
            return {}
        known: dict[str, str | int] = {}
        if isinstance(node, Mapping):
            known |= {name: name for name in node.entries}
        for kind in self._types(at):
            if isinstance(kind, inspect.StructType):
                known |= {each.encode_name: each.encode_name for each in kind.fields}
        return known

    def _is_struct(self, at: KeyPath) -> bool:
        kinds = self._types(at)
        return any(isinstance(kind, inspect.StructType) for kind in kinds) and not any(
            isinstance(kind, inspect.StrType) for kind in kinds
        )

    def _types(self, at: KeyPath) -> list[inspect.Type]:
        """Return the types that a place may have; items of models and workload say which."""
        plain: object = self.document.plain()
        wanted: Any = ScenarioFile
        rest: AbstractSequence[str | int] = at
        if len(at) >= 2 and at[0] in ("models", "workload"):
            plain = value_at(plain, at[:2])
            keys = fields_of(plain) or {}
            if at[0] == "models":
                wanted = AnyLoadedEntry if "loader" in keys else StandInEntry
            else:
                wanted = TraceEntry if "trace" in keys else MixEntry
            rest = at[2:]
        return [unwrap(kind) for kind in types_at(plain, wanted, rest)]


class ImpossibleValueError(UsageError):
    """A value is not one that its key can have: no row of the sweep makes sense."""


def _child(node: Node | None, step: str | int) -> Node | None:
    if isinstance(node, Sequence) and isinstance(step, int):
        return node.items[step]
    if isinstance(node, Mapping) and isinstance(step, str) and step in node.entries:
        return node.entries[step][1]
    return None


def _longest(rest: str, known: AbstractMapping[str, str | int]) -> str | None:
    """Return the longest known step that the rest of a key begins with: tags may have dots."""
    fitting = [step for step in known if rest == step or rest.startswith(f"{step}.")]
    return max(fitting, key=len, default=None)


def _with_value(node: Node | None, at: KeyPath, text: str, mark: Mark) -> Node:
    """Return the tree with another value at a place; nothing of the old one is changed.

    Aliases share nodes: only the place that is named gets the value.
    """
    if not at:
        try:
            return Scalar(mark if node is None else node.mark, resolve(text), text)
        except ValueError as error:
            raise UsageError(str(error)) from error
    step, rest = at[0], at[1:]
    if isinstance(node, Sequence) and isinstance(step, int):
        items = list(node.items)
        items[step] = _with_value(items[step], rest, text, node.mark)
        return replace(node, items=items)
    entries = dict(node.entries) if isinstance(node, Mapping) else {}
    mark = node.mark if node is not None else mark
    key_mark, child = entries.get(str(step), (mark, None))
    entries[str(step)] = (key_mark, _with_value(child, rest, text, mark))
    return Mapping(mark, entries)


def _amount(text: str) -> tuple[Quantity, float | int | None]:
    for kind, parse in (
        ("bytes", parse_bytes),
        ("ns", parse_duration_ns),
        ("per_s", parse_rate_per_s),
    ):
        try:
            return kind, parse(text)  # type: ignore[return-value]  # mypy widens the literals
        except ValueError:
            continue
    try:
        if text.endswith("%"):
            return "share", parse_fraction(text)
        value = resolve(text)
    except ValueError:
        return "text", None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number", value
    return "text", None


def _range(key: str, written: str, *parts: str) -> list[str]:
    """Return the values of ``FIRST..LAST:STEP``, the last one included where a step lands on it."""
    shown = shorten(written)
    matches = [_NUMBER.fullmatch(part) for part in parts]
    if not all(matches):
        raise UsageError(f"{key}: {shown!r} is no range of quantities\n{_EXAMPLE}")
    numbers = [Fraction(match.group(1)) for match in matches if match is not None]
    units = [match.group(2) for match in matches if match is not None]
    named = list(dict.fromkeys(unit for unit in units if unit is not None))
    unit = next((unit for unit in units if unit is not None), "")
    if len({name.lower() for name in named}) > 1:
        # The first one's unit counts; the others are converted to it.
        numbers = [
            number * _scale(key, shown, own or unit) / _scale(key, shown, unit)
            for number, own in zip(numbers, units, strict=True)
        ]
    first, last, step = numbers
    if step <= 0 or last < first:
        raise UsageError(f"{key}: the range {shown!r} goes nowhere; give FIRST..LAST:STEP, upwards")
    count = int((last - first) / step) + 1
    if count > MAX_VALUES:
        raise UsageError(f"{key}: the range {shown!r} has {count} values, more than {MAX_VALUES}")
    joint = "" if not unit or unit.startswith(("/", "%")) else " "
    return [f"{_decimal(first + step * place)}{joint}{unit}" for place in range(count)]


def _scale(key: str, shown: str, unit: str) -> int:
    for parse in (parse_bytes, parse_duration_ns):
        try:
            return parse(f"1 {unit}")
        except ValueError:
            continue
    raise UsageError(f"{key}: the range {shown!r} mixes units; write one unit throughout")


def _decimal(number: Fraction) -> str:
    if number.denominator == 1:
        return str(number.numerator)
    return f"{float(number):.12g}"
