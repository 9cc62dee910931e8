"""The manager, as ``profile`` drives it: one device, isolation exclusive, nothing else on it.

The only module of this room that knows ``runtime.ModelManager``. An unknown model's first lease
flushes the device and loads alone (that is the manager's isolation, and its flush of the model
before is the eviction trace in the database); later leases of the same tag find it known.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from modelmgr.devices.reading import MemoryReader
from modelmgr.errors import ShutdownTimeoutError
from modelmgr.measuring.worker_copy import WorkerCopy
from modelmgr.records.costs import Eviction
from modelmgr.runtime.callers_lease import Lease
from modelmgr.runtime.manager import ModelManager
from modelmgr.units import MIB

_UNLOAD_TIMEOUT_S = 30.0
_SHUTDOWN_TIMEOUT_S = 1.0  # everything is unloaded by then but for the bookkeeping
# A copy that does not come within this time waits for room that nobody will make.
_WAIT_TIMEOUT_S = 120.0
# Unloads and settling are seen at the poll: often enough that a run does not wait for them.
_POLL_INTERVAL_S = 0.02


class CopyLoader:
    """What the manager calls for a copy: it runs in a process of its own, and says so."""

    own_process = True

    def __init__(self, make: Callable[[], WorkerCopy], made: Callable[[WorkerCopy], None]) -> None:
        """Take what makes a copy, and who is to know of it."""
        self._make = make
        self._made = made

    def __call__(self) -> WorkerCopy:
        """Return a new copy."""
        copy = self._make()
        self._made(copy)
        return copy


class Isolation:
    """One manager over one device, within a ``with`` block."""

    def __init__(self, reader: MemoryReader) -> None:
        """Manage the reader's device; the reader stays its owner's to close."""
        self._copies: list[WorkerCopy] = []
        self._manager = ModelManager(
            devices=[reader.description],
            readers=[reader],
            policy="lru",
            isolation="exclusive",
            eviction_cooldown_seconds=0.0,
            min_model_copies=0,
            poll_interval=_POLL_INTERVAL_S,
            learn_in_use=False,
            wait_timeout_seconds=_WAIT_TIMEOUT_S,
        )

    def lease(self, tag: str, make: Callable[[], WorkerCopy]) -> Lease:
        """Return a lease of a copy: an idle one where there is one, else one that ``make`` makes.

        In a ``with`` block it gives the ``WorkerCopy``.
        """
        return self._manager.lease(tag, CopyLoader(make, self._copies.append))

    def learn(self, tag: str, peak_bytes: int) -> None:
        """Tell the manager what a copy takes at most: our figure is better than its own.

        To be called while the first copy is held: its release ends the isolation.
        """
        self._manager.estimator.set_initial_estimate(tag, peak_bytes / MIB)

    def unload_idle(self) -> None:
        """Unload every copy (none may be held) and wait until all of them are gone."""
        self._manager.force_reset()
        for copy in self._copies:
            copy.wait_closed(_UNLOAD_TIMEOUT_S)
        self._copies.clear()

    def evictions(self) -> tuple[Eviction, ...]:
        """Return every eviction so far, explained."""
        return self._manager.evictions()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.unload_idle()
        # What is not gone by then goes with the launcher: processes are killed in the end.
        with suppress(ShutdownTimeoutError):
            self._manager.shutdown(timeout=_SHUTDOWN_TIMEOUT_S)
