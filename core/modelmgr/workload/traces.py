"""Read recorded traffic row by row: CSV and JSON lines, plain or gzip, never a whole file.

Owns the way from a file to rows in file time: columns, slices, the most frequent models, and what a
bad row is. When a row happens in a scenario, and what it asks for there, is ``requests``' work.

A row may lie up to ``TOLERANCE_NS`` before the one above it (clocks of several servers); it then
counts as simultaneous. More than that is an error: sorting ten million rows is not streaming.
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import msgspec

from modelmgr.errors import InputError
from modelmgr.records.validation import nearest, shorten, show
from modelmgr.units import NS_PER_S
from modelmgr.workload.scenario import TracePhase

SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz")
"""The kinds of trace, by name."""
TOLERANCE_NS = NS_PER_S
"""How far a row may lie before the one above it."""
UNKNOWN = -1
"""For a number of a row that the file does not give."""

_LONGEST_NS = 100 * 365 * 86_400 * NS_PER_S  # as of all phases: times must fit into 64 bits
_MOST_TOKENS = 10**9
_LONGEST_LINE = 100_000  # characters; csv refuses a field of more than 131,072 anyway
_COLUMNS = ("t_s", "model", "duration_s", "input_tokens", "output_tokens")
_NUMBERS = ("t_s", "duration_s", "input_tokens", "output_tokens")
_NOTHING = (None, "")
_SHOWN_COLUMNS = 20
_NO_CELLS: list[str] = []
_NEW_TUPLE: Any = tuple.__dict__["__new__"]


class TraceRow(NamedTuple):
    """One recorded request.

    Attributes:
        at_ns: time in the file.
        model: what it asked for.
        duration_ns: how long it took, ``UNKNOWN`` where the file does not say.
        input_tokens: ``UNKNOWN`` where the file does not say.
        output_tokens: ``UNKNOWN`` where the file does not say.
        line: its line in the file, 1-based.
        number: its number among the rows, 1-based, a header not counted.
    """

    at_ns: int
    model: str
    duration_ns: int
    input_tokens: int
    output_tokens: int
    line: int
    number: int


# A third of what calling the class takes.
_make_row = cast("Callable[[Iterable[object]], TraceRow]", partial(_NEW_TUPLE, TraceRow))


def read_trace(phase: TracePhase) -> Iterator[TraceRow]:
    """Yield the rows of a phase's slice, in time order.

    With ``top_models`` the file is read twice, the first time only to count.

    Raises:
        InputError: names the file, the line and the row (its header not counted).
    """
    kept = None if phase.top_models is None else set(top_models(phase))
    rows = _rows_in_slice(phase)
    empty = True
    for row in rows:
        empty = False
        if kept is None or row.model in kept:
            yield row
    if empty:
        sliced = bool(phase.from_ns) or phase.until_ns is not None
        raise InputError(
            "has no row in the slice that was asked for" if sliced else "has no rows",
            path=str(phase.path),
            hint="check 'from' and 'until', which are times of the file"
            if sliced
            else "check that this is the trace that was meant",
        )


def count_models(phase: TracePhase) -> Counter[str]:
    """Return how many rows of the slice ask for each model, in the order of first appearance."""
    return Counter(row.model for row in _rows_in_slice(phase))


def top_models(phase: TracePhase) -> list[str]:
    """Return the ``phase.top_models`` most frequent models; of equals the one that came first."""
    return [model for model, _ in count_models(phase).most_common(phase.top_models)]


def check_trace(phase: TracePhase) -> TraceRow | None:
    """Read the start of a trace, so that a wrong file is refused before anything runs.

    Returns:
        Its first row, in the slice or not; None where it has none.

    Raises:
        InputError: there is no such file, or its columns or its first row are wrong.
    """
    return next(_rows(phase), None)


def _rows_in_slice(phase: TracePhase) -> Iterator[TraceRow]:
    from_ns = phase.from_ns
    until_ns = phase.until_ns
    for row in _rows(phase):
        if until_ns is not None and row[0] >= until_ns:
            return
        if row[0] >= from_ns:
            yield row


def _rows(phase: TracePhase) -> Iterator[TraceRow]:
    """Yield every row, checked."""
    path = phase.path
    try:
        with _open(path) as file:
            lines = iter(partial(file.readline, _LONGEST_LINE), "")
            read = _json_cells if ".jsonl" in path.suffixes else _csv_cells
            yield from _checked(read(lines, phase), phase)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"is no whole gzip file: {error}", path=str(path), hint="copy or download it again"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"is not UTF-8 text: byte 0x{error.object[error.start]:02x}", path=str(path)
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot read this trace: {error.strerror or error}", path=str(path)
        ) from error


Cells = tuple[int, int, Any, Any, Any, Any, Any]
"""Line, number, and the five columns as they stand in the file; None where there is none."""


def _checked(rows: Iterator[Cells], phase: TracePhase) -> Iterator[TraceRow]:
    """Make numbers of cells, and see to it that time does not go back."""
    last_ns = 0
    # A row's time here must fit as well as that in the file.
    latest_ns = min(_LONGEST_NS, phase.from_ns + int(_LONGEST_NS * phase.speedup))
    for line, number, time, name, duration, tokens_in, tokens_out in rows:
        try:
            at_ns = round(float(_plain(time)) * NS_PER_S)
            duration_ns = inputs = outputs = UNKNOWN
            wrong = at_ns > latest_ns
            if duration not in _NOTHING:
                duration_ns = round(float(_plain(duration)) * NS_PER_S)
                wrong = wrong or not 0 <= duration_ns <= _LONGEST_NS
            if tokens_in not in _NOTHING:
                inputs = int(_plain(tokens_in))
                wrong = wrong or not 0 <= inputs <= _MOST_TOKENS
            if tokens_out not in _NOTHING:
                outputs = int(_plain(tokens_out))
                wrong = wrong or not 0 <= outputs <= _MOST_TOKENS
        except (ValueError, OverflowError, TypeError):
            cells = (time, duration, tokens_in, tokens_out)
            raise _error(phase, line, number, _wrong_cell(phase, cells)) from None
        if wrong:
            cells = (time, duration, tokens_in, tokens_out)
            raise _error(phase, line, number, _wrong_cell(phase, cells))
        if at_ns < last_ns:
            if at_ns < last_ns - TOLERANCE_NS or at_ns < 0:
                raise _error(phase, line, number, _goes_back(phase, at_ns, last_ns))
            at_ns = last_ns
        last_ns = at_ns
        if not isinstance(name, str) or not name:
            raise _error(phase, line, number, f"{_column(phase, 'model')} is empty or no text")
        yield _make_row((at_ns, name, duration_ns, inputs, outputs, line, number))


def _plain(cell: Any) -> Any:  # noqa: ANN401  # JSON's values, and CSV's texts
    """Return a number's cell; refuse what only Python takes for one (1_0, digits not ASCII)."""
    if type(cell) is str and ("_" in cell or not cell.isascii()):
        raise ValueError(cell)
    return cell


