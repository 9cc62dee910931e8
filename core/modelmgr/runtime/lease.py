"""A lease: one holder's right to one copy, fenced so that it can end only once."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, NoReturn, Protocol

from modelmgr.errors import LeaseError


class LeaseKeeper(Protocol):
    """Who granted a lease, and takes it back."""

    def release(self, lease: Lease) -> None:
        """Take a lease's copy back."""
        ...

    def ran_out(self, lease: Lease, error: BaseException) -> bool:
        """Unload a lease's copy where the error says that memory ran out; say whether it did."""
        ...


class Lease:
    """One granted copy. Use it in a ``with`` block, or call ``release`` exactly once.

    A lazy result (a generator) is the caller's to consume before the block ends.

    Attributes:
        tag: the model.
        device: the name of the device that the copy is on.
        copy: the copy's number, never used again after it.
        serial: what fences this lease within its manager's life.
        hit: the copy had been loaded before.
        instance: what the loader returned.
        exhausted: its body ran out of memory, and its copy went.
    """

    __slots__ = (
        "_keeper",
        "_over",
        "_thread",
        "copy",
        "device",
        "exhausted",
        "hit",
        "instance",
        "serial",
        "tag",
    )

    def __init__(  # noqa: PLR0917 - made for every grant: keywords cost a third of it
        self,
        keeper: LeaseKeeper,
        tag: str,
        device: str,
        copy: int,
        serial: int,
        hit: bool,
        thread: threading.Thread,
        instance: Any,  # noqa: ANN401 - whatever the caller's loader returned
    ) -> None:
        self._keeper = keeper
        self.tag = tag
        self.device = device
        self.copy = copy
        self.serial = serial
        self.hit = hit
        self._thread = thread
        self.instance: Any = instance
        self.exhausted = False
        self._over = False

    @property
    def holder(self) -> str:
        """The name of the thread that acquired it."""
        return self._thread.name

    @property
    def holder_ident(self) -> int:
        """That thread's identifier."""
        return self._thread.ident or 0

    @property
    def over(self) -> bool:
        """Whether it was released."""
        return self._over

    def release(self) -> None:
        """Give the copy back.

        Raises:
            LeaseError: it was released before; nothing changed.
        """
        if self._over:
            raise LeaseError(f"this lease of {self.tag!r} (copy {self.copy}) was released before")
        self._keeper.release(self)

    def end(self) -> None:
        """Mark the lease as over; for the manager, at the moment when that becomes true.

        Raises:
            LeaseError: it was over before.
        """
        if self._over:
            raise LeaseError(f"this lease of {self.tag!r} (copy {self.copy}) was released before")
        self._over = True

    def __enter__(self) -> Any:  # noqa: ANN401 - whatever the caller's loader returned
        """Return the instance; raise LeaseError where the lease is over."""
        if self._over:
            raise LeaseError(f"this lease of {self.tag!r} is over: acquire the model again")
        return self.instance

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: one lease, one holder."""
        raise TypeError("a lease cannot be copied or sent elsewhere")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release, unless the body did; out-of-memory in the body costs the copy.

        Nobody knows what state such a copy is in: it is unloaded, and the model's estimate rises.
        """
        if self._over:
            return
        self.exhausted = error is not None and self._keeper.ran_out(self, error)
        if not self.exhausted:
            self.release()

    def __repr__(self) -> str:
        state = "over" if self._over else f"held by {self.holder}"
        return f"<Lease of {self.tag!r} copy {self.copy} on {self.device}, {state}>"
