"""Answers what one client asks on one connection.

Owns what each request means; how it came and how the answer goes is ``connection``'s work. A
request for a lease or a call may take long: whoever notices that the client is gone calls
``client_gone`` from another thread.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from modelmgr.errors import (
    AcquireTimeoutError,
    ManagerClosedError,
    OutOfMemoryError,
    UsageError,
    WorkerDiedError,
    WorkerProtocolError,
)
from modelmgr.runtime.manager import ModelManager
from modelmgr.runtime.service import messages
from modelmgr.runtime.service.catalogue import Catalogue
from modelmgr.runtime.service.parcels import Parcel, arrays_of
from modelmgr.runtime.service.sessions import Holding, Session
from modelmgr.runtime.service.waiting import PendingRequest, WorkerSettings
from modelmgr.scheduling.states import LOADED
from modelmgr.workers import payload
from modelmgr.workers.shared_arrays import Segment
from modelmgr.workers.worker import Worker

_LOADED = frozenset(state.value for state in LOADED)
Answered = tuple[messages.Reply, Sequence[memoryview] | Segment]
_NO_BUFFERS: Sequence[memoryview] = ()
_DONE: Answered = (messages.Done(), _NO_BUFFERS)
_RELEASED: Answered = (messages.Answer(holds=False), _NO_BUFFERS)
_EXHAUSTED: Answered = (messages.Answer(holds=True), _NO_BUFFERS)


class ClientGoneError(Exception):
    """The client hung up: there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Service:
    """What all connections of a server share.

    Attributes:
        manager: the one of the machine.
        catalogue: the models that clients may ask for.
        workers: how workers are started.
        wait_timeout_s: how long a request waits that does not say it.
        stopping: set when the server takes no further request.
        stop: ends the server, in a thread of its own.
        clients: tells who is connected.
    """

    manager: ModelManager
    catalogue: Catalogue
    workers: WorkerSettings
    wait_timeout_s: float | None
    stopping: threading.Event
    stop: Callable[[float | None], None]
    clients: Callable[[], tuple[messages.ClientInfo, ...]]