def _csv_cells(lines: Iterator[str], phase: TracePhase) -> Iterator[Cells]:
    reader = csv.reader(lines)
    number = 0
    try:
        header = next(reader, _NO_CELLS)
        places = _places(phase, header)
        # A cell that is not there is looked up in one that always is: the None put behind the last.
        at, name, duration, tokens_in, tokens_out = (
            len(header) if place is None else place for place in places
        )
        width = len(header)
        for cells in reader:
            if not cells:
                continue
            number += 1
            if len(cells) != width:
                problem = f"has {len(cells)} cells, and the header {width}"
                raise _error(phase, reader.line_num, number, problem)
            row: list[Any] = cells
            row.append(None)
            yield (
                reader.line_num,
                number,
                row[at],
                phase.model or row[name],
                row[duration],
                row[tokens_in],
                row[tokens_out],
            )
    except csv.Error as error:
        raise _error(phase, reader.line_num, number + 1, f"is no CSV: {error}") from error


def _places(phase: TracePhase, header: list[str]) -> list[int | None]:
    """Return where each of our columns stands in a file, None where it does not."""
    found: list[int | None] = []
    for ours in _COLUMNS:
        theirs = phase.columns.get(ours, ours)
        if header.count(theirs) > 1:
            raise InputError(
                f"has {header.count(theirs)} columns {theirs!r}",
                path=str(phase.path),
                line=1,
                hint="give each its own name in the file's first line",
            )
        if theirs in header:
            found.append(header.index(theirs))
        elif ours == "t_s" or (ours == "model" and phase.model is None) or ours in phase.columns:
            raise _no_column(phase, ours, theirs, header)
        else:
            found.append(None)
    return found


