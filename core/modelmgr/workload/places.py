"""Read quantities at a place of a document: what is wrong with one names the line and the key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, overload

from modelmgr.errors import InputError
from modelmgr.records.type_paths import KeyPath
from modelmgr.records.validation import place_name
from modelmgr.units import parse_bytes, parse_duration_ns, parse_fraction, parse_rate_per_s
from modelmgr.workload.document import Document

T = TypeVar("T", int, float)


@dataclass(frozen=True, slots=True)
class At:
    """A place in a document; ``at / key`` is a place within it.

    Attributes:
        document: the document.
        path: keys and indices from its root.
    """

    document: Document
    path: KeyPath

    def __truediv__(self, step: str | int) -> At:
        return At(self.document, (*self.path, step))

    @property
    def name(self) -> str:
        """What messages call this place: ``models[0].tag``."""
        return place_name(self.path)

    @property
    def line(self) -> int:
        """Where it stands, 1-based."""
        return self.document.find(self.path).line

    def error(self, problem: str, *, hint: str | None = None, on_key: bool = False) -> InputError:
        """Return an error about what stands here."""
        return self.document.error(self.path, problem, hint=hint, on_key=on_key)

    def wrong(self, problem: str, *, hint: str | None = None) -> InputError:
        """Return an error that begins with this place's name."""
        return self.error(f"{self.name}: {problem}", hint=hint)

    @overload
    def bytes(self, text: str) -> int: ...
    @overload
    def bytes(self, text: str | None) -> int | None: ...
    def bytes(self, text: str | None) -> int | None:
        """Return a size."""
        return None if text is None else self._read(text, parse_bytes)

    @overload
    def duration_ns(self, text: str) -> int: ...
    @overload
    def duration_ns(self, text: str | None) -> int | None: ...
    def duration_ns(self, text: str | None) -> int | None:
        """Return a duration."""
        return None if text is None else self._read(text, parse_duration_ns)

    def positive_bytes(self, text: str) -> int:
        """Return a size; refuse 0."""
        return self._positive(text, self.bytes(text))

    def positive_ns(self, text: str) -> int:
        """Return a duration; refuse 0."""
        return self._positive(text, self.duration_ns(text))

    def rate_per_s(self, text: str) -> float:
        """Return a rate, events a second."""
        return self._read(text, parse_rate_per_s)

    def positive_rate_per_s(self, text: str) -> float:
        """Return a rate; refuse 0."""
        return self._positive(text, self.rate_per_s(text))

    def share(self, written: str | float) -> float:
        """Return a share, 0 to 1."""
        return self._read(written, parse_fraction) if isinstance(written, str) else written

    def _read(self, text: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise self.wrong(str(error)) from error

    def _positive(self, text: str, value: T) -> T:
        if value > 0:
            return value
        raise self.wrong(f"must be more than 0, not {text!r}")
