"""Read what is to be compared: which kind a file is, and where a result's decision log lies.

Owns the way from two paths to two records of one kind. It judges nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from modelmgr.comparing.catalogue import KINDS
from modelmgr.errors import InputError
from modelmgr.records.codec import decode_costs
from modelmgr.records.costs import CostDatabase
from modelmgr.records.input_files import read_input
from modelmgr.records.json_source import JsonSource
from modelmgr.records.result import Result
from modelmgr.records.result_codec import decode_result
from modelmgr.records.validation import shorten
from modelmgr.units import MIB

MAX_FILE_BYTES = 256 * MIB
"""Half of what one file alone may have: two are held at once. 1,000 models of 20 shapes have 13."""
_WHAT = "cost database or result"
_CHUNK_BYTES = MIB
_HEAD_BYTES = 200
_KIND = re.compile(rb'\A\s*\{\s*"schema_version"\s*:\s*\d+\s*,\s*"kind"\s*:\s*"([\w.]+)"', re.ASCII)

Side = CostDatabase | Result


class _Head(msgspec.Struct):
    """What says how to read the rest."""

    kind: object = None


def read_side(path: str | Path) -> Side:
    """Read a cost database or a result, whichever the file is.

    Raises:
        InputError: there is no such file, it is larger than 256 MiB, or neither of the two.
    """
    return decode_side(read_content(path), os.fspath(path))


def read_content(path: str | Path) -> bytes:
    """Return the bytes of what is to be compared; InputError as ``read_side``."""
    return read_input(path, limit_bytes=MAX_FILE_BYTES, what=_WHAT)


def decode_side(content: bytes, name: str) -> Side:
    """Return what is in the bytes of a file of that name; InputError as ``read_side``."""
    found = _KIND.search(content, 0, _HEAD_BYTES)
    # What the first lines say is checked by the reader of that kind.
    kind = found[1].decode() if found else JsonSource(content, name, what=_WHAT).decode(_Head).kind
    if kind == CostDatabase.KIND:
        return decode_costs(content, path=name)
    if kind == Result.KIND:
        return decode_result(content, path=name)
    shown = f"of kind {shorten(kind)!r}" if isinstance(kind, str) else "without a 'kind'"
    raise InputError(
        f"is a file {shown}",
        path=name,
        hint=f"{' and '.join(KINDS.values())} files can be compared",
    )


def check_one_kind(old: Side, new: Side, names: tuple[str, str]) -> None:
    """Refuse a cost database beside a result.

    Raises:
        InputError: names what each of them is.
    """
    if type(old) is not type(new):
        raise InputError(
            f"is of kind {new.KIND!r}, and {names[0]} is of kind {old.KIND!r}",
            path=names[1],
            hint="compare two of the same kind",
        )


@contextmanager
def opened_log(result: Result, path: Path) -> Generator[BinaryIO | None]:
    """Open a result's decision log, within a ``with`` block; None where it is not to be found.

    It is what the result names, or else lies beside it as ``NAME.jsonl`` for ``NAME.json`` or
    begins with ``NAME`` and ends in ``.jsonl``. Only a log whose hash is the result's counts.
    """
    for candidate in _candidates(result, path):
        try:
            if not candidate.is_file():
                continue  # a pipe that nobody writes to, or a device without end, would hold us up
            with candidate.open("rb") as log:
                if _sha256(log) == result.decisions_sha256:
                    log.seek(0)
                    yield log
                    return
        except OSError:
            continue
    yield None


def check_named(path: Path) -> None:
    """Refuse the empty path, ``.`` and ``/``: nothing can lie beside them.

    Raises:
        InputError: it is one of them.
    """
    if not path.name:
        raise InputError(f"is a folder, not a {_WHAT}", path=str(path), hint="name a file in it")


def is_there(path: Path) -> bool:
    """Return whether a path leads to anything; of what nobody may look into, reading it tells."""
    try:
        return path.exists()
    except OSError:
        return True


def log_beside(path: Path) -> Path:
    """Return where a result's decision log is looked for first."""
    return path.with_suffix(".jsonl")


def _candidates(result: Result, path: Path) -> Iterator[Path]:
    named = result.evictions_trace
    if isinstance(named, str):
        yield Path(named)
        yield path.parent / Path(named).name
    yield log_beside(path)
    yield from sorted(path.parent.glob(f"{_literal(path.stem)}*.jsonl"))


def _literal(stem: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in stem)


def _sha256(log: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := log.read(_CHUNK_BYTES):
        digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"
