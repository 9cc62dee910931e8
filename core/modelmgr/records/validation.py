"""Turn plain values into typed ones, and what does not fit into one clear sentence.

msgspec does the checking; this module owns the words: which place, what was expected, what was
found, what was probably meant. Where the place is in a file is the caller's to know: it passes in a
maker of errors. Nothing here reads a file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import msgspec
from msgspec import inspect

from modelmgr.errors import InputError
from modelmgr.records.type_paths import (
    PLACE,
    KeyPath,
    description_of,
    find_place,
    keys_of,
    member,
    types_at,
    unwrap,
    value_at,
)

T = TypeVar("T")


class ErrorMaker(Protocol):
    """Makes the error for a place in a document; ``on_key`` means the key, not its value."""

    def __call__(
        self, at: KeyPath, problem: str, *, hint: str | None = None, on_key: bool = False
    ) -> InputError:
        """Return the error with the place's line and column where they are known."""
        ...


_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}
_BOUND = re.compile(r"Expected `\w+` (>=|<=|<|>) (\S+)$")
_LENGTH = re.compile(r"Expected `\w+` of length (>=|<=|) ?(\d+)")
_EXPECTED = re.compile(r"Expected `([^`]+)`(?:, got `\w+`)?$")
_FIELD = re.compile(r"Object (contains unknown|missing required) field `([^`]*)`$")
_SHOWN_CHARACTERS = 60
_LONGEST_KEY = 100  # difflib is quadratic, and no key of ours is longer


def convert(value: object, wanted: type[T], error: ErrorMaker, *, base: KeyPath = ()) -> T:
    """Return ``value`` as ``wanted``; raise what ``error`` makes of the first thing that misfits.

    Args:
        value: plain values: None, bool, int, float, str, list, dict with text keys.
        wanted: a type that msgspec knows.
        error: makes the error from a place and a sentence.
        base: where ``value`` itself stands in its document.

    Raises:
        InputError: as ``error`` makes it.
    """
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError as mismatch:
        message = str(mismatch)
    except RecursionError:
        raise error(base, "is nested too deeply") from None
    at, on_key = find_place(message, value, wanted)
    misfit = _Misfit(
        message=PLACE.sub("", message),
        value=value_at(value, at),
        kinds=tuple(types_at(value, wanted, at)),
        tags=_tags_at(wanted, value, at),
        where=base + at,
        error=error,
    )
    raise misfit.explain_key() if on_key else misfit.explain()


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?``, else the list of known words."""
    words = list(dict.fromkeys(known))
    close = difflib.get_close_matches(word[:_LONGEST_KEY], words, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(words)}" if words else "nothing is allowed here"


def show(value: object) -> str:
    """Return a value in a sentence's length."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {shorten(value)!r}"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return str(value)[:_SHOWN_CHARACTERS]


def shorten(text: str) -> str:
    """Return the text, cut to what a message can show."""
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def place_name(at: KeyPath) -> str:
    """Return ``models[0].tag`` for ``("models", 0, "tag")``."""
    parts = (f"[{step}]" if isinstance(step, int) else f".{shorten(step)}" for step in at)
    return "".join(parts).removeprefix(".") or "the document"


def _tags_at(wanted: type[Any], value: object, at: KeyPath) -> tuple[str, ...]:
    """Return the allowed values where the place is the tag of a union of structs."""
    if not at:
        return ()
    owners = map(unwrap, types_at(value, wanted, at[:-1]))
    return tuple(
        str(kind.tag)
        for kind in owners
        if isinstance(kind, inspect.StructType) and kind.tag_field == at[-1]
    )


