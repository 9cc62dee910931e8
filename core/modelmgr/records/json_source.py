"""A JSON file's bytes while they are being read: decoding, and errors that know the line.

Owns what can be wrong with JSON as such. What the content must be is told by a type.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, TypeVar

import msgspec

from modelmgr.errors import InputError
from modelmgr.records.json_places import (
    find_number_out_of_range,
    find_value,
    line_and_column,
    repeated_keys,
)
from modelmgr.records.type_paths import KeyPath
from modelmgr.records.validation import convert, shorten
from modelmgr.units import MIB

T = TypeVar("T")

_BYTE = re.compile(r" \(byte (\d+)\)$")
_EXPLAINED_BYTES = 64 * MIB
_BOM = b"\xef\xbb\xbf"


class JsonSource:
    """The bytes of one JSON file. ``error`` is a ``validation.ErrorMaker``."""

    def __init__(self, content: bytes, path: str | None, *, what: str) -> None:
        """Check that the bytes are text at all.

        Args:
            content: the file's bytes.
            path: the file as the caller named it, None where there is none.
            what: what it should be, for messages.

        Raises:
            InputError: it is empty, or not UTF-8.
        """
        self._path = path
        self._what = what
        self._content = content.removeprefix(_BOM)
        self._has_places = True
        if not self._content or self._content.isspace():
            raise InputError(
                "is empty", path=path, hint=f"a {what} was expected; was its writing cut short?"
            )
        if self._content.isascii():
            return
        try:
            self._content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = self._content.count(b"\n", 0, error.start) + 1
            raise InputError(
                f"is not UTF-8 text: byte 0x{self._content[error.start]:02x}",
                path=path,
                line=line,
                column=error.start - self._content.rfind(b"\n", 0, error.start),
                hint=f"check that this is the {what} that was meant",
            ) from error

    @cached_property
    def _text(self) -> str:
        """The text, for places in it: of a file with nothing wrong in it nobody asks."""
        return self._content.decode("utf-8")

    def replaced(self, content: bytes) -> JsonSource:
        """Return a source of other content (migrated) whose places are not the file's."""
        source = JsonSource(content, self._path, what=self._what)
        source._has_places = False
        return source

    def error(
        self, at: KeyPath, problem: str, *, hint: str | None = None, on_key: bool = False
    ) -> InputError:
        """Return an error about the value, or the key, at a place."""
        line: int | None = None
        column: int | None = None
        if self._has_places:
            line, column = find_value(self._text, at, on_key=on_key)
        return InputError(problem, path=self._path, line=line, column=column, hint=hint)

    def decode(self, wanted: type[T], *, outline: type[Any] | None = None) -> T:
        """Return the content as a type that msgspec knows.

        Args:
            wanted: the type.
            outline: the same for plain values, to word an error with where ``wanted`` has raw JSON.

        Raises:
            InputError: not JSON, cut short, nested too deeply, or not of this type.
        """
        try:
            return self._parse(wanted)
        except msgspec.ValidationError as error:
            # The words need the plain values, which take twenty times the room of the text.
            if len(self._content) <= _EXPLAINED_BYTES:
                convert(self._parse(object), outline or wanted, self.error)
            raise self.error((), str(error)) from error

    def plain(self, part: msgspec.Raw) -> object:
        """Return a part of the content, which was parsed already, as plain values.

        Raises:
            InputError: a number in it is out of range.
        """
        try:
            return msgspec.json.decode(part, type=object)
        except msgspec.ValidationError as error:
            raise self._out_of_range(str(error)) from error

    def repeated_keys(self, at: KeyPath) -> dict[str, list[int]]:
        """Return the lines of every key that a mapping has more than once."""
        return repeated_keys(self._text, at) if self._has_places else {}

    def _parse(self, wanted: type[T]) -> T:
        try:
            return msgspec.json.decode(self._content, type=wanted)
        except msgspec.ValidationError as error:
            if "out of range" in str(error):
                raise self._out_of_range(str(error)) from error
            raise
        except msgspec.DecodeError as error:
            raise self._malformed(str(error)) from error
        except RecursionError:
            raise InputError(
                "is nested too deeply",
                path=self._path,
                hint=f"check that this is the {self._what} that was meant",
            ) from None

    def _out_of_range(self, message: str) -> InputError:
        """Return the error about a number such as 1e400, which no type can hold."""
        line: int | None = None
        column: int | None = None
        number = find_number_out_of_range(self._text)
        if number is None:
            return InputError(message, path=self._path)
        if self._has_places:
            line, column = line_and_column(self._text, number[0])
        return InputError(
            f"the number {shorten(number[1])} is out of range",
            path=self._path,
            line=line,
            column=column,
            hint="take an older copy, or measure again",
        )

    def _malformed(self, message: str) -> InputError:
        place = _BYTE.search(message)
        is_cut = "truncated" in message
        byte = len(self._content) if place is None else int(place.group(1))
        position = len(self._content[:byte].decode("utf-8", errors="replace"))
        line, column = line_and_column(self._text, position)
        problem = _BYTE.sub("", message).removeprefix("JSON is malformed: ")
        return InputError(
            "ends in the middle: it was cut short" if is_cut else f"not JSON: {problem}",
            path=self._path,
            line=line,
            column=column,
            hint="take an older copy, or measure again" if is_cut else None,
        )
