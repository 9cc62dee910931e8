"""Parse YAML text into a tree of nodes that know their lines, within stated bounds.

The tree is built from the parser's events, not by PyYAML's composer: that one recurses without a
bound, expands aliases without a bound, and keeps the last of two equal keys without a word. What
the values mean to us is none of this module's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from modelmgr.errors import InputError
from modelmgr.workload.yaml_scalars import resolve

MAX_NODES = 100_000
"""Values in a document, aliases expanded: a hundred times what a long list of models has."""
MAX_DEPTH = 64
"""Mappings and lists within each other."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one where libyaml is there
_TEXT_TAGS = frozenset({"!", "tag:yaml.org,2002:str"})
_MERGE = "<<"
_SHOWN_CHARACTERS = 60

Plain = bool | int | float | str | list["Plain"] | dict[str, "Plain"] | None
"""A value without its place."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a text; line and column are 1-based."""

    line: int
    column: int


@dataclass(slots=True)
class Scalar:
    """A single value; ``text`` is what was written."""

    mark: Mark
    value: bool | int | float | str | None
    text: str
    size: int = 1
    height: int = 1


@dataclass(slots=True)
class Sequence:
    """A list."""

    mark: Mark
    items: list[Node] = field(default_factory=list["Node"])
    size: int = 1
    height: int = 1


@dataclass(slots=True)
class Mapping:
    """A mapping with text keys; each entry is the key's place and the value."""

    mark: Mark
    entries: dict[str, tuple[Mark, Node]] = field(default_factory=dict[str, "tuple[Mark, Node]"])
    size: int = 1
    height: int = 1
    merged: list[Node] = field(default_factory=list["Node"])
    pending: tuple[Mark, str, bool] | None = None


Node = Scalar | Sequence | Mapping


def parse_yaml(text: str, path: str) -> Node | None:
    """Return the root of the one document in a text; None where the text has no document.

    Raises:
        InputError: not YAML, or more than the bounds allow, or a feature that has no place here.
    """
    builder = _Builder(path)
    try:
        for event in _events(text):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, path) from error
    except yaml.reader.ReaderError as error:
        raise _character_error(error, text, path) from error
    except yaml.YAMLError as error:
        raise InputError(f"not YAML: {error}", path=path) from error
    return builder.root


