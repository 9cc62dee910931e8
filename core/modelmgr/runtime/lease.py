"""A lease: one holder's right to one copy, fenced so that it can end only once."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, NoReturn, Protocol

import msgspec

from modelmgr.errors import LeaseError


class LeaseKeeper(Protocol):
    """Who granted a lease, and takes it back."""

    def release(self, lease: Lease) -> None:
        """Take a lease's copy back."""
        ...

    def ran_out(self, lease: Lease, error: BaseException) -> bool:
        """Unload a lease's copy where the error says that memory ran out; say whether it did."""
        ...


class Lease(msgspec.Struct, eq=False):
    """One granted copy. Use it in a ``with`` block, or call ``release`` exactly once.

    A lazy result (a generator) is the caller's to consume before the block ends. It is a struct
    because one is made for every grant: that takes a quarter of what ``__init__`` would.

    Attributes:
        tag: the model.
        device: the name of the device that the copy is on.
        copy: the copy's number, never used again after it.
        serial: what fences this lease within its manager's life.
        hit: the copy had been loaded before.
        instance: what the loader returned.
        exhausted: its body ran out of memory, and its copy went.
        over: it was released; its keeper alone says so, when that becomes true.
    """

    _keeper: LeaseKeeper
    tag: str
    device: str
    copy: int
    serial: int
    hit: bool
    _thread: threading.Thread
    instance: Any
    exhausted: bool = False
    over: bool = False

    @property
    def holder(self) -> str:
        """The name of the thread that acquired it."""
        return self._thread.name

    @property
    def holder_ident(self) -> int:
        """That thread's identifier."""
        return self._thread.ident or 0

    def release(self) -> None:
        """Give the copy back.

        Raises:
            LeaseError: it was released before; nothing changed.
        """
        if self.over:
            raise LeaseError(f"this lease of {self.tag!r} (copy {self.copy}) was released before")
        self._keeper.release(self)

    def end(self) -> None:
        """Mark the lease as over; for the manager, at the moment when that becomes true.

        Raises:
            LeaseError: it was over before.
        """
        if self.over:
            raise LeaseError(f"this lease of {self.tag!r} (copy {self.copy}) was released before")
        self.over = True

    def __enter__(self) -> Any:  # noqa: ANN401 - whatever the caller's loader returned
        """Return the instance; raise LeaseError where the lease is over."""
        if self.over:
            raise LeaseError(f"this lease of {self.tag!r} is over: acquire the model again")
        return self.instance

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: one lease, one holder."""
        raise TypeError("a lease cannot be copied or sent elsewhere")

    __copy__ = __reduce__

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release, unless the body did; out-of-memory in the body costs the copy.

        Nobody knows what state such a copy is in: it is unloaded, and the model's estimate rises.
        """
        if self.over:
            return
        self.exhausted = error is not None and self._keeper.ran_out(self, error)
        if not self.exhausted:
            self.release()

    def __repr__(self) -> str:
        state = "over" if self.over else f"held by {self.holder}"
        return f"<Lease of {self.tag!r} copy {self.copy} on {self.device}, {state}>"
