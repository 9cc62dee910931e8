"""Read and write a result: JSON, versioned, checked, and replaced as a whole or not at all.

The types are in ``result``, the words of an error in ``validation``.
"""

from __future__ import annotations

import os
from pathlib import Path

from modelmgr.records.atomic_files import write_atomically
from modelmgr.records.input_files import read_input
from modelmgr.records.result import Result
from modelmgr.records.versioned_json import decode_record, encode_record
from modelmgr.units import MIB

MAX_FILE_BYTES = 512 * MIB
_WHAT = "result"
_HINT = "'modelmgr simulate' and 'modelmgr run' make results"


def load_result(path: str | Path) -> Result:
    """Read a result.

    Raises:
        InputError: there is no such file, or it is no result that this version can read.
    """
    content = read_input(path, limit_bytes=MAX_FILE_BYTES, what=_WHAT)
    return decode_result(content, path=os.fspath(path))


def save_result(result: Result, path: str | Path) -> None:
    """Write a result, atomically.

    Raises:
        UsageError: it cannot be written there; an old file is as it was.
    """
    write_atomically(path, encode_result(result))


def encode_result(result: Result) -> bytes:
    """Return the file's bytes: equal results give equal bytes.

    Raises:
        UsageError: a text in it is not Unicode.
    """
    return encode_record(result, what=_WHAT, indent=2)


def decode_result(content: bytes, *, path: str | None = None) -> Result:
    """Return the result that a file's bytes hold; ``path`` is for messages.

    Raises:
        InputError: as ``load_result``.
    """
    return decode_record(content, Result, path=path, what=_WHAT, hint=_HINT)
