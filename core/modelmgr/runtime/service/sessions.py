"""A session is one client process: what it holds, and what becomes of that when it ends.

Owns the fence: a lease is (epoch, serial, session), and only all three together release it. A
session that ended holds nothing, whatever arrives later.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable

from modelmgr.errors import LeaseError, OutOfMemoryError
from modelmgr.runtime.driver import Driver
from modelmgr.runtime.lease import Lease
from modelmgr.workers.worker import Worker

_TOKEN_BYTES = 16


class Holding:
    """One lease in a client's hands.

    Attributes:
        lease: the manager's own.
        worker: the process that the copy lives in.
        calls: how many requests run in it now.
        confirmed: the client is known to have got the lease.
        doomed: a call was broken off, so nobody knows the state of its copy.
        out_of_memory: how its latest call ran out of memory, None where none did.
    """

    __slots__ = ("calls", "confirmed", "doomed", "lease", "out_of_memory", "worker")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.worker: Worker = lease.instance
        self.calls = 0
        self.confirmed = False
        self.doomed = False
        self.out_of_memory: OutOfMemoryError | None = None


class Session:
    """The leases of one client process. Thread-safe.

    Args:
        driver: gives leases back to the scheduler.
        epoch: this life of the server.
        pid: the client's process.
        pidfd: becomes readable when it ends, None where it cannot be seen; the session owns it.
        emptied: called whenever a lease ended.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        epoch: str,
        pid: int,
        pidfd: int | None,
        emptied: Callable[[], None],
    ) -> None:
        self.epoch = epoch
        self.pid = pid
        self.pidfd = pidfd
        self.token = secrets.token_bytes(_TOKEN_BYTES)
        self.started_ns = time.monotonic_ns()
        self.ended = False
        self._driver = driver
        self._emptied = emptied
        self._lock = threading.Lock()
        self._holdings: dict[int, Holding] = {}

    def is_proven_by(self, token: bytes, pid: int) -> bool:
        """Say whether a connection with this token, of this process, belongs here."""
        return hmac.compare_digest(token, self.token) and pid == self.pid

    def holdings(self) -> tuple[Holding, ...]:
        """Return what the client holds now."""
        with self._lock:
            return tuple(self._holdings.values())

    def add(self, lease: Lease) -> Holding | None:
        """Keep a lease for the client; None, and the lease is released, where it is gone."""
        holding = Holding(lease)
        with self._lock:
            if not self.ended:
                self._holdings[lease.serial] = holding
                return holding
        lease.release()
        return None

    def begin_call(self, epoch: str, serial: int) -> Holding:
        """Return a lease to make a call under; LeaseError where it is not in force."""
        with self._lock:
            holding = self._find(epoch, serial)
            holding.calls += 1
            holding.confirmed = True
            holding.out_of_memory = None
            return holding

    def end_call(self, holding: Holding) -> None:
        """Note that a call ended."""
        with self._lock:
            holding.calls -= 1

    def break_off(self, holding: Holding) -> None:
        """End a call whose caller is gone, and with it the process that it runs in."""
        with self._lock:
            holding.doomed = True
        holding.worker.kill()

    def release(self, epoch: str, serial: int, *, exhausted: bool = False) -> bool:
        """Take a lease back; a copy that a call of the client still runs in is destroyed.

        Args:
            epoch: the life of the server that granted it.
            serial: the lease.
            exhausted: the client says that its latest call ran out of memory.

        Returns:
            Whether the copy went because it ran out of memory.

        Raises:
            LeaseError: it is stale, foreign or was released before; nothing changed.
        """
        with self._lock:
            holding = self._find(epoch, serial)
            del self._holdings[serial]
            holding.doomed |= holding.calls > 0
        error = holding.out_of_memory
        if exhausted and error is not None and self._driver.ran_out(holding.lease, error):
            self._emptied()
            return True
        self._let_go(holding)
        return False

    def take_back(self, holding: Holding) -> None:
        """Take back a lease whose client never got to know of it."""
        with self._lock:
            if holding.confirmed or self._holdings.get(holding.lease.serial) is not holding:
                return
            del self._holdings[holding.lease.serial]
        self._let_go(holding)

    def end(self) -> tuple[Holding, ...]:
        """End the session; return what it held, for ``reclaim``. Does not wait for anything."""
        with self._lock:
            self.ended = True
            holdings = tuple(self._holdings.values())
            self._holdings.clear()
            running = [holding for holding in holdings if holding.calls]
            for holding in running:
                holding.doomed = True
        for holding in running:
            holding.worker.kill()
        return holdings

    def reclaim(self, holdings: tuple[Holding, ...]) -> None:
        """Give back what a session that ended held."""
        for holding in holdings:
            self._let_go(holding)

    def _find(self, epoch: str, serial: int) -> Holding:
        if epoch != self.epoch:
            raise LeaseError(
                f"lease {serial} is of an earlier life of the server ({epoch}, now {self.epoch}): "
                "acquire the model again"
            )
        holding = self._holdings.get(serial)
        if holding is None:
            raise LeaseError(
                f"lease {serial} is not one of this client's (process {self.pid}): it was released "
                "before, or is somebody else's"
            )
        return holding

    def _let_go(self, holding: Holding) -> None:
        try:
            if holding.doomed:
                holding.worker.kill()
                self._driver.lose_holder(holding.lease)
            elif not holding.lease.over:
                holding.lease.release()
        finally:
            self._emptied()