@dataclass(frozen=True, slots=True)
class _Misfit:
    """One value that is not what it must be, with all that a sentence about it needs."""

    message: str
    value: object
    kinds: tuple[inspect.Type, ...]
    tags: tuple[str, ...]
    where: KeyPath
    error: ErrorMaker

    def explain(self) -> InputError:
        """Say what was expected of a value and what was found."""
        subject = place_name(self.where)
        field = _FIELD.match(self.message)
        if field is not None:
            known = field.group(1) == "contains unknown"
            return self._unknown(field.group(2)) if known else self._missing(field.group(2))
        if self.message.startswith("Invalid"):
            found = repr(shorten(self.value)) if isinstance(self.value, str) else show(self.value)
            return self.error(
                self.where, f"{subject} cannot be {found}", hint=self._allowed_values()
            )
        bound = _BOUND.match(self.message)
        if bound is not None:
            sign = {">=": "at least", "<=": "at most", "<": "less than", ">": "more than"}
            limit = f"{sign[bound.group(1)]} {bound.group(2)}"
            return self.error(self.where, f"{subject} must be {limit}, not {show(self.value)}")
        length = _LENGTH.match(self.message)
        if length is not None and isinstance(self.value, Sized):
            size = len(self.value)
            sign = {">=": "at least ", "<=": "at most ", "": ""}
            limit = f"must have {sign[length.group(1)]}{length.group(2)} entries or characters"
            if size == 0:
                return self.error(self.where, f"{subject} is empty", hint="add at least one entry")
            return self.error(self.where, f"{subject} {limit}, not {size}")
        return self.error(
            self.where, f"{subject} must be {self._expected()}, not {show(self.value)}"
        )

    def explain_key(self) -> InputError:
        """Say which key of a mapping is not allowed."""
        subject = place_name(self.where)
        for kind in map(unwrap, self.kinds):
            if not isinstance(kind, inspect.DictType):
                continue
            rule = unwrap(kind.key_type)
            pattern = rule.pattern if isinstance(rule, inspect.StrType) else None
            for key in keys_of(self.value):
                if pattern is not None and re.search(pattern, key) is None:
                    described = description_of(kind.key_type) or f"text that matches {pattern}"
                    problem = f"{subject}: the key {shorten(key)!r} must be {described}"
                    return self.error((*self.where, key), problem, on_key=True)
        return self.error(self.where, f"{subject}: {self.message}", on_key=True)

    def _expected(self) -> str:
        described = [text for text in map(description_of, self.kinds) if text is not None]
        if described:
            return " or ".join(dict.fromkeys(described))
        expected = _EXPECTED.match(self.message)
        if expected is None:
            return f"otherwise ({self.message})"
        words = [_WORDS.get(word, word) for word in expected.group(1).split(" | ")]
        return " or ".join([word for word in words if word != "nothing"] or words)

    def _structs(self) -> list[inspect.StructType]:
        structs = [kind for kind in map(unwrap, self.kinds) if isinstance(kind, inspect.StructType)]
        named = [
            kind
            for kind in structs
            if kind.tag_field is None or member(self.value, kind.tag_field) == kind.tag
        ]
        return named or structs

    def _known_keys(self) -> list[str]:
        structs = self._structs()
        tag_fields = [kind.tag_field for kind in structs if kind.tag_field is not None]
        return [*tag_fields, *(field.encode_name for kind in structs for field in kind.fields)]

    def _unknown(self, name: str) -> InputError:
        owner = f" in {place_name(self.where)}" if self.where else ""
        return self.error(
            (*self.where, name),
            f"unknown key {shorten(name)!r}{owner}",
            hint=nearest(name, self._known_keys()),
            on_key=True,
        )

    def _missing(self, name: str) -> InputError:
        known = self._known_keys()
        strange = [
            key for key in keys_of(self.value) if key not in known and len(key) < _LONGEST_KEY
        ]
        close = difflib.get_close_matches(name, strange, n=1, cutoff=0.6)
        if close:  # it is there, but misspelt: that is the thing to say
            owner = f" in {place_name(self.where)}" if self.where else ""
            problem = f"unknown key {close[0]!r}{owner}"
            hint = f"did you mean {name!r}?"
            return self.error((*self.where, close[0]), problem, hint=hint, on_key=True)
        tags = [str(kind.tag) for kind in self._structs() if kind.tag_field == name]
        hint = f"add {name!r}" + (f", one of: {', '.join(tags)}" if tags else "")
        return self.error(self.where, f"{place_name(self.where)} has no {name!r}", hint=hint)

    def _allowed_values(self) -> str | None:
        known = list(self.tags)
        for kind in map(unwrap, self.kinds):
            if isinstance(kind, inspect.LiteralType):
                known += [str(item) for item in cast("tuple[Any, ...]", kind.values)]
        return nearest(str(self.value), known) if known else None