def to_plain(node: Node) -> Plain:
    """Return the values of a tree without their places."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [to_plain(item) for item in node.items]
    return {key: to_plain(value) for key, (_, value) in node.entries.items()}


def _events(text: str) -> Iterator[Any]:
    parse: Any = yaml.parse  # its stubs know neither the C loader nor the events' attributes
    yield from parse(text, Loader=_LOADER)


def _mark(mark: Any) -> Mark:  # noqa: ANN401 - PyYAML's two kinds of mark have no common type
    return Mark(mark.line + 1, mark.column + 1)


class _Builder:
    """Takes events one by one, so that a bomb is refused at the event that passes a bound."""

    def __init__(self, path: str) -> None:
        self.root: Node | None = None
        self._path = path
        self._open: list[Sequence | Mapping] = []
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def take(self, event: Any) -> None:  # noqa: ANN401 - PyYAML's events are untyped
        """Take one event of the parser."""
        if isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise self._error(
                _mark(event.start_mark),
                "a second document starts here",
                "keep one document a file: remove this '---' or split the file",
            )
        if isinstance(event, yaml.AliasEvent):
            self._take_alias(event)
        elif isinstance(event, yaml.ScalarEvent):
            self._take_scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open_collection(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close_collection()

    def _error(self, mark: Mark, problem: str, hint: str | None = None) -> InputError:
        return InputError(problem, path=self._path, line=mark.line, column=mark.column, hint=hint)

    def _spend(self, mark: Mark, size: int) -> None:
        self._count += size
        if self._count > MAX_NODES:
            raise self._error(
                mark,
                f"more than {MAX_NODES} values, aliases expanded",
                "split the file, or use fewer aliases",
            )

    def _take_alias(self, event: Any) -> None:  # noqa: ANN401 - PyYAML's events are untyped
        mark = _mark(event.start_mark)
        name: str = event.anchor
        node = self._anchors.get(name)
        shown = name[:_SHOWN_CHARACTERS]
        if node is None:
            raise self._error(
                mark,
                f"unknown alias '*{shown}'",
                f"write '&{shown}' at the value that it stands for, or quote the text",
            )
        if any(node is container for container in self._open):
            raise self._error(mark, f"the alias '*{shown}' stands for what it is a part of")
        if len(self._open) + node.height > MAX_DEPTH:
            raise self._too_deep(mark)
        self._spend(mark, node.size)
        self._add(node, mark)

    def _take_scalar(self, event: Any) -> None:  # noqa: ANN401 - PyYAML's events are untyped
        mark = _mark(event.start_mark)
        self._check_tag(event.tag, mark, _TEXT_TAGS)
        self._spend(mark, 1)
        text: str = event.value
        is_plain = event.tag is None and event.implicit[0]
        top = self._open[-1] if self._open else None
        if isinstance(top, Mapping) and top.pending is None:
            self._take_key(top, mark, text, is_plain=is_plain)
            return
        try:
            value = resolve(text) if is_plain else text
        except ValueError as error:
            raise self._error(mark, str(error), "quote it where it is meant as text") from error
        node = Scalar(mark, value, text)
        self._remember(event.anchor, node)
        self._add(node, mark)

    def _take_key(self, mapping: Mapping, mark: Mark, text: str, *, is_plain: bool) -> None:
        is_merge = is_plain and text == _MERGE
        earlier = mapping.entries.get(text)
        if earlier is not None and not is_merge:
            raise self._error(
                mark,
                f"the key {text[:_SHOWN_CHARACTERS]!r} is given twice, first in line "
                f"{earlier[0].line}",
                "keep one of the two",
            )
        mapping.pending = (mark, text, is_merge)

    def _open_collection(self, event: Any) -> None:  # noqa: ANN401 - PyYAML's events are untyped
        mark = _mark(event.start_mark)
        self._check_tag(event.tag, mark, frozenset())
        self._spend(mark, 1)
        top = self._open[-1] if self._open else None
        if isinstance(top, Mapping) and top.pending is None:
            raise self._error(mark, "a key must be text, not a list or a mapping")
        if len(self._open) >= MAX_DEPTH:
            raise self._too_deep(mark)
        node = Sequence(mark) if isinstance(event, yaml.SequenceStartEvent) else Mapping(mark)
        self._remember(event.anchor, node)
        self._open.append(node)

    def _close_collection(self) -> None:
        node = self._open.pop()
        if isinstance(node, Mapping):
            self._merge(node)
            children = [value for _, value in node.entries.values()]
        else:
            children = node.items
        node.size = 1 + sum(child.size for child in children)
        node.height = 1 + max((child.height for child in children), default=0)
        self._add(node, node.mark)

    def _merge(self, mapping: Mapping) -> None:
        """Fill in what ``<<`` names; the mapping's own keys win, then the earlier source."""
        for source in mapping.merged:
            if not isinstance(source, Mapping):
                raise self._error(source.mark, "'<<' takes a mapping, or a list of mappings")
            for key, entry in source.entries.items():
                if key not in mapping.entries:
                    mapping.entries[key] = entry
        mapping.merged = []

    def _add(self, node: Node, mark: Mark) -> None:
        if not self._open:
            self.root = node
            return
        top = self._open[-1]
        if isinstance(top, Sequence):
            top.items.append(node)
            return
        if top.pending is None:
            raise self._error(mark, "a key must be text, not an alias")
        key_mark, key, is_merge = top.pending
        top.pending = None
        if is_merge:
            top.merged += node.items if isinstance(node, Sequence) else [node]
        else:
            top.entries[key] = (key_mark, node)

    def _remember(self, anchor: str | None, node: Node) -> None:
        if anchor is not None:
            self._anchors[anchor] = node

    def _check_tag(self, tag: str | None, mark: Mark, allowed: frozenset[str]) -> None:
        if tag is not None and tag not in allowed:
            shown = tag.replace("tag:yaml.org,2002:", "!!")[:_SHOWN_CHARACTERS]
            raise self._error(mark, f"the YAML tag {shown!r} is not supported", "remove the tag")

    def _too_deep(self, mark: Mark) -> InputError:
        return self._error(mark, f"more than {MAX_DEPTH} levels of lists and mappings")


def _syntax_error(error: yaml.MarkedYAMLError, path: str) -> InputError:
    problem = error.problem or "cannot be parsed"
    hint: str | None = None
    if "cannot start any token" in problem:
        hint = "indent with spaces, not tabs, and quote text that starts with @, ` or %"
    elif "mapping values are not allowed" in problem:
        hint = "check the indentation, and quote text that contains ': '"
    elif error.context is not None and error.context_mark is not None:
        hint = f"{error.context} that starts in line {error.context_mark.line + 1}"
    mark = None if error.problem_mark is None else _mark(error.problem_mark)
    return InputError(
        f"not YAML: {problem}",
        path=path,
        line=None if mark is None else mark.line,
        column=None if mark is None else mark.column,
        hint=hint,
    )


def _character_error(error: yaml.reader.ReaderError, text: str, path: str) -> InputError:
    """Name the place of a character that YAML forbids; the two readers disagree on positions."""
    for number, line in enumerate(text.split("\n"), start=1):
        for column, character in enumerate(line, start=1):
            if ord(character) == error.character:
                return InputError(
                    f"not YAML: the control character {character!r}",
                    path=path,
                    line=number,
                    column=column,
                    hint="remove it; a file full of them is no text file",
                )
    return InputError(f"not YAML: {error.reason}", path=path)
