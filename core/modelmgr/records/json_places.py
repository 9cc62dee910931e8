"""Find the line and column of a value in JSON text, for messages about what a person wrote there.

The text is known to be JSON: msgspec has parsed it before. Values that are not on the way to the
place are skipped by the standard library's parser.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import cast

import msgspec

from modelmgr.records.type_paths import KeyPath

_SPACE = re.compile(r"[ \t\r\n]*")
_KEY = re.compile(rb'\s*[{,]\s*"(?:[^"\\]|\\.)*"\s*:\s*')
_END = re.compile(rb"\s*\{?\s*\}\s*$")
# Of what is skipped no number is made: one of 5,000 digits cannot be.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
_TEXT_OR_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*')


def find_value(text: str, at: KeyPath, *, on_key: bool = False) -> tuple[int, int]:
    """Return the 1-based line and column of a value, or of its key.

    Where there is no such value, the nearest one above it on the path is taken.
    """
    position = found = _skip_space(text, 0)
    for depth, step in enumerate(at):
        for key_position, key, value_position in _members(text, position):
            if key == step:
                is_last = depth == len(at) - 1
                found = key_position if on_key and is_last else value_position
                position = value_position
                break
        else:
            break
    return line_and_column(text, found)


def line_and_column(text: str, position: int) -> tuple[int, int]:
    """Return the 1-based line and column of a position in a text."""
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)


def find_number_out_of_range(text: str) -> tuple[int, str] | None:
    """Return the position and the text of the first number that nothing here can hold."""
    for found in _TEXT_OR_NUMBER.finditer(text):
        if found[0].startswith('"'):
            continue
        try:
            msgspec.json.decode(found[0])
        except msgspec.ValidationError:
            return found.start(), found[0]
    return None


def repeated_keys(text: str, at: KeyPath) -> dict[str, list[int]]:
    """Return the lines of every key that the mapping at a place has more than once."""
    position = _skip_space(text, 0)
    for step in at:
        members = _members(text, position)
        position = next((value for _, key, value in members if key == step), len(text))
    lines: dict[str, list[int]] = {}
    line = 1
    counted = 0
    for key_position, key, _ in _members(text, position):
        line += text.count("\n", counted, key_position)
        counted = key_position
        lines.setdefault(str(key), []).append(line)
    return {key: found for key, found in lines.items() if len(found) > 1}


def has_each_key_once(mapping: msgspec.Raw, members: Iterable[msgspec.Raw]) -> bool:
    """Return whether a mapping's text has no members but these: a repeated key has one more.

    Much faster than ``repeated_keys``, which says where they are.

    Args:
        mapping: its text, which is known to be JSON.
        members: the texts of its values as the decoder gave them, in its order.
    """
    text = memoryview(mapping)
    position = 0
    for value in members:
        key = _KEY.match(text, position)
        if key is None or bytes(text[key.end() : key.end() + len(value)]) != bytes(value):
            return False
        position = key.end() + len(value)
    return _END.match(text, position) is not None


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return position if match is None else match.end()


def _skip_value(text: str, position: int) -> int:
    _, end = _DECODER.raw_decode(text, position)
    return _skip_space(text, end)


def _members(text: str, position: int) -> Iterator[tuple[int, str | int, int]]:
    """Yield the place of the key, the key or index, and the place of the value, one by one."""
    opening = text[position : position + 1]
    if opening not in {"{", "["}:
        return
    position = _skip_space(text, position + 1)
    index = 0
    while text[position] not in "}]":
        key: str | int = index
        value_position = position
        if opening == "{":
            key, end = cast("tuple[str, int]", _DECODER.raw_decode(text, position))
            value_position = _skip_space(text, _skip_space(text, end) + 1)
        yield position, key, value_position
        position = _skip_value(text, value_position)
        if text[position] == ",":
            position = _skip_space(text, position + 1)
        index += 1
