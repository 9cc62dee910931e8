"""The manager of another process, with ``ModelManager``'s interface: ``connect`` returns one.

Models are named, or described by a ``ModelSpec``; nothing that can be executed goes to the server.
Connections are ``link``'s, leases ``remote_lease``'s.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from modelmgr.arguments import as_seconds, as_whole, check_positive, check_tag
from modelmgr.errors import (
    LeaseError,
    ManagerClosedError,
    OutOfMemoryError,
    ServiceLostError,
    UsageError,
)
from modelmgr.records.costs import Eviction
from modelmgr.runtime.service import messages
from modelmgr.runtime.service.dialling import DEFAULT_PATIENCE_S
from modelmgr.runtime.service.link import Link
from modelmgr.runtime.service.places import checked_path
from modelmgr.runtime.service.remote_lease import RemoteLease, RemoteModel
from modelmgr.runtime.snapshot import ManagerSnapshot
from modelmgr.units import MIB
from modelmgr.workload.model_spec import ModelSpec

_SERVERS_CHOICE = object()
Result = TypeVar("Result")


def connect(
    path: str | Path | None = None, *, patience_s: float = DEFAULT_PATIENCE_S
) -> RemoteManager:
    """Return the manager that the processes of this machine share.

    Args:
        path: the server's socket; None for the default, where ``modelmgr serve`` listens.
        patience_s: how long the server may show no sign of life, seconds; then whatever waits for
            it fails with ServiceLostError, be it this call, a wait for a lease or a model's call.

    Raises:
        ServiceLostError: no server listens there, or it is stopped.
        UsageError: the path cannot be one, or the server is another user's.
    """
    return RemoteManager(path, patience_s=patience_s)


class RemoteManager:
    """A server's manager, as a client sees it. Thread-safe; usable as a context manager.

    It is of the process that made it: a forked child calls ``connect`` itself. What this process
    holds is taken back by the server when the process ends, however it ends.

    Args:
        path: the server's socket, None for the default.
        patience_s: how long the server may show no sign of life, seconds.

    Raises:
        ServiceLostError: no server listens there, or it is stopped.
        UsageError: the path cannot be one, or the server is another user's.
    """

    def __init__(
        self, path: str | Path | None = None, *, patience_s: float = DEFAULT_PATIENCE_S
    ) -> None:
        self._path = checked_path(path)
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._link = Link(self._path, patience_s)

    @property
    def path(self) -> Path:
        """Where the server listens."""
        return self._path

    @property
    def epoch(self) -> str:
        """The life of the server that this manager is connected to."""
        return self._link.epoch

    @property
    def server_pid(self) -> int:
        """The server's process id."""
        return self._link.server_pid

    # Acquiring and releasing -----------------------------------------------------------------

    def lease(
        self,
        tag: str,
        loader: ModelSpec | None = None,
        *,
        timeout: float | object | None = _SERVERS_CHOICE,
        priority: int = 0,
        worst_case_mb: float | None = None,
    ) -> RemoteLease:
        """Return a lease of a copy of a model, loaded in the server's worker if need be.

        Args:
            tag: the model.
            loader: None for a model that the server's list has; else its description, which the
                server takes only where it was started with permission to.
            timeout: seconds to wait; by default as long as the server was told. None never ends.
            priority: lower is served first.
            worst_case_mb: what the model takes at most, should it be unknown, MB.

        Raises:
            AcquireTimeoutError: the wait ended first.
            DoesNotFitError: it can never fit; nothing was evicted.
            ManagerClosedError: the server is stopping, or this manager was shut down.
            ServiceLostError: the server is gone.
            UsageError: the server does not know the model, or does not take what was described.
            WorkerError: the load failed; the kinds are ``Worker.load``'s.
        """
        return self._acquire(_request(tag, loader, timeout, priority, worst_case_mb))

    def run(
        self,
        tag: str,
        loader: ModelSpec | None,
        function: Callable[[RemoteModel], Result],
        *,
        timeout: float | object | None = _SERVERS_CHOICE,
        priority: int = 0,
        worst_case_mb: float | None = None,
    ) -> Result:
        """Return ``function(model)``, called with a lease; out-of-memory is retried once.

        As ``ModelManager.run``: the copy that ran out of memory goes, its estimate rises, and the
        function is called once more with a copy that was loaded on a drained device.

        Raises:
            BaseException: as ``lease`` does; whatever the function raised, out-of-memory only
                when it ran out the second time as well.
        """
        request = _request(tag, loader, timeout, priority, worst_case_mb)
        lease = self._acquire(request)
        try:
            with lease as model:
                return function(model)
        except OutOfMemoryError:
            if not lease.exhausted:
                raise
        with self._acquire(msgspec.structs.replace(request, alone=True)) as model:
            return function(model)

    def _acquire(self, request: messages.Acquire) -> RemoteLease:
        link = self._link
        wait_s = None if request.default_timeout else request.timeout_s
        return link.wait_for_lease(
            request, lambda granted: RemoteLease(link, request.tag, granted), timeout_s=wait_s
        )

    def acquire_model(self, tag: str, loader_func: ModelSpec | None = None) -> RemoteModel:
        """Return a model to call; give it back with ``release_model``. See ``lease``."""
        return self.lease(tag, loader_func).instance

    def release_model(self, tag: str, instance: object) -> None:
        """Give a model back.

        Raises:
            LeaseError: it is not held here, or under another tag; nothing changed.
            ServiceLostError: the server is gone.
        """
        lease = instance.lease if isinstance(instance, RemoteModel) else None
        if lease is None:
            raise LeaseError(f"no lease of {tag!r} holds this instance: nothing was released")
        if lease.tag != tag:
            raise LeaseError(
                f"the instance is held as {lease.tag!r}, not as {tag!r}: nothing was released"
            )
        lease.release()

    # Questions -------------------------------------------------------------------------------

    def models(self) -> tuple[str, ...]:
        """Return the tags of the server's list."""
        return self._link.ask(messages.ListModels(), messages.Models).tags

    def all_models(self, tag: str) -> list[RemoteModel]:
        """Return the loaded copies of a model; those that this process holds can be called."""
        check_tag(tag)
        link = self._link
        found = link.ask(messages.ListCopies(tag=tag), messages.Copies).copies
        return [
            RemoteModel(
                link, tag=tag, copy=copy.copy, device=copy.device, pid=None, serial=copy.serial
            )
            for copy in found
        ]

    def try_enter_isolation_mode(self, tag: str, ticket_num: int | None) -> bool:
        """Say whether a model could be measured alone now; changes nothing."""
        request = messages.AskIsolation(tag=tag, ticket_num=_checked_question(tag, ticket_num))
        return self._link.ask(request, messages.Answer).holds

    def should_spawn_model(self, tag: str, ticket_num: int | None) -> bool:
        """Say whether one more copy of a model could be loaded now; changes nothing."""
        request = messages.AskSpawn(tag=tag, ticket_num=_checked_question(tag, ticket_num))
        return self._link.ask(request, messages.Answer).holds

    def evictions(self, last: int | None = None) -> tuple[Eviction, ...]:
        """Return the evictions so far, explained, oldest first (the last 100,000).

        Args:
            last: only so many, the newest; None for all.
        """
        last = None if last is None else as_whole("last", last, least=0)
        return self._link.ask(messages.ListEvictions(last=last), messages.Evictions).evictions

    def snapshot(self) -> ManagerSnapshot:
        """Return what is loaded, held, queued and reserved at this moment; immutable."""
        return self._link.ask(messages.TakeSnapshot(), messages.Snapshot).snapshot

    def clients(self) -> tuple[messages.ClientInfo, ...]:
        """Return who is connected, this process included, what each holds and waits for."""
        return self._link.ask(messages.ListClients(), messages.Clients).clients

    # Orders ----------------------------------------------------------------------------------

    def pin(self, tag: str) -> None:
        """Never evict copies of this model, loaded or yet to be."""
        check_tag(tag)
        self._link.ask(messages.Pin(tag=tag, pinned=True), messages.Done)

    def unpin(self, tag: str) -> None:
        """Allow evicting copies of this model again."""
        check_tag(tag)
        self._link.ask(messages.Pin(tag=tag, pinned=False), messages.Done)

    def force_reset(self) -> None:
        """Unload idle copies now and held ones when they are released; waiters go on."""
        self._link.ask(messages.Reset(), messages.Done)

    def reconnect(self) -> None:
        """Connect anew, after the server was restarted; what was held before is lost.

        Raises:
            ServiceLostError: no server listens there.
        """
        with self._lock:
            link = Link(self._path, self._patience_s)
            old, self._link = self._link, link
        old.close(superseded=True)

    def stop_server(self, timeout: float | None = 0.0) -> None:
        """End the server, for everybody.

        Args:
            timeout: how long it waits for holders before it takes their leases, seconds; None
                waits for ever. This call does not wait for it.
        """
        request = messages.StopServer(timeout_s=as_seconds("timeout", timeout))
        with contextlib.suppress(ServiceLostError):  # it was faster than its answer
            self._link.ask(request, messages.Done)

    def shutdown(self, timeout: float | None = None) -> None:
        """Close this process's connections; the server, and what others hold, go on.

        What this process still holds is taken back. ``timeout`` is accepted as ``ModelManager``
        has it: there is nothing to wait for. A second call does nothing.
        """
        as_seconds("timeout", timeout)
        self._link.close()

    def __enter__(self) -> Self:
        """Return the manager, or refuse where it was shut down."""
        if self._link.closed:
            raise ManagerClosedError("this connection was shut down; call modelmgr.connect() anew")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Shut down."""
        self.shutdown()


def _checked_question(tag: str, ticket_num: int | None) -> int | None:
    """Refuse what is no tag or no ticket; return the ticket's number."""
    check_tag(tag)
    return None if ticket_num is None else as_whole("ticket_num", ticket_num)


def _request(
    tag: str,
    loader: object,
    timeout: float | object | None,
    priority: int,
    worst_case_mb: float | None,
) -> messages.Acquire:
    check_tag(tag)
    if loader is not None and not isinstance(loader, ModelSpec):
        raise UsageError(
            f"{tag!r}: a shared manager takes no code, and {type(loader).__name__} is; leave the "
            "loader out for a model of the server's list, or pass a ModelSpec"
        )
    worst_case_bytes = None
    if worst_case_mb is not None:
        check_positive("worst_case_mb", worst_case_mb)
        worst_case_bytes = max(1, round(float(worst_case_mb) * MIB))
    default = timeout is _SERVERS_CHOICE
    return messages.Acquire(
        tag=tag,
        spec=loader,
        timeout_s=None if default else as_seconds("timeout", timeout),
        default_timeout=default,
        priority=as_whole("priority", priority),
        worst_case_bytes=worst_case_bytes,
    )
