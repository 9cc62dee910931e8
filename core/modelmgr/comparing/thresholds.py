"""What fails the gate: ``peak_bytes:5%``, ``bert:peak_bytes:2%``, ``decisions``.

    [MODEL:]FIGURE[:LIMIT]

MODEL is a tag; without one the threshold holds for all models. FIGURE is a name of the catalogue,
or one shape's: ``shapes[batch_size=8 sequence_length=128].latency_ns``. LIMIT is how far it may get
worse: ``5%``, ``64 MiB``, ``5%+1MiB``, ``0``; without one not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from modelmgr.comparing.catalogue import (
    CATALOGUE,
    DECISIONS,
    DEFAULTS,
    KINDS,
    Compared,
    Known,
    full_name,
)
from modelmgr.comparing.limits import Limit, parse_limit
from modelmgr.errors import UsageError
from modelmgr.records.validation import nearest, shorten

_SHAPE = re.compile(r"shapes\[([^\]]*)\]\.(.+)")
_LIMIT_LIKE = re.compile(r"\s*[+-]?[\d.].*")
_EXAMPLES: Mapping[Compared, str] = {"costs": "peak_bytes:5%", "result": "wait_ns.p95:10%"}


class Rule(NamedTuple):
    """How one figure is judged.

    Attributes:
        limit: how far it may get worse.
        gates: getting worse fails; otherwise it is only told.
        strict: it was asked for, so that not knowing is an answer to be given. Under the defaults
            a figure that noise hides, and that does not look worse, is let pass.
    """

    limit: Limit
    gates: bool
    strict: bool


@dataclass(frozen=True, slots=True)
class Threshold:
    """One line of ``--fail-on``.

    Attributes:
        figure: a name of the catalogue, or ``decisions``.
        shape: the shape's dimensions as ``records.figures.shape_name`` has them, None for all.
        model: the model's tag, None for all.
        limit: None of ``decisions``.
        strict: as a ``Rule`` has it.
    """

    figure: str
    limit: Limit | None
    model: str | None = None
    shape: str | None = None
    strict: bool = True

    def limited(self, text: str, compared: Compared) -> Threshold:
        """Return it with the limit in a text; UsageError where that is none of this figure."""
        try:
            limit = parse_limit(text, CATALOGUE[compared][self.figure].unit)
        except ValueError as error:
            raise UsageError(str(error)) from None
        return replace(self, limit=limit)

    def __str__(self) -> str:
        figure = self.figure
        if self.shape is not None:
            figure = figure.replace("shapes.", f"shapes[{self.shape}].", 1)
        model = "" if self.model is None else f"{self.model}:"
        limit = "" if self.limit is None else f":{self.limit.text}"
        return f"{model}{figure}{limit}"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """All that fails a comparison of one kind of file.

    Attributes:
        compared: the kind.
        given: in order; of several for the same figure the narrowest holds (a model's before all
            models', a shape's before all shapes'), of equally narrow ones the last.
    """

    compared: Compared
    given: tuple[Threshold, ...]
    _rules: dict[str | None, RuleBook] = field(
        default_factory=dict["str | None", "RuleBook"], init=False, repr=False, compare=False
    )

    @property
    def gates_decisions(self) -> bool:
        """Whether other decisions fail."""
        return any(each.figure == DECISIONS for each in self.given)

    @property
    def models(self) -> frozenset[str]:
        """The models that have thresholds of their own."""
        return frozenset(each.model for each in self.given if each.model is not None)

    def rules(self, model: str | None) -> RuleBook:
        """Return how a model's figures are judged; with None the whole run's."""
        key = model if model in self.models else None
        if key not in self._rules:
            self._rules[key] = _rule_book(self, key)
        return self._rules[key]


@dataclass(frozen=True, slots=True)
class RuleBook:
    """How every figure of one model is judged.

    Attributes:
        figures: by name; what the catalogue knows and nobody gates is told only.
        shapes: by the shape's name and the figure's, for shapes with thresholds of their own.
    """

    figures: Mapping[str, Rule]
    shapes: Mapping[tuple[str, str], Rule]

    def find(self, figure: str, shape: str | None = None) -> Rule | None:
        """Return the rule of a figure; None where it is neither gated nor told."""
        if shape is not None and self.shapes:
            own = self.shapes.get((shape, figure))
            if own is not None:
                return own
        return self.figures.get(figure)


def parse_threshold(text: str, compared: Compared, *, model: str | None = None) -> Threshold:
    """Return the threshold in a text such as ``bert:peak_bytes:2%``.

    Args:
        text: as the module's docstring has it.
        compared: the kind of file that it is for.
        model: whose it is, where the text does not say so: then it is a figure alone.

    Raises:
        UsageError: it names no figure of this kind of file (with the nearest one), or its limit is
            none, or is of another unit.
    """
    rest, limit_text = text.strip(), None
    head, colon, tail = rest.rpartition(":")
    if model is None and colon and _LIMIT_LIKE.fullmatch(tail):
        rest, limit_text = head.strip(), tail
    if not text.strip() or text.strip().endswith(":"):
        raise UsageError(f"{text!r} names no figure; write for example '{_EXAMPLES[compared]}'")
    owner, figure, shape = _split(rest, compared, model)
    if figure == DECISIONS:
        if owner is not None or limit_text is not None:
            raise UsageError(f"{text!r}: decisions are all the same or not; write {DECISIONS!r}")
        return Threshold(DECISIONS, None)
    bare = Threshold(figure, None, owner, shape)
    try:
        return bare.limited(limit_text or "0", compared)
    except UsageError as error:
        raise UsageError(f"{text!r}: {error}") from None


def default_thresholds(compared: Compared, mode: str | None = None) -> Thresholds:
    """Return what fails where nobody said what should.

    Args:
        compared: the kind of file.
        mode: of results, ``simulate`` or ``run``.
    """
    catalogue = CATALOGUE[compared]
    given = tuple(
        Threshold(name, parse_limit(text, catalogue[name].unit), strict=False)
        for name, text in DEFAULTS[mode or compared].items()
    )
    return Thresholds(compared, given)


def read_thresholds(texts: Iterable[str], compared: Compared) -> Thresholds:
    """Return the thresholds in texts; UsageError as ``parse_threshold``."""
    return Thresholds(compared, tuple(parse_threshold(text, compared) for text in texts))


def _split(text: str, compared: Compared, model: str | None) -> tuple[str | None, str, str | None]:
    """Return the model, the figure and the shape of a threshold without its limit."""
    found = _figure(text, compared)
    if found is not None and model is None:
        return None, *found
    owner, name = model, text
    if model is None:
        owner, colon, name = text.rpartition(":")
        if not colon:
            raise _unknown(text, compared)
        found = _figure(name, compared)
    if found is None:
        raise _unknown(name, compared)
    figure, shape = found
    if compared == "result" and not figure.startswith("models.") and figure != DECISIONS:
        # A model's part of a result is written as the whole run's figures are.
        if f"models.{figure}" not in CATALOGUE["result"]:
            raise UsageError(f"{text!r}: a result has no {figure!r} of a single model")
        figure = f"models.{figure}"
    return owner, figure, shape


def _figure(text: str, compared: Compared) -> tuple[str, str | None] | None:
    stripped = text.strip()
    if stripped == DECISIONS and compared == "result":
        return DECISIONS, None
    of_shape = _SHAPE.fullmatch(stripped)
    if of_shape is not None:
        name = full_name(f"shapes.{of_shape[2]}", compared)
        return None if name is None else (name, " ".join(sorted(of_shape[1].split())))
    name = full_name(stripped, compared)
    return None if name is None else (name, None)


def _unknown(name: str, compared: Compared) -> UsageError:
    shown = shorten(name.strip())
    other: Compared = "result" if compared == "costs" else "costs"
    if _figure(name, other) is not None:
        return UsageError(
            f"{shown!r} is a figure of {KINDS[other]} files, and these are {KINDS[compared]}"
        )
    if name.strip().endswith("throughput_per_s"):
        return UsageError(f"{shown!r} follows from the latency; write 'shapes.latency_ns'")
    known: Sequence[str] = [*CATALOGUE[compared], *([DECISIONS] if compared == "result" else [])]
    return UsageError(f"there is no figure {shown!r}; {nearest(name.strip(), known)}")


def _rule_book(thresholds: Thresholds, model: str | None) -> RuleBook:
    catalogue = CATALOGUE[thresholds.compared]
    figures = {name: _told(known) for name, known in catalogue.items() if _is_told(name)}
    shapes: dict[tuple[str, str], Rule] = {}
    # The narrowest last, as the last one holds.
    by_width = sorted(thresholds.given, key=lambda each: each.model is not None)
    for each in by_width:
        if each.limit is None or each.model not in {None, model}:
            continue
        rule = Rule(each.limit, gates=True, strict=each.strict)
        if each.shape is None:
            figures[each.figure] = rule
        else:
            shapes[each.shape, each.figure] = rule
    return RuleBook(figures, shapes)


def _told(known: Known) -> Rule:
    return Rule(parse_limit(known.told_above, known.unit), gates=False, strict=False)


def _is_told(name: str) -> bool:
    """Return whether a figure is told without a threshold: one statistic of each time is enough."""
    plain = name.removeprefix("models.")
    head, _, statistic = plain.rpartition(".")
    if head in {"wait_ns", "latency_ns"}:
        return statistic in {"mean", "p95"}
    return not (plain in {"wait_ns", "latency_ns"} or head.endswith("_ns"))
