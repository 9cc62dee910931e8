"""The lease that a caller gets: one that is forgotten is given back.

The manager keeps its own record of every lease (``runtime.lease``) for as long as the copy is held,
so it cannot see that nobody has it any more. What a caller gets is therefore an object of its own,
which nobody else keeps: when it is collected unreleased, as where a task that waited for it was
cancelled, its record goes to whoever is next inside the manager. The finaliser itself takes no lock
and does nothing else: it runs between any two instructions of any thread, whatever that one holds.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from functools import partial
from types import TracebackType
from typing import Any, NoReturn

import msgspec

from modelmgr.errors import LeaseError
from modelmgr.runtime.gate import Gate
from modelmgr.runtime.lease import Lease as Record


class Lease(msgspec.Struct, eq=False, weakref=True):
    """One granted copy. Use it in a ``with`` block, or call ``release`` exactly once.

    A lazy result (a generator) is the caller's to consume before the block ends. Keep the
    lease for as long as its instance is used: one that is forgotten is given back, with a
    ``ResourceWarning``.
    """

    _record: Record
    _gate: Gate

    @property
    def tag(self) -> str:
        """The model."""
        return self._record.tag

    @property
    def device(self) -> str:
        """The name of the device that the copy is on."""
        return self._record.device

    @property
    def copy(self) -> int:
        """The copy's number, never used again after it."""
        return self._record.copy

    @property
    def serial(self) -> int:
        """What fences this lease within its manager's life."""
        return self._record.serial

    @property
    def hit(self) -> bool:
        """Whether the copy had been loaded before."""
        return self._record.hit

    @property
    def instance(self) -> Any:  # noqa: ANN401 - whatever the caller's loader returned
        """What the loader returned."""
        return self._record.instance

    @property
    def holder(self) -> str:
        """The name of the thread that acquired it."""
        return self._record.holder

    @property
    def holder_ident(self) -> int:
        """That thread's identifier."""
        return self._record.holder_ident

    @property
    def exhausted(self) -> bool:
        """Whether its body ran out of memory, and its copy went."""
        return self._record.exhausted

    @property
    def over(self) -> bool:
        """Whether it was released."""
        return self._record.over

    def release(self) -> None:
        """Give the copy back.

        Raises:
            LeaseError: it was released before; nothing changed.
            UsageError: this is a forked child, and the lease its parent's; nothing changed.
        """
        self._record.release()

    def __enter__(self) -> Any:  # noqa: ANN401 - whatever the caller's loader returned
        """Return the instance; raise LeaseError where the lease is over."""
        return self._record.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release, unless the body did; out-of-memory in the body costs the copy.

        Nobody knows what state such a copy is in: it is unloaded, and the model's estimate rises.
        In a forked child the block just ends: the lease is its parent's.
        """
        if self._gate.foreign:
            return
        self._record.__exit__(kind, error, traceback)

    def __del__(self) -> None:
        """Hand what was forgotten to whoever is next inside; where nobody is left, to nobody."""
        record, gate = self._record, self._gate
        if record.over or gate.foreign or sys.is_finalizing():
            return
        gate.left.append((partial(_give_back, record), True))
        warnings.warn(
            f"{self!r} was forgotten and is given back; release it, or use it in a with block",
            ResourceWarning,
            stacklevel=2,
        )

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: one lease, one holder."""
        raise TypeError("a lease cannot be copied or sent elsewhere")

    __copy__ = __reduce__

    def __repr__(self) -> str:
        return repr(self._record)


def _give_back(record: Record) -> None:
    """Release what nobody can release any more. Under the lock."""
    with contextlib.suppress(LeaseError):  # an instance can be given back without its lease
        record.release()
