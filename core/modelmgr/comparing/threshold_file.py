"""A YAML file of thresholds, for a repository whose gate has more than a line or two.

    schema_version: 1
    fail_on: {peak_bytes: 5%, shapes.latency_ns: 10%, wait_ns.p95: 10%, decisions: true}
    models:
      bert: {peak_bytes: 2%, load_ns: 30%+50ms}

One file serves cost databases and results: what is a figure of the other kind alone is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from modelmgr.comparing.catalogue import DECISIONS, Compared
from modelmgr.comparing.thresholds import Threshold, parse_threshold
from modelmgr.errors import UsageError
from modelmgr.records.type_paths import KeyPath
from modelmgr.records.validation import convert, place_name, show
from modelmgr.workload.document import Document, read_document
from modelmgr.workload.model_list import check_schema_version

KIND = "modelmgr.thresholds"
SCHEMA_VERSION = 1

LimitEntry = Annotated[
    str | int | float | bool | None,
    msgspec.Meta(
        description="how far it may get worse: 5%, 64 MiB, 10 ms, 5%+1MiB; 0 or nothing: not at "
        "all; of decisions, true: they have to be the same"
    ),
]
Figures = Annotated[
    dict[str, LimitEntry],
    msgspec.Meta(
        description="a mapping of figures to limits, as behind --fail-on of modelmgr compare"
    ),
]


class ThresholdFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What fails a comparison.

    Attributes:
        schema_version: 1.
        fail_on: for all models.
        models: by tag, instead of those.
    """

    schema_version: int
    fail_on: Figures = {}
    models: Annotated[
        dict[str, Figures], msgspec.Meta(description="by tag, instead of fail_on's")
    ] = {}


def read_threshold_file(path: str | Path, compared: Compared) -> tuple[Threshold, ...]:
    """Return a file's thresholds for one kind of file, those for all models first.

    Raises:
        InputError: it cannot be read, or has a figure or a limit that is none, with its line.
    """
    document = read_document(path, what="file of thresholds")
    check_schema_version(document, SCHEMA_VERSION)
    written = convert(document.plain(), ThresholdFile, document.error)
    if not written.fail_on and not any(written.models.values()):
        raise document.error((), "has no threshold", hint="add one: fail_on: {peak_bytes: 5%}")
    return tuple(_thresholds(document, written, compared))


def _thresholds(
    document: Document, written: ThresholdFile, compared: Compared
) -> Iterator[Threshold]:
    places: list[tuple[KeyPath, str | None, str]] = [
        (("fail_on", figure), None, figure) for figure in written.fail_on
    ]
    places += [
        (("models", model, figure), model, figure)
        for model, figures in written.models.items()
        for figure in figures
    ]
    for at, model, figure in places:
        limits = written.fail_on if model is None else written.models[model]
        found = _parsed(document, at, figure, model, compared)
        threshold = _limited(document, at, found, limits[figure])
        if threshold is not None and found.compared == compared:
            yield threshold


class _Parsed(NamedTuple):
    """A threshold without its limit, and the kind of file that it is for."""

    threshold: Threshold
    compared: Compared


def _parsed(
    document: Document, at: KeyPath, figure: str, model: str | None, compared: Compared
) -> _Parsed:
    other: Compared = "result" if compared == "costs" else "costs"
    try:
        return _Parsed(parse_threshold(figure, compared, model=model), compared)
    except UsageError as error:
        try:
            return _Parsed(parse_threshold(figure, other, model=model), other)
        except UsageError:
            raise document.error(at, str(error), on_key=True) from None


def _limited(
    document: Document, at: KeyPath, parsed: _Parsed, limit: LimitEntry
) -> Threshold | None:
    """Return the threshold with its limit; None of decisions that need not be the same."""
    found, compared = parsed
    if isinstance(limit, bool) or found.figure == DECISIONS:
        if found.figure == DECISIONS and limit in {True, False, None}:
            return found if limit is not False else None
        wanted = "true or false" if found.figure == DECISIONS else "a limit such as 5%"
        raise document.error(at, f"{place_name(at)} must be {wanted}, not {show(limit)}")
    try:
        return found.limited("0" if limit is None else str(limit), compared)
    except UsageError as error:
        raise document.error(at, f"{place_name(at)}: {error}") from None
