"""A YAML file as plain values that still know their lines; for model lists and for scenarios.

Owns the way from a path to values with places. What keys there may be is its callers' business.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from modelmgr.errors import InputError
from modelmgr.records.input_files import read_input
from modelmgr.records.type_paths import KeyPath
from modelmgr.units import MIB
from modelmgr.workload.yaml_tree import Mapping, Mark, Node, Plain, Sequence, parse_yaml, to_plain

MAX_FILE_BYTES = 4 * MIB
_STARTS = {
    "model list": "'modelmgr init' makes one",
    "scenario": "'modelmgr schema scenario' has its keys",
}
_SCHEMA = "'modelmgr schema' lists the formats"


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file. ``error`` suits ``records.validation.convert`` as its maker of errors.

    Attributes:
        path: the file, as the caller named it.
        root: the tree with its places.
    """

    path: str
    root: Node

    def plain(self) -> Plain:
        """Return the values without their places."""
        return to_plain(self.root)

    def find(self, at: KeyPath, *, on_key: bool = False) -> Mark:
        """Return where a value stands, or its key; the nearest place above where there is none."""
        node = self.root
        mark = node.mark
        for step in at:
            if isinstance(node, Mapping) and isinstance(step, str) and step in node.entries:
                key_mark, node = node.entries[step]
                mark = key_mark if on_key else node.mark
            elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
                node = node.items[step]
                mark = node.mark
            else:
                break
        return mark

    def error(
        self, at: KeyPath, problem: str, *, hint: str | None = None, on_key: bool = False
    ) -> InputError:
        """Return an error about the value, or the key, at a place."""
        mark = self.find(at, on_key=on_key)
        return InputError(problem, path=self.path, line=mark.line, column=mark.column, hint=hint)


def read_document(path: str | Path, *, what: str) -> Document:
    """Read a YAML file of at most 4 MiB.

    Args:
        path: the file.
        what: what it should be, for messages (``model list``).

    Raises:
        InputError: it cannot be read, is empty, not UTF-8, not YAML, or beyond a bound.
    """
    name = os.fspath(path)
    content = read_input(path, limit_bytes=MAX_FILE_BYTES, what=what)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"is not UTF-8 text: byte 0x{content[error.start]:02x}",
            path=name,
            line=line,
            column=error.start - content.rfind(b"\n", 0, error.start),
            hint="save the file as UTF-8",
        ) from error
    return parse_document(text, name, what=what)


def parse_document(text: str, path: str, *, what: str) -> Document:
    """Parse a text that was read from ``path``; raise InputError as ``read_document`` does."""
    root = parse_yaml(text, path)
    if root is None:
        raise InputError(
            "is empty", path=path, hint=f"write a {what} into it; {_STARTS.get(what, _SCHEMA)}"
        )
    return Document(path, root)