class Desk:
    """Answers the requests of one connection, one at a time.

    Args:
        service: what it shares with the others.
        session: whose connection it is.
    """

    def __init__(self, service: Service, session: Session) -> None:
        self._service = service
        self._driver = service.manager.driver
        self._session = session
        self._lock = threading.Lock()
        self._gone = False
        self._pending: PendingRequest | None = None
        self._calling: Holding | None = None
        self._unconfirmed: Holding | None = None
        self._answers: dict[type, Callable[[Any, Parcel], Answered]] = {
            messages.Acquire: self._acquire,
            messages.Release: self._release,
            messages.Infer: self._infer,
            messages.RunShape: self._run_shape,
            messages.ReadMemory: self._read_memory,
            messages.AskAlive: self._ask_alive,
            messages.ListCopies: self._list_copies,
            messages.ListModels: self._list_models,
            messages.AskIsolation: self._ask_isolation,
            messages.AskSpawn: self._ask_spawn,
            messages.Pin: self._pin,
            messages.TakeSnapshot: self._take_snapshot,
            messages.ListEvictions: self._list_evictions,
            messages.ListClients: self._list_clients,
            messages.Reset: self._reset,
            messages.StopServer: self._stop_server,
        }

    def answer(self, request: messages.Request, parcel: Parcel) -> Answered:
        """Do what is asked; return the answer and the arrays that go with it.

        Raises:
            ClientGoneError: there is nobody left to answer.
            ModelmgrError: why it was not done, for the client.
            MalformedError: the arrays are not what the message says.
        """
        self.heard()
        return self._answers[type(request)](request, parcel)

    def heard(self) -> None:
        """Note that the client says something further here: so it read the answer before."""
        unconfirmed = self._unconfirmed
        if unconfirmed is not None:
            unconfirmed.confirmed = True
            self._unconfirmed = None

    @property
    def waits_for(self) -> str | None:
        """The model that a lease is waited for, None where nobody waits."""
        pending = self._pending
        return None if pending is None else pending.tag

    @property
    def calling(self) -> bool:
        """Whether a call of a model runs."""
        return self._calling is not None

    def client_gone(self) -> None:
        """End what the client waits for on this connection; called by another thread."""
        with self._lock:
            self._gone = True
            pending, calling = self._pending, self._calling
        if pending is not None:
            pending.cancel()
        if calling is not None:
            self._session.break_off(calling)

    def cancel_waiting(self) -> None:
        """End a wait for a lease, for the server stops; called by another thread."""
        with self._lock:
            pending = self._pending
        if pending is not None:
            pending.cancel()

    def close(self) -> None:
        """Take back a lease that was granted here and that the client never got to know of."""
        holding, self._unconfirmed = self._unconfirmed, None
        if holding is not None:
            self._session.take_back(holding)

    # Leases ----------------------------------------------------------------------------------

    def _acquire(self, request: messages.Acquire, _: Parcel) -> Answered:
        service = self._service
        spec = service.catalogue.find(request.tag, request.spec)
        pending = PendingRequest(self._driver, service.workers, spec)
        with self._lock:
            if self._gone:
                raise ClientGoneError
            self._pending = pending
        try:
            if service.stopping.is_set():
                raise ManagerClosedError(f"the server is stopping; {spec.tag!r} was not acquired")
            lease = pending.acquire(
                timeout_s=service.wait_timeout_s if request.default_timeout else request.timeout_s,
                priority=request.priority,
                worst_case_bytes=request.worst_case_bytes,
                alone=request.alone,
            )
        except AcquireTimeoutError as error:
            if not pending.cancelled:
                raise
            if self._gone:
                raise ClientGoneError from None
            raise ManagerClosedError(
                f"the server is stopping; {spec.tag!r} was not acquired"
            ) from error
        finally:
            with self._lock:
                self._pending = None
        holding = self._session.add(lease)
        if holding is None:
            raise ClientGoneError
        self._unconfirmed = holding
        return (
            messages.Granted(
                serial=lease.serial,
                copy=lease.copy,
                device=lease.device,
                hit=lease.hit,
                worker_pid=getattr(lease.instance, "pid", None),
            ),
            _NO_BUFFERS,
        )

    def _release(self, request: messages.Release, _: Parcel) -> Answered:
        exhausted = self._session.release(
            request.epoch, request.serial, exhausted=request.exhausted
        )
        return _EXHAUSTED if exhausted else _RELEASED

    # Calls of a leased model -----------------------------------------------------------------

    def _infer(self, request: messages.Infer, parcel: Parcel) -> Answered:
        segment = parcel.segment(request.inline, request.shared)
        views = parcel.views(request.inline, request.shared)
        try:
            payload.decode(request.tree, views)  # looks at no byte of an array
        except WorkerProtocolError as error:
            raise UsageError(f"the batch is none: {error}") from error
        with self._call(request.epoch, request.serial) as worker:
            tree, out = worker.infer_encoded(
                request.tree, segment or views, timeout_s=request.timeout_s
            )
        return messages.Outputs(tree=tree, **arrays_of(out)), out

    def _run_shape(self, request: messages.RunShape, _: Parcel) -> Answered:
        with self._call(request.epoch, request.serial) as worker:
            report = worker.run_shape(
                request.dims,
                phase=request.phase,
                warmups=request.warmups,
                repeats=request.repeats,
                seed=request.seed,
                timeout_s=request.timeout_s,
            )
        return messages.ShapeDone(report=report), _NO_BUFFERS

    def _read_memory(self, request: messages.ReadMemory, _: Parcel) -> Answered:
        holding = self._session.begin_call(request.epoch, request.serial)
        try:
            return messages.MemoryRead(report=holding.worker.memory()), _NO_BUFFERS
        finally:
            self._session.end_call(holding)

    def _ask_alive(self, request: messages.AskAlive, _: Parcel) -> Answered:
        holding = self._session.begin_call(request.epoch, request.serial)
        self._session.end_call(holding)
        return messages.Answer(holds=holding.worker.alive), _NO_BUFFERS

    @contextlib.contextmanager
    def _call(self, epoch: str, serial: int) -> Generator[Worker]:
        """Note that a call runs under a lease, for as long as the block lasts."""
        holding = self._session.begin_call(epoch, serial)
        try:
            with self._lock:
                if self._gone:
                    raise ClientGoneError
                self._calling = holding
            yield holding.worker
        except OutOfMemoryError as error:
            holding.out_of_memory = error
            raise
        except UsageError as error:
            if holding.worker.alive:
                raise
            # Its process died and was cleared away: the client did nothing wrong.
            raise WorkerDiedError(str(error), pid=holding.worker.pid) from error
        finally:
            with self._lock:
                self._calling = None
            self._session.end_call(holding)

    # Questions and orders --------------------------------------------------------------------

    def _list_copies(self, request: messages.ListCopies, _: Parcel) -> Answered:
        own = {holding.lease.copy: holding.lease.serial for holding in self._session.holdings()}
        found = tuple(
            messages.FoundCopy(copy=copy.copy, device=copy.device, serial=own.get(copy.copy))
            for copy in self._service.manager.snapshot().copies
            if copy.tag == request.tag and copy.state in _LOADED
        )
        return messages.Copies(copies=found), _NO_BUFFERS

    def _list_models(self, _: messages.ListModels, __: Parcel) -> Answered:
        return messages.Models(tags=self._service.catalogue.tags), _NO_BUFFERS

    def _ask_isolation(self, request: messages.AskIsolation, _: Parcel) -> Answered:
        holds = self._service.manager.try_enter_isolation_mode(request.tag, request.ticket_num)
        return messages.Answer(holds=holds), _NO_BUFFERS

    def _ask_spawn(self, request: messages.AskSpawn, _: Parcel) -> Answered:
        holds = self._service.manager.should_spawn_model(request.tag, request.ticket_num)
        return messages.Answer(holds=holds), _NO_BUFFERS

    def _pin(self, request: messages.Pin, _: Parcel) -> Answered:
        if request.pinned:
            self._service.manager.pin(request.tag)
        else:
            self._service.manager.unpin(request.tag)
        return _DONE

    def _take_snapshot(self, _: messages.TakeSnapshot, __: Parcel) -> Answered:
        return messages.Snapshot(snapshot=self._service.manager.snapshot()), _NO_BUFFERS

    def _list_evictions(self, request: messages.ListEvictions, _: Parcel) -> Answered:
        evictions = self._service.manager.evictions(request.last)
        return messages.Evictions(evictions=evictions), _NO_BUFFERS

    def _list_clients(self, _: messages.ListClients, __: Parcel) -> Answered:
        return messages.Clients(clients=self._service.clients()), _NO_BUFFERS

    def _reset(self, _: messages.Reset, __: Parcel) -> Answered:
        self._service.manager.force_reset()
        return _DONE

    def _stop_server(self, request: messages.StopServer, _: Parcel) -> Answered:
        self._service.stop(request.timeout_s)
        return _DONE