def _json_cells(lines: Iterator[str], phase: TracePhase) -> Iterator[Cells]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    theirs = [phase.columns.get(ours, ours) for ours in _COLUMNS]
    at, name, duration, tokens_in, tokens_out = theirs
    number = 0
    for line, text in enumerate(lines, start=1):
        if text.isspace():
            continue
        number += 1
        try:
            row = decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _error(phase, line, number, f"is no JSON object on one line: {error}") from error
        if at not in row or (name not in row and phase.model is None):
            missing = 0 if at not in row else 1
            raise _no_column(phase, _COLUMNS[missing], theirs[missing], list(row), line)
        get = row.get
        cells = (get(at), get(duration), get(tokens_in), get(tokens_out))
        # Python would take them for numbers: true for 1, and 5.7 tokens for 5.
        if bool in map(type, cells) or (float in map(type, cells[2:]) and _is_broken(cells[2:])):
            raise _error(phase, line, number, _wrong_cell(phase, cells))
        yield (line, number, cells[0], phase.model or get(name), *cells[1:])


def _is_broken(cells: tuple[Any, ...]) -> bool:
    return any(isinstance(cell, float) and not cell.is_integer() for cell in cells)


def _column(phase: TracePhase, ours: str) -> str:
    return repr(phase.columns.get(ours, ours))


def _error(phase: TracePhase, line: int, number: int, problem: str) -> InputError:
    return InputError(f"row {number}: {problem}", path=str(phase.path), line=line)


def _wrong_cell(phase: TracePhase, cells: tuple[Any, ...]) -> str:
    """Say what is wrong with the first number of a row that is no such number."""
    for ours, cell in zip(_NUMBERS, cells, strict=True):
        if ours != "t_s" and cell in _NOTHING:
            continue
        column, whole = _column(phase, ours), ours.endswith("tokens")
        wanted = "a whole number" if whole else "a number of seconds"
        try:
            plain = _plain(cell)
            value = float(int(plain) if whole and isinstance(plain, str) else plain)
        except (ValueError, OverflowError, TypeError):
            value = math.nan
        if isinstance(cell, bool) or not math.isfinite(value) or (whole and value % 1):
            return f"{column} must be {wanted}, not {show(cell)}"
        if value < 0 and ours != "t_s":
            return f"{column} is negative: {value:g}"
        if whole and value > _MOST_TOKENS:
            return f"{column} is too large: {value:g}; at most {_MOST_TOKENS}"
        if not whole and value * NS_PER_S > _LONGEST_NS:
            return f"{column} is too large: {value:g} s; at most 100 years, and it is in seconds"
    return f"comes more than 100 years later: 'speedup' is {phase.speedup:g}"


def _goes_back(phase: TracePhase, at_ns: int, last_ns: int) -> str:
    if at_ns < 0:
        return f"{_column(phase, 't_s')} is negative: {at_ns / NS_PER_S:g} s"
    return (
        f"time goes back from {last_ns / NS_PER_S:.9g} s to {at_ns / NS_PER_S:.9g} s; "
        f"sort the file by {_column(phase, 't_s')}"
    )


def _no_column(
    phase: TracePhase, ours: str, theirs: str, known: list[str], line: int = 1
) -> InputError:
    shown = [shorten(name) for name in known[:_SHOWN_COLUMNS]]
    problem = f"has no column {theirs!r}" + (f" for {ours!r}" if ours != theirs else "")
    if not shown:
        return InputError(
            problem,
            path=str(phase.path),
            line=line,
            hint="nothing stands there: check that this is the trace that was meant",
        )
    hint = nearest(theirs, shown)
    if theirs == ours:
        hint += f"; else map it: 'columns: {{{ours}: …}}'"
    if ours == "model":
        hint += ", or name one with 'model'"
    return InputError(problem, path=str(phase.path), line=line, hint=hint)


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")
